"""The encoder of ShareFetch replies writes the same bytes as the schema's writer."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.doors.kafka.share_replies import ShareFetched, share_fetch_reply
from mainstem.kafka_protocol.message import Message
from mainstem.kafka_protocol.writer import write_reply
from mainstem.share_contract import AcquiredRun

OFFSETS = st.integers(0, 2**63 - 1)
fetched = st.builds(
    ShareFetched,
    st.integers(0, 2**31 - 1),
    st.integers(-1, 130),
    st.none() | st.text(max_size=200),
    st.integers(-1, 130),
    st.none() | st.text(max_size=200),
    st.lists(st.binary(max_size=130) | st.just(memoryview(b"y" * 9_000)), max_size=3),
    st.lists(st.builds(AcquiredRun, OFFSETS, OFFSETS, st.integers(1, 32_767)), max_size=3),
)


def message_of(part: ShareFetched) -> Message:
    return Message(
        partition_index=part.partition,
        error_code=part.error,
        error_message=part.message,
        acknowledge_error_code=part.acknowledge_error,
        acknowledge_error_message=part.acknowledge_message,
        current_leader=Message(leader_id=-1, leader_epoch=-1),
        records=b"".join(bytes(piece) for piece in part.pieces),
        acquired_records=[
            Message(first_offset=run.first, last_offset=run.last, delivery_count=run.deliveries)
            for run in part.acquired
        ],
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.dictionaries(st.uuids(), st.lists(fetched, max_size=3), max_size=2))
def test_replies_are_the_bytes_that_the_schema_says(lock_ms: int, topics: dict) -> None:  # type: ignore[type-arg]
    message = Message(
        throttle_time=0,
        error_code=0,
        error_message=None,
        acquisition_lock_timeout=lock_ms,
        responses=[
            Message(topic_id=topic_id, partitions=[message_of(part) for part in parts])
            for topic_id, parts in topics.items()
        ],
        node_endpoints=[],
    )
    written = b"".join(map(bytes, share_fetch_reply(lock_ms, topics)))
    for version in (1, 2):
        assert written == bytes(write_reply(78, version, message))

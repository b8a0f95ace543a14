"""The faster encoders write the same bytes as the schema's writer and kio."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.doors.kafka.fast_replies import (
    FetchResult,
    ProduceResult,
    TopicKey,
    fetch_reply,
    metadata_partitions,
    produce_reply,
)
from mainstem.kafka_protocol.message import Message
from mainstem.kafka_protocol.writer import write_reply
from tests.doors.kafka import oracle

I32 = st.integers(-1, 2**31 - 1)
I64 = st.integers(-1, 2**63 - 1)
CODE = st.integers(-1, 130)
NAMES = st.text(max_size=200)
IDS = st.uuids()

produced = st.builds(ProduceResult, I32, CODE, I64, st.just(-1), I64, st.none() | st.text(max_size=300))
fetched = st.builds(
    FetchResult, I32, CODE, I64, I64, I64,
    st.binary(max_size=40) | st.sampled_from((b"x" * 126, b"x" * 127, b"x" * 5000, memoryview(b"y" * 9_000))),
    st.booleans(), st.none() | st.tuples(st.integers(0, 9), st.integers(0, 99)),
)  # fmt: skip


def _name(topic: TopicKey) -> dict[str, TopicKey]:
    return {"topic_id": topic} if isinstance(topic, UUID) else {"topic": topic, "name": topic}


NO_EPOCH = {"epoch": -1, "end_offset": -1}


def _diverging_epoch(result: FetchResult) -> dict[str, int]:
    return NO_EPOCH if result.diverging is None else dict(zip(NO_EPOCH, result.diverging, strict=True))


@settings(max_examples=150, deadline=None)
@given(st.integers(3, 13), st.data())
def test_produce_replies_are_the_bytes_that_kio_writes(version: int, data: st.DataObject) -> None:
    keys: st.SearchStrategy[TopicKey] = IDS if version >= 13 else NAMES
    topics = data.draw(st.lists(st.tuples(keys, st.lists(produced, max_size=3)), max_size=3))
    message = Message(
        throttle_time=0,
        node_endpoints=[],
        responses=[
            Message(
                **_name(topic),
                partition_responses=[
                    Message(
                        index=result.partition,
                        error_code=result.error,
                        base_offset=result.base_offset,
                        log_append_time=-1,
                        log_start_offset=result.log_start_offset,
                        record_errors=[],
                        error_message=result.message,
                        current_leader=Message(leader_id=-1, leader_epoch=-1),
                    )
                    for result in partitions
                ],
            )
            for topic, partitions in topics
        ],
    )
    assert b"".join(produce_reply(version, topics)) == oracle.kio_bytes(0, version, "response", message)


@settings(max_examples=200, deadline=None)
@given(st.integers(4, 18), st.data())
def test_fetch_replies_are_the_bytes_that_kio_writes(version: int, data: st.DataObject) -> None:
    keys: st.SearchStrategy[TopicKey] = IDS if version >= 13 else NAMES
    topics = data.draw(st.lists(st.tuples(keys, st.lists(fetched, max_size=3)), max_size=3))
    message = Message(
        throttle_time=0,
        error_code=0,
        session_id=0,
        node_endpoints=[],
        responses=[
            Message(
                **_name(topic),
                partitions=[
                    Message(
                        partition_index=result.partition,
                        error_code=result.error,
                        high_watermark=result.high_watermark,
                        last_stable_offset=result.last_stable_offset,
                        log_start_offset=result.log_start_offset,
                        diverging_epoch=Message(**_diverging_epoch(result)),
                        current_leader=Message(leader_id=-1, leader_epoch=-1),
                        snapshot_id=Message(**NO_EPOCH),
                        aborted_transactions=[] if result.has_aborted_list else None,
                        preferred_read_replica=-1,
                        records=bytes(result.records),
                    )
                    for result in partitions
                ],
            )
            for topic, partitions in topics
        ],
    )
    assert b"".join(fetch_reply(version, topics)) == oracle.kio_bytes(1, version, "response", message)


@pytest.mark.parametrize("size", [4096, 4097])
def test_large_records_are_not_copied(size: int) -> None:
    records = memoryview(bytes(size))
    pieces = fetch_reply(12, [("t", [FetchResult(0, 0, records=records)])])
    assert any(piece is records for piece in pieces) == (size > 4096)


@pytest.mark.parametrize("version", range(14))
@pytest.mark.parametrize("epochs", [[], [5], [0, 7, 2**31 - 1], list(range(200))])
def test_metadata_partitions_are_the_bytes_that_kio_writes(version: int, epochs: list[int]) -> None:
    def reply(partitions: object) -> Message:
        topic = Message(
            error_code=0,
            name="t",
            topic_id=UUID(int=9),
            is_internal=False,
            topic_authorized_operations=0,
            partitions=partitions,
        )
        return Message(
            throttle_time=0,
            brokers=[],
            cluster_id=None,
            controller_id=1,
            topics=[topic],
            error_code=0,
            cluster_authorized_operations=0,
        )

    partitions = [
        Message(
            error_code=0,
            partition_index=index,
            leader_id=3,
            leader_epoch=epoch,
            replica_nodes=[3],
            isr_nodes=[3],
            offline_replicas=[],
        )
        for index, epoch in enumerate(epochs)
    ]
    ours = write_reply(3, version, reply(metadata_partitions(version, 3, epochs)))
    assert bytes(ours) == oracle.kio_bytes(3, version, "response", reply(partitions))

"""Connections: the order of replies, limits, and errors of requests and handlers."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainstem.coordinator.errors import UnknownMember
from mainstem.doors.kafka.connection import MAX_UNANSWERED
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.frame import POOLED_BYTES
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.handlers import discover
from mainstem.doors.kafka.rights import NoRights
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise
from tests.doors.kafka.kit import (
    DoorClient,
    MemoryNode,
    batch,
    decode_reply,
    fetch_request,
    produce_request,
    request_frame,
)

HEARTBEAT = Message(group_id="g", member_id="m")


class ScriptedHandler:
    """A handler whose replies the test sets."""

    def __init__(self, key: int = 12, pipelined: bool = False) -> None:
        self.requests: list[Request] = []
        self.replies: list[Promise[Message]] = []
        self.raises: Exception | None = None
        self.handler = Handler(
            key=key,
            versions=(0, 4),
            handle=self._handle,
            rights=NoRights("a test"),
            pipelined=pipelined,
        )

    def _handle(self, context: HandlerContext, request: Request) -> HandlerResult:
        if self.raises is not None:
            raise self.raises
        self.requests.append(request)
        reply: Promise[Message] = Promise()
        self.replies.append(reply)
        return reply


def scripted(pipelined: bool = False) -> tuple[DoorClient, ScriptedHandler]:
    script = ScriptedHandler(pipelined=pipelined)
    return DoorClient(handlers={**discover(), 12: script.handler}), script


def test_a_request_waits_for_the_one_before_unless_that_is_pipelined() -> None:
    client, script = scripted()
    client.send(12, 4, HEARTBEAT)
    client.feed(client.frame(12, 4, HEARTBEAT) + client.frame(12, 4, HEARTBEAT), run=True)
    assert len(script.replies) == 1
    assert client.transport.paused
    script.replies[0].resolve(Message(error_code=1))
    assert len(script.replies) == 2
    script.replies[1].resolve(Message(error_code=2))
    script.replies[2].resolve(Message(error_code=3))
    assert [answer.error_code for answer in client.replies()] == [1, 2, 3]
    assert not client.transport.paused


def test_pipelined_requests_are_answered_in_order() -> None:
    client, script = scripted(pipelined=True)
    client.feed(b"".join(client.frame(12, 4, HEARTBEAT) for _ in range(3)) + client.frame(18, 0, Message()))
    assert len(script.replies) == 3
    for index, code in ((2, 3), (1, 2)):
        script.replies[index].resolve(Message(error_code=code))
    assert client.replies() == []
    script.replies[0].resolve(Message(error_code=1))
    answers = client.replies()
    assert [answer.error_code for answer in answers] == [1, 2, 3, 0]
    assert answers[3].api_keys


def test_too_many_unanswered_requests_stop_the_reading() -> None:
    client, script = scripted(pipelined=True)
    frames = b"".join(client.frame(12, 4, HEARTBEAT) for _ in range(MAX_UNANSWERED + 5))
    client.feed(frames)
    assert len(script.replies) == MAX_UNANSWERED
    assert client.transport.paused
    for reply in list(script.replies):
        reply.resolve(Message())
    client.clock.run()
    assert len(script.replies) == MAX_UNANSWERED + 5
    assert not client.transport.paused


def test_a_client_that_does_not_read_gets_no_further_request_started() -> None:
    client = DoorClient()
    client.connection.sending_blocked()
    client.send(18, 0, Message())
    assert client.transport.paused
    assert client.replies() == []
    client.connection.sending_resumed()
    assert len(client.replies()) == 1
    assert not client.transport.paused
    assert client.dispatcher.context.slow_clients == 0


def test_other_connections_have_their_turn_after_64_kb() -> None:
    client = DoorClient()
    client.node.create("t")
    frame = client.frame(0, 9, produce_request("t", batch(b"x" * 30_000)))
    frames = frame + b"".join(
        client.frame(0, 9, produce_request("t", batch(b"x" * 30_000))) for _ in range(4)
    )
    assert len(frames) < POOLED_BYTES
    client.feed(frames, run=False)
    assert len(client.replies()) == 3
    assert client.transport.paused
    client.clock.run()
    assert len(client.replies()) == 2
    assert not client.transport.paused


@pytest.mark.parametrize("step", [1, 3, 17])
def test_requests_may_arrive_in_pieces(step: int) -> None:
    client = DoorClient()
    data = client.frame(18, 3, Message(client_software_name="a", client_software_version="1")) + client.frame(
        3, 12, Message(topics=None)
    )
    for position in range(0, len(data), step):
        client.feed(data[position : position + step])
    assert len(client.replies()) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00",
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        b"\0\0\0\x08" + b"\0\x12\0\0\0\0\0\1",
        b"\0\0\0\x0a" + b"\0\x12\0\0\0\0\0\1\0\x09",
        b"\0\0\0\x0a" + b"\0\x12\0\0\0\0\0\1\xff\xf0",
        b"\0\0\0\x0a" + b"\0\x63\0\0\0\0\0\1\0\0",
        b"\0\0\0\x0a" + b"\0\x03\0\x63\0\0\0\1\0\0",
        b"\0\0\0\x0a" + b"\0\x03\0\x0c\0\0\0\1\0\0",
        b"\0\0\0\x0e" + b"\0\x03\0\1\0\0\0\1\0\0" + b"\x7f\xff\xff\xff",
    ],
)
def test_an_invalid_request_closes_the_connection_with_one_warning(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client = DoorClient()
    with caplog.at_level(logging.WARNING, "mainstem.kafka"):
        client.feed(data)
    assert client.transport.closed
    assert client.transport.sent == b""
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING
    assert "198.51.100.1:5" in caplog.text


def test_warnings_about_clients_are_rate_limited(caplog: pytest.LogCaptureFixture) -> None:
    client = DoorClient()
    with caplog.at_level(logging.WARNING, "mainstem.kafka"):
        for _ in range(50):
            client.dispatcher.warn_rate_limited("not kafka", "HTTP spoken")
        client.clock.advance(11)
        client.dispatcher.warn_rate_limited("not kafka", "HTTP spoken")
    assert [record.message for record in caplog.records] == ["HTTP spoken", "HTTP spoken (49 more like it)"]


def test_a_refusal_becomes_the_error_code() -> None:
    client, script = scripted()
    script.raises = UnknownMember("who?")
    assert client.call(12, 4, HEARTBEAT).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    script.raises = None
    client.send(12, 4, HEARTBEAT)
    script.replies[0].fail(UnknownMember("who?"))
    assert client.replies()[0].error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_fault_of_a_handler_is_an_error_code_and_one_traceback(caplog: pytest.LogCaptureFixture) -> None:
    client, script = scripted()
    script.raises = ZeroDivisionError("oops")
    with caplog.at_level(logging.WARNING, "mainstem.kafka"):
        assert client.call(12, 4, HEARTBEAT).error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is not None
    assert not client.transport.closed


def test_a_reply_that_cannot_be_encoded_closes_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    client, script = scripted()
    client.send(12, 4, HEARTBEAT)
    script.replies[0].resolve(Message(error_code="text"))
    assert client.transport.closed
    assert "cannot be encoded" in caplog.text


@pytest.mark.parametrize("key", [0, 1, 2, 3, 23, 61])
def test_faults_of_keys_without_a_top_level_error_have_a_reply(
    key: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = DoorClient()
    client.node.create("t")
    monkeypatch.setattr(client.node.topics, "get", lambda name: 1 / 0)
    high = client.dispatcher.handlers[key].versions[1]
    request = {
        0: produce_request("t", batch(b"x")),
        1: fetch_request(("t", 0, 0)),
        2: Message(topics=[Message(name="t", partitions=[Message(partition_index=0, timestamp=-1)])]),
        3: Message(topics=[Message(name="t")]),
        23: Message(topics=[Message(topic="t", partitions=[Message(partition=0, leader_epoch=0)])]),
        61: Message(topics=[Message(name="t", partition_indexes=[0])]),
    }[key]
    answer = client.call(key, min(high, 12), request)
    assert "error_code=-1" in repr(answer)
    assert not client.transport.closed


def test_unknown_version_of_api_versions_is_answered_in_version_0() -> None:
    client = DoorClient()
    frame = b"\0\x12\0\x63\0\0\0\7\0\1a" + b"\xde\xad"
    client.feed(len(frame).to_bytes(4, "big") + frame)
    sent = memoryview(bytes(client.transport.sent))[4:]
    assert int.from_bytes(sent[:4], "big") == 7
    answer = decode_reply(18, 0, sent)
    assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION
    assert answer.api_keys == [Message(api_key=18, min_version=0, max_version=4)]


def test_a_lost_connection_cancels_its_waiting_requests() -> None:
    node = MemoryNode()
    topic = node.create("t")
    client = DoorClient(node)
    client.send(1, 12, fetch_request(("t", 0, 0), max_wait=60_000))
    partition = node.partition(topic, 0)
    assert len(partition.watchers) == 1
    client.connection.lost()
    assert partition.watchers == []
    client.clock.advance(100)
    assert client.transport.sent == b""


def test_draining_answers_commits_and_drops_requests_that_wait() -> None:
    node = MemoryNode()
    partition = node.partition(node.create("t"), 0)
    partition.auto = False
    producer, consumer, idle = DoorClient(node), DoorClient(node), DoorClient(node)
    producer.send(0, 9, produce_request("t", batch(b"x")))
    consumer.send(1, 12, fetch_request(("t", 0, 0), max_wait=60_000))
    for client in (producer, consumer, idle):
        client.connection.drain()
    assert (producer.transport.closed, consumer.transport.closed, idle.transport.closed) == (
        False,
        True,
        True,
    )
    partition.commit()
    assert len(producer.replies()) == 1
    assert producer.transport.closed


def test_no_bytes_are_accepted_after_the_close() -> None:
    client = DoorClient()
    client.feed(b"GET / HTTP/1.1\r\n" * 10)
    assert client.transport.closed
    client.connection.lost()


REQUESTS = [
    (0, produce_request("t", batch(b"a", b"b"))),
    (1, fetch_request(("t", 0, 0), max_wait=100)),
    (2, Message(topics=[Message(name="t", partitions=[Message(partition_index=0, timestamp=5)])])),
    (3, Message(topics=[Message(name="t"), Message(name="new")])),
    (18, Message(client_software_name="a", client_software_version="1")),
    (23, Message(topics=[Message(topic="t", partitions=[Message(partition=0, leader_epoch=0)])])),
    (35, Message(topics=[Message(topic="t", partitions=[0])])),
    (61, Message(topics=[Message(name="t", partition_indexes=[0])])),
]
PATCHES = st.sampled_from(
    (b"\xff", b"\0", b"\x80", b"\x7f\xff\xff\xff", b"\xff" * 8, b"\x80" + b"\0" * 7, b"\x01")
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(REQUESTS),
    st.integers(0, 18),
    st.lists(st.tuples(st.integers(0, 400), PATCHES), max_size=3),
)
def test_a_damaged_request_is_answered_or_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
    request_: tuple[int, Message],
    version: int,
    damage: list[tuple[int, bytes]],
) -> None:
    key, message = request_
    client = DoorClient()
    topic = client.node.create("t")
    client.node.partition(topic, 0).append(memoryview(batch(b"x")))
    low, high = client.dispatcher.handlers[key].versions
    frame = bytearray(request_frame(key, min(max(version, low), high), 1, message))
    for number, patch in damage:
        position = 8 + number % (len(frame) - 8)
        frame[position : position + len(patch)] = patch[: len(frame) - position]
    caplog.clear()
    client.feed(bytes(frame))
    client.clock.advance(1)
    assert client.transport.closed or client.transport.sent or not client.connection.is_idle or key == 0
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []

"""The handlers that use partitions (Produce, Fetch, ListOffsets, OffsetForLeaderEpoch), on partitions in
memory."""

from __future__ import annotations

import pytest

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.kafka_protocol.message import NO_UUID, Message
from mainstem.log.errors import BatchTooLarge, CorruptBatch, InvalidBatch, OutOfOrderSequence, StorageError
from mainstem.log.storage import record_batch as batches
from tests.doors.kafka.kit import (
    DoorClient,
    MemoryNode,
    MemoryPartition,
    batch,
    fetch_request,
    produce_request,
)


@pytest.fixture
def node() -> MemoryNode:
    node = MemoryNode()
    node.create("t", 3)
    return node


@pytest.fixture
def client(node: MemoryNode) -> DoorClient:
    return DoorClient(node)


def part(node: MemoryNode, index: int = 0, topic: str = "t") -> MemoryPartition:
    return node.partition(node.topics.by_name[topic], index)


def produced(answer: Message) -> Message:
    (topic,) = answer.responses
    (partition,) = topic.partition_responses
    assert isinstance(partition, Message)
    return partition


def fetched(answer: Message) -> list[Message]:
    return [partition for topic in answer.responses for partition in topic.partitions]


# --- Produce


@pytest.mark.parametrize("version", range(3, 14))
@pytest.mark.parametrize("acks", [1, -1])
def test_a_batch_is_appended_unchanged(client: DoorClient, node: MemoryNode, version: int, acks: int) -> None:
    topic = node.topics.by_name["t"].id if version >= 13 else "t"
    sent = batch(b"a", b"b")
    for expected in (0, 2):
        answer = produced(client.call(0, version, produce_request(topic, sent, index=1, acks=acks)))
        assert (answer.index, answer.error_code, answer.base_offset) == (1, 0, expected)
    assert part(node, 1).batches[0][2][16:] == bytes(sent)[16:]


def test_acks_all_is_answered_after_the_commit(client: DoorClient, node: MemoryNode) -> None:
    part(node).auto = False
    client.send(0, 9, produce_request("t", batch(b"a")))
    client.send(0, 9, produce_request("t", batch(b"b"), acks=1))
    assert client.replies() == []
    part(node).commit()
    assert [produced(answer).base_offset for answer in client.replies()] == [0, 1]


def test_acks_0_has_no_reply_and_an_error_closes(client: DoorClient, node: MemoryNode) -> None:
    client.feed(client.frame(0, 9, produce_request("t", batch(b"a"), acks=0)))
    assert client.transport.sent == b""
    assert part(node).log_end_offset == 1
    client.feed(client.frame(0, 9, produce_request("nowhere", batch(b"a"), acks=0)))
    assert client.transport.closed


@pytest.mark.parametrize("acks", [0, 1])
def test_every_produce_waits_while_the_disk_is_behind(
    client: DoorClient, node: MemoryNode, acks: int
) -> None:
    part(node).auto = False
    node.log.pending_bytes = 100 << 20
    client.send(0, 9, produce_request("t", batch(b"a"), acks=acks))
    assert client.transport.sent == b""
    part(node).commit()
    assert bool(client.transport.sent) == (acks == 1)
    assert client.connection.is_idle


def test_a_request_that_waits_for_the_commit_prompts_it_once(client: DoorClient, node: MemoryNode) -> None:
    part(node).auto = False
    for acks, prompted in ((1, 0), (0, 0), (-1, 1), (-1, 2)):
        client.send(0, 9, produce_request("t", batch(b"a"), acks=acks))
        assert node.log.prompted_commits == prompted
    part(node).commit()


def test_a_failed_commit_is_a_storage_error(client: DoorClient, node: MemoryNode) -> None:
    part(node).auto = False
    client.send(0, 9, produce_request("t", batch(b"a")))
    part(node).fail()
    assert produced(client.replies()[0]).error_code == ErrorCode.KAFKA_STORAGE_ERROR


def test_a_late_commit_times_out_once(client: DoorClient, node: MemoryNode) -> None:
    part(node).auto = False
    client.send(0, 9, produce_request("t", batch(b"a"), timeout=500))
    client.clock.advance(0.4)
    assert client.replies() == []
    client.clock.advance(0.2)
    assert produced(client.replies()[0]).error_code == ErrorCode.REQUEST_TIMED_OUT
    part(node).commit()
    assert client.replies() == []


def test_each_partition_has_its_own_error(client: DoorClient, node: MemoryNode) -> None:
    part(node, 1).refuse = BatchTooLarge("too large")
    part(node, 2).refuse = OutOfOrderSequence("gap")
    partitions = [Message(index=index, records=batch(b"x")) for index in (0, 1, 2, 3)]
    topics = [
        Message(name="t", partition_data=partitions),
        Message(name="none", partition_data=partitions[:1]),
    ]
    answer = client.call(0, 9, Message(acks=-1, timeout=1, topic_data=topics))
    codes = [[p.error_code for p in topic.partition_responses] for topic in answer.responses]
    assert codes == [
        [
            0,
            ErrorCode.MESSAGE_TOO_LARGE,
            ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ],
        [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION],
    ]
    assert answer.responses[0].partition_responses[1].error_message == "too large"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CorruptBatch("crc"), ErrorCode.CORRUPT_MESSAGE),
        (InvalidBatch("count"), ErrorCode.INVALID_RECORD),
        (StorageError("disk"), ErrorCode.KAFKA_STORAGE_ERROR),
        (ZeroDivisionError(), ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
def test_refusals_have_kafkas_codes(
    client: DoorClient, node: MemoryNode, error: Exception, code: ErrorCode
) -> None:
    part(node).refuse = error
    assert produced(client.call(0, 9, produce_request("t", batch(b"x")))).error_code == code


def test_an_invalid_batch_is_refused(client: DoorClient) -> None:
    for records in (None, b"", b"x" * 70):
        answer = produced(client.call(0, 9, produce_request("t", records)))
        assert answer.error_code in (ErrorCode.INVALID_RECORD, ErrorCode.CORRUPT_MESSAGE)
        assert answer.base_offset == -1


def test_unknown_ids_transactions_and_acks_are_refused(client: DoorClient) -> None:
    answer = client.call(0, 13, produce_request(NO_UUID, batch(b"x")))
    assert produced(answer).error_code == ErrorCode.UNKNOWN_TOPIC_ID
    answer = client.call(0, 9, produce_request("t", batch(b"x"), acks=2))
    assert produced(answer).error_code == ErrorCode.INVALID_REQUIRED_ACKS
    answer = client.call(0, 9, produce_request("t", batch(b"x"), transactional_id="tx"))
    assert produced(answer).error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED


def test_internal_topics_are_not_written_by_clients(client: DoorClient, node: MemoryNode) -> None:
    node.create("__consumer_offsets", internal=True)
    answer = client.call(0, 9, produce_request("__consumer_offsets", batch(b"x")))
    assert produced(answer).error_code == ErrorCode.INVALID_TOPIC_EXCEPTION


# --- Fetch


@pytest.mark.parametrize("version", range(4, 19))
def test_fetch_returns_whole_batches(client: DoorClient, node: MemoryNode, version: int) -> None:
    topic = node.topics.by_name["t"]
    part(node, 2).append(memoryview(batch(b"a", b"b")))
    part(node, 2).append(memoryview(batch(b"c")))
    for offset, first in ((0, 0), (1, 0), (2, 2)):
        requested = (topic.id if version >= 13 else "t", 2, offset)
        (answer,) = fetched(client.call(1, version, fetch_request(requested)))
        assert (answer.error_code, answer.high_watermark, answer.last_stable_offset) == (0, 3, 3)
        assert batches.read_header(answer.records).base_offset == first


def test_fetch_waits_for_an_event(client: DoorClient, node: MemoryNode) -> None:
    client.send(1, 12, fetch_request(("t", 0, 0), ("t", 1, 0), max_wait=500))
    client.clock.advance(0.3)
    assert client.replies() == []
    part(node, 1).append(memoryview(batch(b"a")))
    client.clock.run()
    answer = fetched(client.replies()[0])
    assert [len(p.records) > 0 for p in answer] == [False, True]
    assert part(node, 0).watchers == part(node, 1).watchers == []


def test_fetch_is_answered_after_max_wait(client: DoorClient, node: MemoryNode) -> None:
    client.send(1, 12, fetch_request(("t", 0, 0), max_wait=500))
    client.clock.advance(0.6)
    (answer,) = fetched(client.replies()[0])
    assert (answer.error_code, bytes(answer.records)) == (0, b"")
    assert part(node).watchers == []


def test_fetch_waits_for_min_bytes(client: DoorClient, node: MemoryNode) -> None:
    data = batch(b"x" * 100)
    client.send(1, 12, fetch_request(("t", 0, 0), max_wait=10_000, min_bytes=2 * len(data)))
    part(node).append(memoryview(bytearray(data)))
    client.clock.run()
    assert client.replies() == []
    part(node).append(memoryview(bytearray(data)))
    client.clock.run()
    assert len(fetched(client.replies()[0])[0].records) == 2 * len(data)


def test_uncommitted_batches_are_not_returned(client: DoorClient, node: MemoryNode) -> None:
    part(node).auto = False
    part(node).append(memoryview(batch(b"a")))
    for offset in (0, 1):
        (answer,) = fetched(client.call(1, 12, fetch_request(("t", 0, offset))))
        assert (answer.error_code, bytes(answer.records), answer.high_watermark) == (0, b"", 0)


def test_an_error_ends_the_wait(client: DoorClient) -> None:
    requested = fetch_request(("t", 0, 0), ("t", 0, 5), ("t", 9, 0), ("none", 0, 0), max_wait=10_000)
    codes = [answer.error_code for answer in fetched(client.call(1, 12, requested))]
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert codes == [0, ErrorCode.OFFSET_OUT_OF_RANGE, unknown, unknown]
    (answer,) = fetched(client.call(1, 13, fetch_request((NO_UUID, 0, 0))))
    assert answer.error_code == ErrorCode.UNKNOWN_TOPIC_ID


def test_fetch_serves_partitions_in_turn(client: DoorClient, node: MemoryNode) -> None:
    for index in range(3):
        part(node, index).append(memoryview(batch(b"x" * 1000)))
    served = set()
    for _ in range(30):
        requested = fetch_request(*[("t", index, 0) for index in range(3)], max_bytes=100)
        sizes = [len(answer.records) for answer in fetched(client.call(1, 12, requested))]
        assert sum(size > 0 for size in sizes) == 1
        served.add(next(index for index, size in enumerate(sizes) if size))
    assert served == {0, 1, 2}


def test_fetch_keeps_to_max_bytes_after_the_first_batch(client: DoorClient, node: MemoryNode) -> None:
    size = len(batch(b"x" * 1000))
    for index in range(3):
        for _ in range(4):
            part(node, index).append(memoryview(batch(b"x" * 1000)))
    requested = fetch_request(*[("t", index, 0) for index in range(3)], max_bytes=5 * size + 10)
    assert sum(len(answer.records) for answer in fetched(client.call(1, 12, requested))) == 5 * size


def test_a_full_reply_ends_the_reading(client: DoorClient, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = client.node.create("wide", 50)
    read = MemoryPartition.read
    reads = []

    def counted(partition: MemoryPartition, offset: int, max_bytes: int) -> object:
        reads.append(offset)
        return read(partition, offset, max_bytes)

    monkeypatch.setattr(MemoryPartition, "read", counted)
    for index in range(50):
        client.node.partition(topic, index).append(memoryview(batch(b"x" * 1000)))
    requested = fetch_request(*[("wide", index, 0) for index in range(50)], max_bytes=2500)
    assert sum(len(answer.records) > 0 for answer in fetched(client.call(1, 12, requested))) == 2
    assert len(reads) <= 3


def test_replies_shrink_while_clients_are_slow(client: DoorClient, node: MemoryNode) -> None:
    for _ in range(4):
        part(node).append(memoryview(batch(b"x" * 1000)))
    client.dispatcher.context.slow_clients = 1 << 30
    assert len(fetched(client.call(1, 12, fetch_request(("t", 0, 0))))[0].records) < 1100


def test_read_committed_lists_aborted_transactions(client: DoorClient, node: MemoryNode) -> None:
    part(node).append(memoryview(batch(b"x")))
    for level, expected in ((0, None), (1, [])):
        (answer,) = fetched(client.call(1, 12, fetch_request(("t", 0, 0), isolation_level=level)))
        assert answer.aborted_transactions == expected


def test_beside_an_error_the_list_of_aborted_transactions_is_empty_and_never_null(client: DoorClient) -> None:
    for level in (0, 1):
        requested = fetch_request(("t", 0, 99), isolation_level=level)
        (answer,) = fetched(client.call(1, 12, requested))
        assert (answer.error_code, answer.aborted_transactions) == (ErrorCode.OFFSET_OUT_OF_RANGE, [])


def test_a_fetch_waits_for_reads_from_the_disk(client: DoorClient, node: MemoryNode) -> None:
    for index in range(2):
        part(node, index).append(memoryview(batch(b"x")))
        part(node, index).cold = True
    client.send(1, 12, fetch_request(("t", 0, 0), ("t", 1, 0)))
    assert client.replies() == []
    for partition in (part(node, 0), part(node, 1)):
        for read in partition.reads:
            read()
    sizes = [len(answer.records) for answer in fetched(client.replies()[0])]
    assert sum(size > 0 for size in sizes) == 1


def test_leader_epochs_are_checked(client: DoorClient, node: MemoryNode) -> None:
    part(node).append(memoryview(batch(b"x")))
    part(node).epoch = 5
    codes = []
    for epoch in (-1, 4, 5, 6):
        partition = Message(partition=0, fetch_offset=0, partition_max_bytes=100, current_leader_epoch=epoch)
        requested = Message(max_wait=0, min_bytes=1, topics=[Message(topic="t", partitions=[partition])])
        codes.append(fetched(client.call(1, 12, requested))[0].error_code)
    assert codes == [0, ErrorCode.FENCED_LEADER_EPOCH, 0, ErrorCode.UNKNOWN_LEADER_EPOCH]


def test_a_diverging_log_is_reported(client: DoorClient, node: MemoryNode) -> None:
    part(node).append(memoryview(batch(b"x")))
    partition = Message(partition=0, fetch_offset=9, partition_max_bytes=100, last_fetched_epoch=0)
    requested = Message(max_wait=0, min_bytes=1, topics=[Message(topic="t", partitions=[partition])])
    (answer,) = fetched(client.call(1, 12, requested))
    assert answer.diverging_epoch == Message(epoch=0, end_offset=1)
    assert bytes(answer.records) == b""


@pytest.mark.parametrize("version", [7, 10, 12])
def test_a_fetch_that_names_all_its_partitions_is_served_whatever_its_session_id(
    client: DoorClient, node: MemoryNode, version: int
) -> None:
    part(node).append(memoryview(batch(b"a")))
    for session_id, epoch in [(0, 0), (0, -1), (7, 0), (7, -1), (-1, 0)]:
        request = fetch_request(("t", 0, 0), session_id=session_id, session_epoch=epoch)
        answer = client.call(1, version, request)
        assert (answer.session_id, answer.error_code) == (0, 0)
        assert len(bytes(fetched(answer)[0].records)) > 60


@pytest.mark.parametrize("epoch", [1, 2, 2**31 - 1, -2])
@pytest.mark.parametrize("session_id", [0, 7])
def test_a_fetch_that_continues_a_session_is_declined(
    client: DoorClient, session_id: int, epoch: int
) -> None:
    answer = client.call(1, 12, fetch_request(("t", 0, 0), session_id=session_id, session_epoch=epoch))
    assert answer.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_retention_while_a_fetch_waits_is_an_error(client: DoorClient, node: MemoryNode) -> None:
    partition = part(node)
    client.send(1, 12, fetch_request(("t", 0, 0), max_wait=60_000))
    partition.log_start_offset = partition.log_end_offset = partition.high_watermark = 7
    partition.commit()
    client.clock.run()
    assert fetched(client.replies()[0])[0].error_code == ErrorCode.OFFSET_OUT_OF_RANGE


@pytest.mark.parametrize("version", [12, 13])
def test_deletion_while_a_fetch_waits_is_an_error(client: DoorClient, node: MemoryNode, version: int) -> None:
    topic = node.topics.by_name["t"].id if version >= 13 else "t"
    client.send(1, version, fetch_request((topic, 0, 0), max_wait=60_000))
    part(node).deleted = True
    part(node).commit()
    client.clock.run()
    expected = ErrorCode.UNKNOWN_TOPIC_ID if version >= 13 else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert fetched(client.replies()[0])[0].error_code == expected


# --- ListOffsets and OffsetForLeaderEpoch


def offsets(client: DoorClient, version: int, timestamp: int, epoch: int = -1, topic: str = "t") -> Message:
    partition = Message(partition_index=0, timestamp=timestamp, current_leader_epoch=epoch)
    request = Message(replica_id=-1, topics=[Message(name=topic, partitions=[partition])])
    answer = client.call(2, version, request).topics[0].partitions[0]
    assert isinstance(answer, Message)
    return answer


def test_offsets_are_found_by_timestamp(client: DoorClient, node: MemoryNode) -> None:
    part(node).append(memoryview(batch(b"a", b"b", timestamp_ms=1000)))
    part(node).append(memoryview(batch(b"c", timestamp_ms=500)))
    for version in range(1, 12):
        assert offsets(client, version, -1).offset == 3
        assert offsets(client, version, -2).offset == 0
        match = offsets(client, version, 1001)
        assert (match.offset, match.timestamp, match.error_code) == (1, 1001, 0)
        assert offsets(client, version, 2000).offset == -1


@pytest.mark.parametrize(("time", "since", "offset"), [(-3, 7, 1), (-4, 8, 0), (-5, 9, -1), (-6, 11, -1)])
def test_special_timestamps_have_their_first_versions(
    client: DoorClient, node: MemoryNode, time: int, since: int, offset: int
) -> None:
    part(node).append(memoryview(batch(b"a", b"b")))
    for version in range(1, 12):
        answer = offsets(client, version, time)
        if version < since:
            assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION
        else:
            assert (answer.error_code, answer.offset) == (0, offset)


def test_unknown_topics_epochs_and_timestamps_are_refused(client: DoorClient) -> None:
    assert offsets(client, 5, -1, topic="none").error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert offsets(client, 5, -1, epoch=9).error_code == ErrorCode.UNKNOWN_LEADER_EPOCH
    assert offsets(client, 5, -99).error_code == ErrorCode.UNSUPPORTED_VERSION


def test_the_end_of_a_leader_epoch_is_found(client: DoorClient, node: MemoryNode) -> None:
    part(node).append(memoryview(batch(b"a", b"b")))
    part(node).epoch = 3
    for version in (2, 3, 4):
        ends = []
        for epoch in (2, 3, 9):
            requested = Message(partition=0, leader_epoch=epoch)
            answer = client.call(23, version, Message(topics=[Message(topic="t", partitions=[requested])]))
            end = answer.topics[0].partitions[0]
            ends.append((end.error_code, end.leader_epoch, end.end_offset))
        assert ends == [(0, -1, -1), (0, 3, 2), (0, 3, 2)]

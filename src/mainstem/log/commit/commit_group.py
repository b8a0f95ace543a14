"""The parts of a commit group: pending writes by partition, control records, the group in flight.

Owns: these three records and how their results are passed on. Refuses: to decide when a group is written
(`journal.py`).
"""

from __future__ import annotations

import logging

from mainstem.log.commit import journal_format
from mainstem.log.commit.contract import CommittedPartition, partition_key
from mainstem.log.commit.journal_files import JournalFile
from mainstem.log.commit.journal_format import BLOCK, JournalRecord
from mainstem.log.disk.contract import Buffer, File
from mainstem.log.errors import PartitionDeleted
from mainstem.promise import Promise

log = logging.getLogger(__name__)


class PendingWrites:
    """What one partition appended since its last writes were sent to the disk. Committed as a whole."""

    __slots__ = (
        "byte_count", "direct_sync_bytes", "dropped", "end_offset", "files", "partition", "payload_bytes",
        "pieces", "position", "record_count", "segment", "sync_directly", "topic_id",
    )  # fmt: skip

    def __init__(self, partition: CommittedPartition, direct_sync_bytes: int) -> None:
        self.partition = partition
        self.topic_id = partition.topic_id.bytes
        """The topic id, as a journal record has it."""
        self.direct_sync_bytes = direct_sync_bytes
        """If the batches have at least this many bytes, the segment is synced directly."""
        self.files: dict[int, File] = {}
        """Files written to, by base offset of the segment."""
        self.pieces: list[Buffer] = []
        """Journal records with their batches; empty if synced directly."""
        self.record_count = 0
        """Journal records in `pieces`."""
        self.payload_bytes = 0
        """Bytes of `pieces`."""
        self.byte_count = 0
        """Bytes of batches, in the journal or not."""
        self.sync_directly = False
        """True: the segments are synced, in place of a journal group with these records."""
        self.dropped = False
        """True: the partition was fenced or deleted meanwhile, so the result of the sync is ignored."""
        self.end_offset = 0
        self.segment = 0
        self.position = 0


class ControlRecord:
    """A journal record without batches: a new epoch or log start."""

    __slots__ = ("data", "partition", "promise")

    def __init__(self, partition: CommittedPartition, data: bytes) -> None:
        self.partition = partition
        self.data = data
        self.promise: Promise[None] = Promise()
        """Done when the record is durable."""


class CommitGroup:
    """The group in flight: all its records are in one write and one sync."""

    __slots__ = ("control_records", "journal_file", "number", "writes")

    def __init__(
        self,
        number: int,
        journal_file: JournalFile,
        writes: list[PendingWrites],
        control_records: list[ControlRecord],
    ) -> None:
        self.number = number
        self.journal_file = journal_file
        self.writes = writes
        self.control_records = control_records


def write_group(group: CommitGroup) -> None:
    """Write the group to its journal file, after the file's header if it is the first one. OSError."""
    journal_file = group.journal_file
    header = journal_file.header
    assert header is not None, "a group is written to a live file"
    assert not journal_file.failed, "nothing is written to a file whose sync failed (R5)"
    assert group.number >= header.base_group, "the base group is the file's first one"
    records: list[Buffer] = [record.data for record in group.control_records]
    for writes in group.writes:
        records += writes.pieces
    count = len(group.control_records) + sum(writes.record_count for writes in group.writes)
    seed = journal_format.crc_seed(header.salt)
    pieces = journal_format.encode_group(seed, header.seq, group.number, count, records)
    position = journal_file.position
    if position == BLOCK:
        pieces.insert(0, journal_format.encode_header(header))
        position = 0
    data = b"".join(pieces)
    assert not (position | len(data)) % BLOCK, "no write touches a block that is already acknowledged"
    journal_file.position = position + len(data)
    journal_file.file.pwrite(data, position)


def control_record(
    partition: CommittedPartition, kind: int, offset: int, segment: int, position: int
) -> ControlRecord:
    """Make an EPOCH or LOGSTART record of the partition: `offset` is where the epoch or the log begins, at
    `position` of `segment`."""
    topic_id, index = partition_key(partition)
    fields = (offset, offset, segment, position, 0, 0)
    record = JournalRecord(kind, topic_id.bytes, index, partition.epoch, *fields)
    return ControlRecord(partition, journal_format.encode_record(record))


def drop_control_records(records: list[ControlRecord], partition: CommittedPartition) -> list[ControlRecord]:
    """Return the records of other partitions. Those of `partition`, which is deleted, fail with
    PartitionDeleted."""
    for record in records:
        if record.partition is partition:
            record.promise.fail(PartitionDeleted("the topic was deleted"))
    return [record for record in records if record.partition is not partition]


def notify_committed(writes: PendingWrites) -> None:
    """Report to the partition that `writes` are durable, so that it moves its high watermark and resolves
    what waits for it. An error in a callback is logged, not raised."""
    try:
        writes.partition.on_committed(writes.end_offset, writes.segment, writes.position)
    except Exception:  # raised by a waiter; the other partitions of the group must still be notified
        log.exception(
            "the commit of partition %s-%d is durable, but a callback after it failed (a fault of mainstem)",
            *partition_key(writes.partition),
        )


def complete(promise: Promise[None], error: BaseException | None) -> None:
    """Resolve `promise`, or fail it with `error`. Does nothing if it already has a result."""
    if promise.done:
        return
    if error is None:
        promise.resolve(None)
    else:
        promise.fail(error)

"""What has gathered for the commit.

Owns: what one partition wrote since its last unit, records without bytes, and the group under way. Refuses:
to decide when anything is sent (`journal.py`, which alone calls this).
"""

from __future__ import annotations

import logging

from mainstem.log.commit import journal_format as form
from mainstem.log.commit.checkpointer import CheckpointedPartition, partition_key
from mainstem.log.commit.journal_files import JournalFile
from mainstem.log.commit.journal_format import JournalRecord
from mainstem.log.disk.contract import Buffer, File
from mainstem.log.errors import PartitionDeleted
from mainstem.promise import Promise

log = logging.getLogger(__name__)


class PendingWrites:
    """What one partition wrote and has not committed; after it is sent, one unit."""

    __slots__ = (
        "bytes_written", "dropped", "end_offset", "files", "partition", "payload_bytes", "pieces", "position",
        "record_count", "segment", "sync_directly",
    )  # fmt: skip

    def __init__(self, partition: CheckpointedPartition) -> None:
        self.partition = partition
        self.files: dict[int, File] = {}
        self.pieces: list[Buffer] = []
        self.record_count = 0
        self.payload_bytes = 0
        self.bytes_written = 0
        self.sync_directly = False
        self.dropped = False
        """The partition was fenced or deleted meanwhile: its outcome is nobody's."""
        self.end_offset = 0
        self.segment = 0
        self.position = 0


class ControlRecord:
    """A record without bytes: a new epoch or log start."""

    __slots__ = ("data", "later", "partition")

    def __init__(self, partition: CheckpointedPartition, data: bytes) -> None:
        self.partition = partition
        self.data = data
        self.later: Promise[None] = Promise()


class CommitGroup:
    """The group under way."""

    __slots__ = ("control_records", "journal_file", "number", "writes")

    def __init__(
        self, number: int, slot: JournalFile, gathered: list[PendingWrites], control: list[ControlRecord]
    ) -> None:
        self.number = number
        self.journal_file = slot
        self.writes = gathered
        self.control_records = control


def control_record(
    partition: CheckpointedPartition, kind: int, offset: int, segment: int, position: int
) -> ControlRecord:
    """The record of a new epoch or log start."""
    topic, index = partition_key(partition)
    where = (offset, offset, segment, position, 0, 0)
    return ControlRecord(
        partition, form.encode_record(JournalRecord(kind, topic.bytes, index, partition.epoch, *where))
    )


def drop_control_records(
    control: list[ControlRecord], partition: CheckpointedPartition
) -> list[ControlRecord]:
    """What is left when the partition is deleted: its own records fail."""
    for one in control:
        if one.partition is partition:
            one.later.fail(PartitionDeleted("the topic was deleted"))
    return [one for one in control if one.partition is not partition]


def notify_committed(one: PendingWrites) -> None:
    """Its bytes are durable."""
    try:
        one.partition.on_committed(one.end_offset, one.segment, one.position)
    except Exception:  # of a waiter: the other partitions of the group must still be told
        log.exception("after a commit of %s-%d", *partition_key(one.partition))


def complete(later: Promise[None], error: BaseException | None) -> None:
    """Pass a result on, unless it has one."""
    if later.done:
        return
    if error is None:
        later.resolve(None)
    else:
        later.fail(error)

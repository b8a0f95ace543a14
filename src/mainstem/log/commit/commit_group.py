"""What has gathered for the commit.

Owns: what one partition wrote since its last unit, records without bytes, and the group under way. Refuses:
to decide when anything is sent (`journal.py`, which alone calls this).
"""

from __future__ import annotations

import logging

from mainstem.log.commit import journal_format as form
from mainstem.log.commit.checkpointer import Rowed, key_of
from mainstem.log.commit.journal_files import Slot
from mainstem.log.commit.journal_format import Record
from mainstem.log.disk.contract import Buffer, File
from mainstem.log.errors import PartitionDeleted
from mainstem.promise import Later

log = logging.getLogger(__name__)


class Gathered:
    """What one partition wrote and has not committed; after it is sent, one unit."""

    __slots__ = (
        "bytes_written", "direct", "dropped", "end_offset", "files", "partition", "payload", "pieces",
        "position", "records", "segment",
    )  # fmt: skip

    def __init__(self, partition: Rowed) -> None:
        self.partition = partition
        self.files: dict[int, File] = {}
        self.pieces: list[Buffer] = []
        self.records = 0
        self.payload = 0
        self.bytes_written = 0
        self.direct = False
        self.dropped = False
        """The partition was fenced or deleted meanwhile: its outcome is nobody's."""
        self.end_offset = 0
        self.segment = 0
        self.position = 0


class Control:
    """A record without bytes: a new epoch or log start."""

    __slots__ = ("data", "later", "partition")

    def __init__(self, partition: Rowed, data: bytes) -> None:
        self.partition = partition
        self.data = data
        self.later: Later[None] = Later()


class Group:
    """The group under way."""

    __slots__ = ("control", "gathered", "number", "slot")

    def __init__(self, number: int, slot: Slot, gathered: list[Gathered], control: list[Control]) -> None:
        self.number = number
        self.slot = slot
        self.gathered = gathered
        self.control = control


def control_record(partition: Rowed, kind: int, offset: int, segment: int, position: int) -> Control:
    """The record of a new epoch or log start."""
    topic, index = key_of(partition)
    where = (offset, offset, segment, position, 0, 0)
    return Control(partition, form.encode_record(Record(kind, topic.bytes, index, partition.epoch, *where)))


def without(control: list[Control], partition: Rowed) -> list[Control]:
    """What is left when the partition is deleted: its own records fail."""
    for one in control:
        if one.partition is partition:
            one.later.fail(PartitionDeleted("the topic was deleted"))
    return [one for one in control if one.partition is not partition]


def tell(one: Gathered) -> None:
    """Its bytes are durable."""
    try:
        one.partition.committed_to(one.end_offset, one.segment, one.position)
    except Exception:  # of a waiter: the other partitions of the group must still be told
        log.exception("after a commit of %s-%d", *key_of(one.partition))


def settle(later: Later[None], error: BaseException | None) -> None:
    """Pass a result on, unless it has one."""
    if later.done:
        return
    if error is None:
        later.resolve(None)
    else:
        later.fail(error)

"""Rules of the journal (FORMAT.md: R5, R8, R10) that matter only in rare runs: one such run for each.

The random runs of test_log_model.py contain them too, among the failing segments.
"""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import pytest

from mainstem.log.storage import record_batch as batches
from tests.log.batches import batch
from tests.log.logs import SMALL, TOPIC, LogRig


@pytest.mark.parametrize("crash", ["power", "kill"])
def test_records_of_a_fenced_partition_in_a_valid_group_are_void(crash: Literal["power", "kill"]) -> None:
    """A segment fails while a group with newer bytes of that partition is in flight, and the group becomes
    durable: its bytes were never acknowledged, and other bytes replaced them."""
    faster_count = 0
    for seed in range(60):
        rig = LogRig(seed).start()
        rig.write(2)
        rig.disk.sync_fails, rig.disk.sync_fails_in = 1.0, "partitions/"
        rig.log.checkpoint()
        rig.clock.run()
        _, mine = rig.append(0, fill=b"old")
        _, others = rig.append(1)
        rig.settle()
        rig.disk.sync_fails = 0.0
        others.result()
        faster_count += mine.error is not None
        committed_count = 2 if mine.error is not None else 3
        rig.settle(3)
        assert rig.partition(0).fence_reason is None
        rig.append(0, fill=b"new", size=5000)
        rig.settle()
        rig.crash(crash).start()
        assert rig.report.fenced == [], (seed, rig.report.notes)
        assert rig.offsets(0) == list(range(committed_count + 1)), seed
        assert b"new" * 5000 in bytes(rig.partition(0).read_blocking(committed_count, 1 << 20).data), seed
    assert faster_count > 5, "the group was never faster than the segment: nothing was tested"


def fail_one_group(rig: LogRig, size: int = 100) -> None:
    """A group of partition 0 fails. Runs only until the partition accepts events again, because a checkpoint
    follows soon."""
    rig.disk.sync_fails, rig.disk.sync_fails_in = 1.0, "journal/"
    _, promise = rig.append(size=size)
    promise.then(lambda _: setattr(rig.disk, "sync_fails", 0.0))
    for _ in range(1000):
        rig.clock.advance(0.0001)
        if promise.done and not rig.partition()._awaits_epoch:
            break
    assert promise.error is not None


def test_a_failed_group_is_not_reported_as_damage_at_the_next_start() -> None:
    """Group numbers continue without a gap, so a gap always means that a group is missing."""
    for seed in range(20):
        rig = LogRig(seed).start()
        rig.write(1)
        fail_one_group(rig)
        rig.crash().start()
        assert not [note for note in rig.report.notes if "damaged" in note], seed


def test_a_failed_group_is_not_restored_over_what_replaced_it() -> None:
    """The device had stored the failed group, and the next append was written only to the segment."""
    for seed in range(20):
        rig = LogRig(seed).start()
        rig.write(1)
        fail_one_group(rig)
        done, promise = rig.append(fill=b"new", size=5000)
        while not promise.done:
            rig.clock.advance(0.0001)
        promise.result()
        rig.crash().start()
        assert rig.report.fenced == []
        assert rig.offsets() == [0, 1], seed
        assert b"new" * 5000 in bytes(rig.partition().read_blocking(done.base_offset, 1 << 20).data), seed


def test_failed_appends_do_not_reappear_once_their_epoch_has_ended() -> None:
    """The truncation of the segment was not synced, so a power cut may restore its bytes, but not the
    events."""
    for seed in range(60):
        rig = LogRig(seed).start()
        rig.write(1)
        fail_one_group(rig)
        rig.crash().start()
        assert rig.offsets() == [0], seed
        assert rig.partition().epoch == 2


def test_a_repair_also_writes_records_below_the_log_start() -> None:
    """A start reads producer windows from there, and would report damage."""
    for seed in range(20):
        rig = LogRig(seed).start()
        rig.write(3)
        rig.disk.sync_fails, rig.disk.sync_fails_in = 1.0, "partitions/"
        rig.log.checkpoint()
        rig.settle(0.5)
        assert rig.partition().fence_reason is not None
        rig.disk.sync_fails = 0.0
        rig.partition().delete_records(2)
        rig.settle(3)
        assert rig.partition().fence_reason is None
        rig.log.checkpoint()
        rig.settle(1)
        rig.crash().start()
        data = rig.disk.read_all(f"partitions/{TOPIC.hex}-0/{0:020d}.log")
        headers = [
            header
            for position, header in batches.iter_batches(data)
            if batches.crc_matches(data[position : position + header.total_bytes], header)
        ]
        assert [header.base_offset for header in headers] == [0, 1, 2], seed
        assert rig.offsets() == [2]


def test_a_retried_deletion_waits_for_the_journal_too() -> None:
    """Otherwise its tombstone is removed while records remain, and the next start finds an unknown topic."""
    rig = LogRig().start()
    rig.write(2)
    rig.disk.sync_fails = 1.0
    first = rig.log.delete_topic(TOPIC)
    rig.settle()
    assert first.error is not None
    rig.disk.sync_fails = 0.0
    again = rig.log.delete_topic(TOPIC)
    while not again.done:
        rig.clock.advance(0.01)
    again.result()
    rig.crash("kill").start(lambda _: "unknown")
    assert rig.report.quarantined == []
    assert rig.disk.list("quarantine") == []


def start_after_deletion(rig: LogRig, topic: UUID) -> None:
    """Delete the topic; the power fails as soon as its tombstone may be dropped."""
    deletion = rig.log.delete_topic(topic)
    while not deletion.done:
        rig.settle(0.0001)
    deletion.result()
    rig.crash().start(lambda id_: "unknown" if id_ == topic else "live")
    assert rig.report.quarantined == []
    assert rig.disk.list("quarantine") == []


def test_a_deleted_topic_stays_deleted_while_a_fenced_partition_needs_an_older_journal_file() -> None:
    """The file with its records is free, but between the oldest live file and the newest."""
    rig = LogRig().start()
    rig.write(2)
    rig.disk.sync_fails, rig.disk.sync_fails_in = 1.0, f"partitions/{TOPIC.hex}-0/"
    rig.log.checkpoint()
    rig.settle(30)
    assert rig.partition().fence_reason is not None
    deleted = UUID(int=78)
    rig.log.partition(deleted, 0).append(batch())
    rig.settle()
    start_after_deletion(rig, deleted)
    assert rig.offsets() == [0, 1]


def test_a_fenced_partition_that_is_deleted_during_a_checkpoint_stays_deleted() -> None:
    """That checkpoint may still name the journal file that the partition needed."""
    for seed in range(20):
        rig = LogRig(seed).start()
        deleted = UUID(int=78)
        rig.write(1)
        rig.log.partition(deleted, 0).append(batch())
        rig.settle()
        rig.disk.sync_fails, rig.disk.sync_fails_in = 1.0, f"partitions/{deleted.hex}-0/"
        rig.log.checkpoint()
        rig.settle()
        assert rig.log.partition(deleted, 0).fence_reason is not None
        rig.log._checkpointer.request(needed=True)
        rig.settle(0.0001)
        start_after_deletion(rig, deleted)


def test_records_since_the_checkpoint_of_a_topic_that_is_not_known_are_put_aside() -> None:
    """Only what was deleted is left out: these events may be all that is left of a topic."""
    rig = LogRig().start()
    rig.write(2)
    rig.log.checkpoint()
    rig.settle()
    rig.write(1)
    rig.disk.remove_folder(f"partitions/{TOPIC.hex}-0")
    rig.log.partition(UUID(int=78), 0).append(batch())
    rig.settle()
    rig.disk.remove_folder(f"partitions/{UUID(int=78).hex}-0")
    rig.crash("kill").start(lambda _: "unknown")
    assert sorted(rig.report.quarantined) == [(TOPIC, 0), (UUID(int=78), 0)]


def test_an_epoch_record_of_a_deleted_segment_does_not_block_a_start() -> None:
    rig = LogRig().start()
    rig.partition(0, SMALL)
    rig.write(1, size=3000)
    rig.log.checkpoint()
    rig.settle(1)
    rig.disk.sync_fails, rig.disk.sync_fails_in = 1.0, "partitions/"
    _, failed = rig.append(size=4200)
    rig.settle()
    assert failed.error is not None
    rig.disk.sync_fails = 0.0
    rig.settle(3)
    rig.write(1, size=3000)
    rig.disk.sync_fails = 1.0  # so that no checkpoint has the new epoch
    deleted = rig.partition().delete_records(1)
    rig.settle(0.5)
    assert deleted.result() == 1
    assert rig.disk.list(f"partitions/{TOPIC.hex}-0")[0].startswith(f"{1:020d}")
    rig.crash("kill").start()
    assert rig.report.fenced == []
    assert rig.offsets() == [1]

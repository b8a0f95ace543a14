"""Rules of the journal (FORMAT.md: R5, R8, R10) that only rare lives need: each is shown here by such a life.

The random lives of test_log_model.py have them too, among the failing segments.
"""

from __future__ import annotations

from typing import Literal

import pytest

from mainstem.log.storage import record_batch as batches
from tests.log.logs import SMALL, TOPIC, LogRig


@pytest.mark.parametrize("crash", ["power", "kill"])
def test_records_of_a_fenced_partition_in_a_valid_group_are_void(crash: Literal["power", "kill"]) -> None:
    """A segment fails while a group with newer bytes of that partition is under way, and the group becomes
    durable: its bytes were never acknowledged, and others took their place."""
    met = 0
    for seed in range(60):
        machine = LogRig(seed).start()
        machine.write(2)
        machine.disk.sync_fails, machine.disk.sync_fails_in = 1.0, "partitions/"
        machine.log.checkpoint()
        machine.clock.run()
        _, mine = machine.append(0, fill=b"old")
        _, others = machine.append(1)
        machine.settle()
        machine.disk.sync_fails = 0.0
        others.result()
        met += mine.error is not None
        kept = 2 if mine.error is not None else 3
        machine.settle(3)
        assert machine.partition(0).fence_reason is None
        machine.append(0, fill=b"new", size=5000)
        machine.settle()
        machine.crash(crash).start()
        assert machine.report.fenced == [], (seed, machine.report.notes)
        assert machine.offsets(0) == list(range(kept + 1)), seed
        assert b"new" * 5000 in bytes(machine.partition(0).read_blocking(kept, 1 << 20).data), seed
    assert met > 5, "the group was never the faster one: nothing was tested"


def fail_one_group(machine: LogRig, size: int = 100) -> None:
    """A group of partition 0 fails; goes on until the partition takes events again, and not a step more: a
    checkpoint follows soon."""
    machine.disk.sync_fails, machine.disk.sync_fails_in = 1.0, "journal/"
    _, later = machine.append(size=size)
    later.then(lambda _: setattr(machine.disk, "sync_fails", 0.0))
    for _ in range(1000):
        machine.clock.advance(0.0001)
        if later.done and not machine.partition()._awaits_epoch:
            break
    assert later.error is not None


def test_a_failed_group_is_not_reported_as_damage_at_the_next_start() -> None:
    """Group numbers go on without a gap, so that a gap always means that something is missing."""
    for seed in range(20):
        machine = LogRig(seed).start()
        machine.write(1)
        fail_one_group(machine)
        machine.crash().start()
        assert not [note for note in machine.report.notes if "damaged" in note], seed


def test_a_failed_group_is_not_restored_over_what_replaced_it() -> None:
    """The device had it all the same, and what came next went to the segment alone."""
    for seed in range(20):
        machine = LogRig(seed).start()
        machine.write(1)
        fail_one_group(machine)
        done, later = machine.append(fill=b"new", size=5000)
        while not later.done:
            machine.clock.advance(0.0001)
        later.result()
        machine.crash().start()
        assert machine.report.fenced == []
        assert machine.offsets() == [0, 1], seed
        assert b"new" * 5000 in bytes(machine.partition().read_blocking(done.base_offset, 1 << 20).data), seed


def test_failed_appends_do_not_reappear_once_their_epoch_has_ended() -> None:
    """The cut of the segment was not synced, so that a power cut may bring the bytes back, but not the
    events."""
    for seed in range(60):
        machine = LogRig(seed).start()
        machine.write(1)
        fail_one_group(machine)
        machine.crash().start()
        assert machine.offsets() == [0], seed
        assert machine.partition().epoch == 2


def test_a_repair_also_writes_records_below_the_log_start() -> None:
    """Windows are read from there after a start, and what is damaged there would be told."""
    for seed in range(20):
        machine = LogRig(seed).start()
        machine.write(3)
        machine.disk.sync_fails, machine.disk.sync_fails_in = 1.0, "partitions/"
        machine.log.checkpoint()
        machine.settle(0.5)
        assert machine.partition().fence_reason is not None
        machine.disk.sync_fails = 0.0
        machine.partition().delete_records(2)
        machine.settle(3)
        assert machine.partition().fence_reason is None
        machine.log.checkpoint()
        machine.settle(1)
        machine.crash().start()
        data = machine.disk.read_all(f"partitions/{TOPIC.hex}-0/{0:020d}.log")
        found = [
            header
            for at, header in batches.iter_batches(data)
            if batches.crc_matches(data[at : at + header.total_bytes], header)
        ]
        assert [header.base_offset for header in found] == [0, 1, 2], seed
        assert machine.offsets() == [2]


def test_a_retried_deletion_waits_for_the_journal_too() -> None:
    """Else its tombstone goes while records are left, and the next start finds a topic that nobody knows."""
    machine = LogRig().start()
    machine.write(2)
    machine.disk.sync_fails = 1.0
    first = machine.log.delete_topic(TOPIC)
    machine.settle()
    assert first.error is not None
    machine.disk.sync_fails = 0.0
    again = machine.log.delete_topic(TOPIC)
    while not again.done:
        machine.clock.advance(0.01)
    again.result()
    machine.crash("kill").start(lambda _: "unknown")
    assert machine.report.quarantined == []
    assert machine.disk.list("quarantine") == []


def test_an_epoch_record_of_a_deleted_segment_does_not_block_a_start() -> None:
    machine = LogRig().start()
    machine.partition(0, SMALL)
    machine.write(1, size=3000)
    machine.log.checkpoint()
    machine.settle(1)
    machine.disk.sync_fails, machine.disk.sync_fails_in = 1.0, "partitions/"
    _, failed = machine.append(size=4200)
    machine.settle()
    assert failed.error is not None
    machine.disk.sync_fails = 0.0
    machine.settle(3)
    machine.write(1, size=3000)
    machine.disk.sync_fails = 1.0  # so that no checkpoint has the new epoch
    deleted = machine.partition().delete_records(1)
    machine.settle(0.5)
    assert deleted.result() == 1
    assert machine.disk.list(f"partitions/{TOPIC.hex}-0")[0].startswith(f"{1:020d}")
    machine.crash("kill").start()
    assert machine.report.fenced == []
    assert machine.offsets() == [1]

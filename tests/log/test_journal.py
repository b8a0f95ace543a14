"""The commit: when the watermark moves, and what a failing disk does to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mainstem.log.commit import checkpoint as files
from mainstem.log.commit import checkpointer
from mainstem.log.commit.journal import SINGLE_WRITER_GROUPS
from mainstem.log.errors import PartitionDeleted, StorageError
from mainstem.promise import Promise
from tests.log.batches import batch
from tests.log.logs import CONFIG, SMALL, TOPIC, LogRig, Status
from tests.support.simdisk import SimFile


def syncs(machine: LogRig) -> int:
    return machine.disk.trace.count("sync file")


def fail_next_sync(machine: LogRig, times: int = 1) -> None:
    """The next syncs of a file lose what they were to keep."""
    disk, left = machine.disk, [times]
    real = disk._sync_file

    def sync(file: SimFile, number: int) -> None:
        if left[0]:
            left[0] -= 1
            disk.sync_fails = 1.0
        try:
            real(file, number)
        finally:
            disk.sync_fails = 0.0

    disk._sync_file = sync  # type: ignore[method-assign, assignment]


def test_one_sync_commits_many_partitions() -> None:
    machine = LogRig().start()
    before = syncs(machine)
    laters = [machine.append(index, size=10)[1] for index in range(100)]
    assert not any(later.done for later in laters)
    machine.settle()
    assert [later.result() for later in laters] == [None] * 100
    assert syncs(machine) == before + 1


def test_the_commit_of_a_single_producer_begins_with_its_request() -> None:
    machine = LogRig().start()
    machine.write(SINGLE_WRITER_GROUPS)
    _, later = machine.append()
    before = machine.disk.trace.count("pwrite")
    machine.log.commit_now_if_idle()
    assert machine.disk.trace.count("pwrite") == before + 1, "the journal is written already"
    machine.append(1)
    before += 1
    machine.log.commit_now_if_idle()
    assert machine.disk.trace.count("pwrite") == before + 1, "one group is under way at a time"
    machine.settle()
    assert later.result() is None
    _, later = machine.append()
    before = machine.disk.trace.count("pwrite")
    machine.log.commit_now_if_idle()
    assert machine.disk.trace.count("pwrite") == before, "others have been here: they may join"
    machine.settle()
    assert later.result() is None


def test_nothing_is_visible_before_it_is_durable() -> None:
    machine = LogRig().start()
    done, later = machine.append()
    partition = machine.partition()
    assert (done.base_offset, partition.log_end_offset, partition.high_watermark) == (0, 1, 0)
    machine.clock.run()
    assert partition.high_watermark == 0
    machine.settle()
    assert later.done
    assert partition.high_watermark == 1


def test_journaled_batches_survive_a_power_cut_that_loses_their_segment() -> None:
    for seed in range(20):
        machine = LogRig(seed).start()
        machine.write(3)
        machine.append(1)  # never committed
        machine.crash().start()
        assert machine.offsets() == [0, 1, 2]
        assert machine.partition().epoch == 1


def test_a_large_append_skips_the_journal_and_survives_too() -> None:
    for seed in range(20):
        machine = LogRig(seed).start()
        machine.write(1, size=100)
        machine.write(2, size=5000)
        machine.write(1, size=100)
        image = machine.disk.inode("journal/00000000000000000000.jnl").seen
        assert len(bytes(image).rstrip(b"\0")) < 4096 * 4
        machine.crash().start()
        assert machine.offsets() == [0, 1, 2, 3]


def test_a_partition_is_either_in_the_journal_or_in_a_direct_sync() -> None:
    machine = LogRig().start()
    machine.disk.slow_s = 0.0
    order: list[int] = []
    for size in (100, 5000, 100, 5000, 100):
        done, later = machine.append(size=size)
        later.then(lambda _, offset=done.base_offset: order.append(offset))  # type: ignore[misc]
        machine.clock.run()
    machine.settle()
    assert order == [0, 1, 2, 3, 4]


def test_a_failed_sync_rolls_back_pending_appends_and_begins_a_new_epoch() -> None:
    machine = LogRig().start()
    machine.write(2)
    fail_next_sync(machine)
    failed = [machine.append(index)[1] for index in (0, 1)]
    machine.settle()
    for later in failed:
        with pytest.raises(StorageError):
            later.result()
    assert machine.log.read_only is None
    assert machine.partition().log_end_offset == 2
    assert (machine.partition(0).epoch, machine.partition(1).epoch) == (1, 1)
    machine.write(2)
    machine.write(1, 1)
    machine.crash().start()
    assert machine.offsets() == [0, 1, 2, 3]
    assert machine.offsets(1) == [0]
    assert machine.partition().epoch_end(0) == (0, 2)


def test_a_journal_file_whose_sync_failed_is_never_reused_and_is_deleted() -> None:
    machine = LogRig().start()
    machine.write(1)
    fail_next_sync(machine)
    machine.append()
    machine.settle()
    used = "journal/00000000000000000000.jnl"
    before = bytes(machine.disk.inode(used).seen) if machine.disk.exists(used) else b""
    machine.write(5)
    assert not machine.disk.exists(used) or bytes(machine.disk.inode(used).seen) == before
    machine.log.checkpoint()
    machine.settle(2)
    assert not machine.disk.exists(used)
    assert len(machine.disk.list("journal")) == CONFIG.journal_files


def test_two_failed_syncs_in_a_row_make_the_log_read_only_until_a_restart() -> None:
    machine = LogRig().start()
    machine.write(2)
    fail_next_sync(machine, times=2)
    machine.append()
    machine.settle()
    assert machine.log.read_only is not None
    with pytest.raises(StorageError, match="twice in a row"):
        machine.append()
    with pytest.raises(StorageError):
        machine.append(7)
    assert machine.offsets() == [0, 1]
    machine.stop().start()
    machine.write(1)
    assert machine.offsets() == [0, 1, 2] or machine.offsets() == [0, 1, 2, 3]


def test_a_failed_segment_sync_fences_only_its_partition_and_is_repaired() -> None:
    machine = LogRig().start()
    machine.write(3)
    machine.write(1, 1)
    fail_next_sync(machine)
    machine.log.checkpoint()
    machine.settle(0.5)
    assert machine.partition(0).fence_reason is not None
    with pytest.raises(StorageError):
        machine.append(0)
    assert machine.offsets(0) == [0, 1, 2]
    machine.write(1, 1)
    machine.settle(3)
    assert machine.partition(0).fence_reason is None
    machine.write(1)
    machine.log.checkpoint()
    machine.settle(1)
    machine.crash().start()
    assert machine.offsets(0) == [0, 1, 2, 3]


def test_a_fenced_partitions_records_outlive_the_checkpoint() -> None:
    for seed in range(10):
        machine = LogRig(seed).start()
        machine.write(3)
        fail_next_sync(machine)
        machine.log.checkpoint()
        machine.settle(0.5)
        for _ in range(2):
            machine.write(1, 1)
            machine.log.checkpoint()
            machine.settle(0.01)
        machine.crash().start()
        assert machine.report.fenced == []
        assert machine.offsets(0) == [0, 1, 2]


def test_a_failed_direct_sync_fails_its_appends() -> None:
    machine = LogRig().start()
    machine.write(1)
    fail_next_sync(machine)
    _, later = machine.append(size=5000)
    machine.settle()
    with pytest.raises(StorageError):
        later.result()
    machine.settle(3)
    assert machine.partition().fence_reason is None
    machine.write(1, size=5000)
    machine.crash().start()
    assert machine.offsets() == [0, 1]


def test_without_a_free_journal_file_commits_wait_for_the_checkpoint() -> None:
    machine = LogRig().start()
    laters = []
    for _ in range(40):
        laters += [machine.append(index, size=3000)[1] for index in range(10)]
        machine.clock.run()
    machine.settle(5)
    assert all(later.result() is None for later in laters)
    assert len(machine.disk.list("journal")) == CONFIG.journal_files
    machine.crash().start()
    assert len(machine.offsets(9)) == 40


def test_many_rolls_make_a_checkpoint_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointer, "ROLLS_PER_CHECKPOINT_MAX", 5)
    large = replace(CONFIG, journal_file_bytes=1 << 20, first_journal_file_bytes=1 << 20)
    machine = LogRig(config=large).start()
    partition = machine.partition(config=SMALL)
    found = files.load(machine.disk)
    while len(partition.segments) < 5:
        machine.write(size=1000)
    assert files.load(machine.disk) == found
    while len(partition.segments) < 7:
        machine.write(size=1000)
    assert files.load(machine.disk) != found


def test_a_checkpoint_that_cannot_be_written_is_retried() -> None:
    machine = LogRig().start()
    machine.write(2)
    real = machine.disk.rename
    machine.disk.rename = lambda *_: _raise(OSError(28, "full"))  # type: ignore[method-assign]
    asked = machine.log.checkpoint()
    machine.settle(3)
    assert isinstance(asked.error, OSError)
    machine.disk.rename = real  # type: ignore[method-assign]
    machine.settle(3)
    machine.write(1)
    machine.crash().start()
    assert machine.offsets() == [0, 1, 2]


def _raise(error: OSError) -> None:
    raise error


def test_a_new_log_start_is_durable_before_files_are_unlinked() -> None:
    for seed in range(10):
        machine = LogRig(seed).start()
        machine.partition(0, SMALL)
        machine.write(12, size=1000)
        moved: Promise[int] = machine.partition().delete_records(9)
        machine.settle(1)
        assert moved.result() == 9
        machine.crash().start()
        assert machine.partition().log_start_offset == 9
        assert machine.offsets()[-1] == 11


def test_a_deleted_topic_stays_deleted_after_a_crash_at_any_time() -> None:
    for seed in range(30):
        machine = LogRig(seed).start()
        machine.partition(0, SMALL)
        machine.write(8, size=1000)
        machine.append()
        waiting = machine.partition()
        done = machine.log.delete_topic(TOPIC)
        with pytest.raises(PartitionDeleted):
            waiting.append(batch())
        machine.settle(machine.rng.choice((0.0001, 0.001, 0.003, 5)))
        status: Status = "unknown" if done.done else "deleted"
        machine.crash().start(lambda _, status=status: status)  # type: ignore[misc]
        assert machine.disk.list("partitions") == []
        assert machine.report.quarantined == []


def test_a_partition_recreated_under_its_id_is_a_new_one() -> None:
    machine = LogRig().start()
    machine.write(3)
    done = machine.log.delete_topic(TOPIC)
    machine.settle(5)
    assert done.done
    machine.write(1)
    assert machine.offsets() == [0]


def test_pending_bytes_count_appends_that_are_not_durable() -> None:
    machine = LogRig().start()
    machine.append(size=1000)
    machine.append(1, size=9000)
    assert machine.log.pending_bytes > 10_000
    machine.settle()
    assert machine.log.pending_bytes == 0

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


def syncs(rig: LogRig) -> int:
    return rig.disk.trace.count("sync file")


def fail_next_sync(rig: LogRig, times: int = 1) -> None:
    """The next syncs of a file fail, and lose its unsynced bytes."""
    disk, left = rig.disk, [times]
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
    rig = LogRig().start()
    before = syncs(rig)
    promises = [rig.append(index, size=10)[1] for index in range(100)]
    assert not any(promise.done for promise in promises)
    rig.settle()
    assert [promise.result() for promise in promises] == [None] * 100
    assert syncs(rig) == before + 1


def test_the_commit_of_a_single_producer_begins_with_its_request() -> None:
    rig = LogRig().start()
    rig.write(SINGLE_WRITER_GROUPS)
    _, promise = rig.append()
    before = rig.disk.trace.count("pwrite")
    rig.log.commit_now_if_idle()
    assert rig.disk.trace.count("pwrite") == before + 1, "the journal is written already"
    rig.append(1)
    before += 1
    rig.log.commit_now_if_idle()
    assert rig.disk.trace.count("pwrite") == before + 1, "one group is in flight at a time"
    rig.settle()
    assert promise.result() is None
    _, promise = rig.append()
    before = rig.disk.trace.count("pwrite")
    rig.log.commit_now_if_idle()
    assert rig.disk.trace.count("pwrite") == before, (
        "another partition appended before: its next append may join"
    )
    rig.settle()
    assert promise.result() is None


def test_nothing_is_visible_before_it_is_durable() -> None:
    rig = LogRig().start()
    done, promise = rig.append()
    partition = rig.partition()
    assert (done.base_offset, partition.log_end_offset, partition.high_watermark) == (0, 1, 0)
    rig.clock.run()
    assert partition.high_watermark == 0
    rig.settle()
    assert promise.done
    assert partition.high_watermark == 1


def test_journaled_batches_survive_a_power_cut_that_loses_their_segment() -> None:
    for seed in range(20):
        rig = LogRig(seed).start()
        rig.write(3)
        rig.append(1)  # never committed
        rig.crash().start()
        assert rig.offsets() == [0, 1, 2]
        assert rig.partition().epoch == 1


def test_a_large_append_skips_the_journal_and_survives_too() -> None:
    for seed in range(20):
        rig = LogRig(seed).start()
        rig.write(1, size=100)
        rig.write(2, size=5000)
        rig.write(1, size=100)
        contents = rig.disk.inode("journal/00000000000000000000.jnl").seen
        assert len(bytes(contents).rstrip(b"\0")) < 4096 * 4
        rig.crash().start()
        assert rig.offsets() == [0, 1, 2, 3]


def test_a_partition_is_either_in_the_journal_or_in_a_direct_sync() -> None:
    rig = LogRig().start()
    rig.disk.slow_s = 0.0
    order: list[int] = []
    for size in (100, 5000, 100, 5000, 100):
        done, promise = rig.append(size=size)
        promise.then(lambda _, offset=done.base_offset: order.append(offset))  # type: ignore[misc]
        rig.clock.run()
    rig.settle()
    assert order == [0, 1, 2, 3, 4]


def test_a_failed_sync_rolls_back_pending_appends_and_begins_a_new_epoch() -> None:
    rig = LogRig().start()
    rig.write(2)
    fail_next_sync(rig)
    failed = [rig.append(index)[1] for index in (0, 1)]
    rig.settle()
    for promise in failed:
        with pytest.raises(StorageError):
            promise.result()
    assert rig.log.read_only is None
    assert rig.partition().log_end_offset == 2
    assert (rig.partition(0).epoch, rig.partition(1).epoch) == (1, 1)
    rig.write(2)
    rig.write(1, 1)
    rig.crash().start()
    assert rig.offsets() == [0, 1, 2, 3]
    assert rig.offsets(1) == [0]
    assert rig.partition().epoch_end(0) == (0, 2)


def test_a_journal_file_whose_sync_failed_is_never_reused_and_is_deleted() -> None:
    rig = LogRig().start()
    rig.write(1)
    fail_next_sync(rig)
    rig.append()
    rig.settle()
    used = "journal/00000000000000000000.jnl"
    before = bytes(rig.disk.inode(used).seen) if rig.disk.exists(used) else b""
    rig.write(5)
    assert not rig.disk.exists(used) or bytes(rig.disk.inode(used).seen) == before
    rig.log.checkpoint()
    rig.settle(2)
    assert not rig.disk.exists(used)
    assert len(rig.disk.list("journal")) == CONFIG.journal_files


def test_two_failed_syncs_in_a_row_make_the_log_read_only_until_a_restart() -> None:
    rig = LogRig().start()
    rig.write(2)
    fail_next_sync(rig, times=2)
    rig.append()
    rig.settle()
    assert rig.log.read_only is not None
    with pytest.raises(StorageError, match="twice in a row"):
        rig.append()
    with pytest.raises(StorageError):
        rig.append(7)
    assert rig.offsets() == [0, 1]
    rig.stop().start()
    rig.write(1)
    assert rig.offsets() == [0, 1, 2] or rig.offsets() == [0, 1, 2, 3]


def test_a_failed_segment_sync_fences_only_its_partition_and_is_repaired() -> None:
    rig = LogRig().start()
    rig.write(3)
    rig.write(1, 1)
    fail_next_sync(rig)
    rig.log.checkpoint()
    rig.settle(0.5)
    assert rig.partition(0).fence_reason is not None
    with pytest.raises(StorageError):
        rig.append(0)
    assert rig.offsets(0) == [0, 1, 2]
    rig.write(1, 1)
    rig.settle(3)
    assert rig.partition(0).fence_reason is None
    rig.write(1)
    rig.log.checkpoint()
    rig.settle(1)
    rig.crash().start()
    assert rig.offsets(0) == [0, 1, 2, 3]


def test_a_fenced_partitions_records_outlive_the_checkpoint() -> None:
    for seed in range(10):
        rig = LogRig(seed).start()
        rig.write(3)
        fail_next_sync(rig)
        rig.log.checkpoint()
        rig.settle(0.5)
        for _ in range(2):
            rig.write(1, 1)
            rig.log.checkpoint()
            rig.settle(0.01)
        rig.crash().start()
        assert rig.report.fenced == []
        assert rig.offsets(0) == [0, 1, 2]


def test_a_failed_direct_sync_fails_its_appends() -> None:
    rig = LogRig().start()
    rig.write(1)
    fail_next_sync(rig)
    _, promise = rig.append(size=5000)
    rig.settle()
    with pytest.raises(StorageError):
        promise.result()
    rig.settle(3)
    assert rig.partition().fence_reason is None
    rig.write(1, size=5000)
    rig.crash().start()
    assert rig.offsets() == [0, 1]


def test_without_a_free_journal_file_commits_wait_for_the_checkpoint() -> None:
    rig = LogRig().start()
    promises = []
    for _ in range(40):
        promises += [rig.append(index, size=3000)[1] for index in range(10)]
        rig.clock.run()
    rig.settle(5)
    assert all(promise.result() is None for promise in promises)
    assert len(rig.disk.list("journal")) == CONFIG.journal_files
    rig.crash().start()
    assert len(rig.offsets(9)) == 40


def test_many_rolls_make_a_checkpoint_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointer, "ROLLS_PER_CHECKPOINT_MAX", 5)
    large = replace(CONFIG, journal_file_bytes=1 << 20, first_journal_file_bytes=1 << 20)
    rig = LogRig(config=large).start()
    partition = rig.partition(config=SMALL)
    stored = files.load(rig.disk)
    while len(partition.segments) < 5:
        rig.write(size=1000)
    assert files.load(rig.disk) == stored
    while len(partition.segments) < 7:
        rig.write(size=1000)
    assert files.load(rig.disk) != stored


def test_a_checkpoint_that_cannot_be_written_is_retried() -> None:
    rig = LogRig().start()
    rig.write(2)
    real = rig.disk.rename
    rig.disk.rename = lambda *_: _raise(OSError(28, "full"))  # type: ignore[method-assign]
    asked = rig.log.checkpoint()
    rig.settle(3)
    assert isinstance(asked.error, OSError)
    rig.disk.rename = real  # type: ignore[method-assign]
    rig.settle(3)
    rig.write(1)
    rig.crash().start()
    assert rig.offsets() == [0, 1, 2]


def _raise(error: OSError) -> None:
    raise error


def test_a_new_log_start_is_durable_before_files_are_unlinked() -> None:
    for seed in range(10):
        rig = LogRig(seed).start()
        rig.partition(0, SMALL)
        rig.write(12, size=1000)
        moved: Promise[int] = rig.partition().delete_records(9)
        rig.settle(1)
        assert moved.result() == 9
        rig.crash().start()
        assert rig.partition().log_start_offset == 9
        assert rig.offsets()[-1] == 11


def test_a_deleted_topic_stays_deleted_after_a_crash_at_any_time() -> None:
    for seed in range(30):
        rig = LogRig(seed).start()
        rig.partition(0, SMALL)
        rig.write(8, size=1000)
        rig.append()
        waiting = rig.partition()
        done = rig.log.delete_topic(TOPIC)
        with pytest.raises(PartitionDeleted):
            waiting.append(batch())
        rig.settle(rig.rng.choice((0.0001, 0.001, 0.003, 5)))
        status: Status = "unknown" if done.done else "deleted"
        rig.crash().start(lambda _, status=status: status)  # type: ignore[misc]
        assert rig.disk.list("partitions") == []
        assert rig.report.quarantined == []


def test_a_partition_recreated_under_its_id_is_a_new_one() -> None:
    rig = LogRig().start()
    rig.write(3)
    done = rig.log.delete_topic(TOPIC)
    rig.settle(5)
    assert done.done
    rig.write(1)
    assert rig.offsets() == [0]


def test_pending_bytes_count_appends_that_are_not_durable() -> None:
    rig = LogRig().start()
    rig.append(size=1000)
    rig.append(1, size=9000)
    assert rig.log.pending_bytes > 10_000
    rig.settle()
    assert rig.log.pending_bytes == 0

"""A partition: appending, rolling, producers, failed commits, fencing, waiting."""

from __future__ import annotations

from typing import cast

import pytest

from mainstem.log.config import PartitionConfig
from mainstem.log.disk.nonblocking_read import IndexCache
from mainstem.log.errors import (
    BatchTooLarge,
    CorruptBatch,
    InvalidTimestamp,
    PartitionDeleted,
    StorageError,
)
from mainstem.log.storage.record_batch import decode, read_header
from mainstem.promise import Promise
from tests.log.batches import batch, manual, offsets
from tests.log.partition_rig import PartitionRig

# --- appending --------------------------------------------------------------------------------------------


def test_a_new_partition_touches_the_disk_with_its_first_append() -> None:
    rig = PartitionRig()
    assert not rig.disk.calls
    assert bytes(rig.partition.read_blocking(0, 100).data) == b""
    assert rig.partition.append(batch(3)) == (0, 3, -1, False)
    assert rig.partition.append(batch(2)) == (3, 5, -1, False)
    assert offsets(rig) == [0, 1, 2, 3, 4]


def test_append_sets_the_offset_in_place_and_keeps_every_other_byte() -> None:
    rig = PartitionRig()
    rig.partition.append(batch())
    data = batch(2, codec="zstd", size=500)
    produced = bytes(data)
    rig.partition.append(data)
    stored = bytes(rig.partition.read_blocking(1, 1).data)
    assert read_header(stored).base_offset == 1
    assert stored[16:] == produced[16:]
    assert stored == bytes(data)


def test_log_append_time_never_falls_and_is_returned() -> None:
    rig = PartitionRig(PartitionConfig(log_append_time=True))
    first = rig.partition.append(batch()).log_append_ms
    rig.clock.wall -= 60_000
    assert rig.partition.append(batch()).log_append_ms == first == rig.clock.wall + 60_000
    assert [record.timestamp_ms for record in decode(rig.partition.read_blocking(1, 1).data)] == [first]


def test_a_batch_that_is_too_large_is_refused_before_it_is_validated() -> None:
    rig = PartitionRig(PartitionConfig(max_message_bytes=200, segment_bytes=1000))
    with pytest.raises(BatchTooLarge):
        rig.partition.append(batch(size=300))
    rig.partition.config = PartitionConfig(max_message_bytes=2000, segment_bytes=250)
    with pytest.raises(BatchTooLarge):
        rig.partition.append(batch(size=300))
    rig.partition.config = PartitionConfig()
    rig.partition.append(batch(size=300))
    assert rig.partition.log_end_offset == 1


def test_timestamps_outside_the_limits_of_the_topic_are_refused() -> None:
    rig = PartitionRig(PartitionConfig(timestamp_after_max_ms=1000, timestamp_before_max_ms=5000))
    now = rig.clock.wall_ms()
    rig.partition.append(batch(timestamp_ms=now + 1000))
    rig.partition.append(batch(timestamp_ms=now - 5000))
    rig.partition.append(batch(timestamp_ms=-1))
    for timestamp in (now + 1001, now - 5001, now * 1000):
        with pytest.raises(InvalidTimestamp):
            rig.partition.append(batch(timestamp_ms=timestamp))


def test_a_damaged_batch_changes_nothing() -> None:
    rig = PartitionRig()
    data = bytearray(batch())
    data[-1] ^= 1
    with pytest.raises(CorruptBatch):
        rig.partition.append(memoryview(data))
    assert rig.partition.log_end_offset == 0


def test_a_failed_write_is_undone_and_the_next_one_succeeds() -> None:
    rig = PartitionRig()
    rig.partition.append(batch())
    rig.disk.fail = lambda call, path: call == "pwrite"
    with pytest.raises(StorageError):
        rig.partition.append(batch(size=100))
    assert rig.partition.fence_reason is None
    rig.disk.fail = lambda call, path: False
    assert rig.partition.append(batch()).base_offset == 1
    assert offsets(rig) == [0, 1]


def test_a_failing_disk_is_logged_at_most_once_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    rig = PartitionRig()
    rig.disk.fail = lambda call, path: call == "pwrite"
    for _ in range(100):
        with pytest.raises(StorageError):
            rig.partition.append(batch())
        rig.clock.advance(0.15)
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if "writing failed" in line]) == 2


def test_a_write_that_cannot_be_undone_makes_the_partition_read_only() -> None:
    rig = PartitionRig()
    rig.partition.append(batch())
    rig.disk.fail = lambda call, path: call in ("pwrite", "truncate")
    for _ in range(2):
        with pytest.raises(StorageError):
            rig.partition.append(batch(size=100))
    assert rig.partition.fence_reason is not None
    assert offsets(rig) == [0]


@pytest.mark.parametrize("call", ["open", "make_folder"])
def test_a_full_disk_fails_the_first_append_and_the_roll_until_there_is_room(call: str) -> None:
    rig = PartitionRig(PartitionConfig(segment_bytes=200))
    rig.disk.fail = lambda name, path: name == call
    with pytest.raises(StorageError):
        rig.partition.append(batch(size=100))
    rig.disk.fail = lambda name, path: False
    rig.partition.append(batch(size=100))
    if call == "open":
        rig.disk.fail = lambda name, path: name == call
        with pytest.raises(StorageError):
            rig.partition.append(batch(size=100))
        rig.disk.fail = lambda name, path: False
    rig.partition.append(batch(size=100))
    assert len(rig.partition.segments) == 2
    assert offsets(rig) == [0, 1]


@pytest.mark.parametrize("call", ["write_all", "append", "sync", "read_all"])
def test_side_files_that_cannot_be_written_or_read_lose_nothing(call: str) -> None:
    rig = PartitionRig(PartitionConfig(segment_bytes=1000, index_interval_bytes=100))
    for n in range(30):
        if n == 10 and call != "read_all":
            rig.disk.fail = lambda name, path: name == call and "sync" not in name
        rig.partition.append(batch(2, size=50))
    rig.partition.save_side_files()
    rig.partition.close()
    rig.disk.fail = lambda name, path: False
    rig.open(rig.state())
    assert offsets(rig) == list(range(60))
    assert rig.partition.offset_for_time(1001).result() == (1, 1001, 0)


# --- rolling ----------------------------------------------------------------------------------------------


def test_a_partition_rolls_by_size_by_age_of_arrival_and_by_full_index() -> None:
    rig = PartitionRig(PartitionConfig(segment_bytes=1000, segment_ms=60_000))
    size = len(batch(size=100))
    for _ in range(1000 // size + 1):
        rig.partition.append(batch(size=100, timestamp_ms=1))
    assert len(rig.partition.segments) == 2
    rig.clock.advance(60)
    rig.partition.append(batch(size=100))
    assert len(rig.partition.segments) == 2
    rig.clock.advance(0.001)
    rig.partition.append(batch(size=100))
    assert len(rig.partition.segments) == 3
    rig.partition.config = PartitionConfig(index_interval_bytes=0, segment_index_bytes=48)
    for _ in range(8):
        rig.partition.append(batch(size=100))
    assert len(rig.partition.segments) == 4
    assert rig.committer.rolls == 3
    assert [segment.base_offset for segment in rig.partition.segments][:2] == [0, 1000 // size]


def test_an_empty_active_segment_is_not_rolled() -> None:
    rig = PartitionRig()
    rig.partition.append(batch(3))
    for _ in range(3):
        rig.partition.roll()
    assert [segment.base_offset for segment in rig.partition.segments] == [0, 3]


def test_a_file_in_the_way_of_a_roll_is_quarantined() -> None:
    rig = PartitionRig(PartitionConfig(segment_bytes=200))
    rig.partition.append(batch(size=100))
    path = f"{rig.partition.folder}/{1:020}.log"
    rig.disk.files[path] = bytearray(b"what is this")
    rig.partition.append(batch(size=100))
    assert rig.disk.files[path + ".quarantine"] == b"what is this"
    assert offsets(rig) == [0, 1]


# --- waiting ----------------------------------------------------------------------------------------------


def test_waiters_and_watchers_are_notified_of_the_watermark() -> None:
    rig, committer = manual()
    partition = rig.partition
    watermarks: list[int] = []
    partition.watch(lambda watched: watermarks.append(watched.high_watermark))
    promises = [partition.when_committed(partition.append(batch()).next_offset) for _ in range(3)]
    assert bytes(partition.read_blocking(0, 100).data) == b""
    assert read_header(partition.read_blocking(0, 1, past_watermark=True).data).base_offset == 0
    committer.commit(2)
    assert [promise.done for promise in promises] == [True, True, False]
    assert partition.when_committed(1).done
    committer.commit()
    assert promises[2].result() is None
    assert watermarks == [1, 2, 3]


def test_a_watcher_may_unwatch_itself_while_it_is_called() -> None:
    rig = PartitionRig()
    calls: list[int] = []

    def watch_once(_: object) -> None:
        calls.append(1)
        rig.partition.unwatch(watch_once)

    rig.partition.watch(watch_once)
    rig.partition.append(batch())
    rig.partition.append(batch())
    assert calls == [1]


def test_deleting_the_topic_fails_waiting_and_later_requests() -> None:
    rig, _ = manual()
    committed = rig.partition.when_committed(rig.partition.append(batch()).next_offset)
    rig.partition.delete()
    assert isinstance(committed.error, PartitionDeleted)
    with pytest.raises(PartitionDeleted):
        rig.partition.append(batch())
    assert isinstance(rig.partition.delete_records(-1).error, PartitionDeleted)


# --- failed commits ---------------------------------------------------------------------------------------


def test_epochs_of_two_crashes_outlive_a_clean_stop_without_appends() -> None:
    rig = PartitionRig()
    rig.partition.append(batch())
    rig.checkpoint()
    rig.crash()
    rig.partition.append(batch())
    rig.crash()
    assert rig.partition.epoch_end(0) == (0, 1)
    rig.restart()
    assert rig.partition.epoch_end(0) == (0, 1)
    assert rig.partition.epoch_end(1) == (1, 2)


def test_epochs_of_two_crashes_are_known_after_a_third_without_a_checkpoint() -> None:
    rig = PartitionRig()
    rig.partition.append(batch())
    rig.checkpoint()
    rig.crash()
    rig.partition.append(batch())
    rig.crash()
    rig.crash()
    assert rig.partition.epoch_end(0) == (0, 1)


def test_arrivals_after_a_crash_are_at_most_a_second_early() -> None:
    """The journal has at most one pair a second for all segments; each segment needs one at its beginning."""
    rig = PartitionRig(PartitionConfig(segment_bytes=1000, index_interval_bytes=200))
    for _ in range(3):
        rig.partition.append(batch(4, size=200))
    first = rig.clock.wall
    rig.clock.wall += 1000
    rig.partition.append(batch(size=900))  # rolls: the pair of this second belongs to a segment's first batch
    rig.partition.delete_records(4)
    rig.crash()
    assert rig.partition.arrival_of(12) == first + 1000
    assert rig.partition.offset_for_arrival(first) == 4
    assert rig.partition.arrival_of(5) == first


def test_arrivals_of_batches_lost_in_a_crash_are_forgotten() -> None:
    rig, committer = manual(PartitionConfig(segment_bytes=1000, index_interval_bytes=200))
    for _ in range(2):
        rig.partition.append(batch(4, size=200))  # rolls: the first segment's pairs are in its file
    committer.pending.clear()
    rig.crash()
    rig.clock.wall += 1000
    rig.partition.append(batch())
    committer.commit()
    rig.restart()
    assert rig.partition.arrival_of(0) == rig.clock.wall


def test_a_lost_time_index_is_rebuilt_although_the_offset_index_is_whole() -> None:
    rig = PartitionRig(PartitionConfig(segment_bytes=2000, index_interval_bytes=200))
    rig.partition.append(batch(3, size=200, timestamp_ms=500))
    for _ in range(4):
        rig.partition.append(batch(2, size=200, timestamp_ms=100))
    rig.checkpoint()
    for path in [path for path in rig.disk.files if path.endswith(".timeindex")]:
        del rig.disk.files[path]
    rig.crash()
    lookup = rig.partition.offset_of_max_timestamp()
    rig.wait(cast("Promise[object]", lookup))
    largest = lookup.result()
    assert largest is not None
    assert largest.offset == 2


def test_a_failed_commit_cuts_the_log_back_across_a_roll_and_begins_an_epoch() -> None:
    rig, committer = manual(PartitionConfig(segment_bytes=300, index_interval_bytes=0))
    partition = rig.partition
    for _ in range(3):
        partition.append(batch(size=80))
    committer.commit()
    promises = [partition.when_committed(partition.append(batch(size=80)).next_offset) for _ in range(5)]
    assert len(partition.segments) > 2
    committer.pending.clear()
    partition.roll_back()
    assert all(isinstance(promise.error, StorageError) for promise in promises)
    with pytest.raises(StorageError):
        partition.append(batch())
    partition.resume()
    assert (partition.log_end_offset, partition.epoch) == (3, 1)
    assert partition.append(batch(timestamp_ms=77)).base_offset == 3
    committer.commit()
    assert offsets(rig) == [0, 1, 2, 3]
    assert read_header(partition.read_blocking(3, 1).data).leader_epoch == 1
    assert partition.epoch_end(0) == (0, 3)
    assert partition.epoch_end(1) == (1, 4)
    assert not rig.disk.exists(f"{partition.folder}/{6:020}.log")


def test_a_fenced_partition_is_read_only_until_its_bytes_are_safe() -> None:
    rig, committer = manual()
    partition = rig.partition
    partition.append(batch())
    committer.commit()
    committed = partition.when_committed(partition.append(batch()).next_offset)
    partition.fence("the disk failed")
    assert isinstance(committed.error, StorageError)
    with pytest.raises(StorageError, match="the disk failed"):
        partition.append(batch())
    assert offsets(rig) == [0]
    partition.unfence()
    assert partition.log_end_offset == 1
    with pytest.raises(StorageError):
        partition.append(batch())
    partition.resume()
    assert partition.append(batch()).base_offset == 1


# --- restarts ---------------------------------------------------------------------------------------------


def test_a_clean_restart_reads_no_log_before_the_first_request() -> None:
    rig = PartitionRig(PartitionConfig(segment_bytes=2000))
    for _ in range(50):
        rig.partition.append(batch(size=100))
    rig.partition.close()
    state = rig.state()
    rig.disk.calls.clear()
    rig.open(state)
    assert not rig.disk.calls
    rig.partition.append(batch(producer=(1, 0, 0)))
    assert rig.disk.calls["pread_nowait"] <= 3
    assert rig.disk.calls["pread"] <= 1


def test_index_files_after_restarts_equal_those_of_a_run_without_restarts() -> None:
    config = PartitionConfig(segment_bytes=3000, index_interval_bytes=300)
    unbroken, restarted = PartitionRig(config), PartitionRig(config)
    for n in range(60):
        for rig in (unbroken, restarted):
            rig.partition.append(batch(2, size=60, timestamp_ms=(n * 7919) % 1000))
        if n % 7 == 3:
            restarted.checkpoint()
        if n % 11 == 5:
            restarted.crash()
            unbroken.partition.epoch = restarted.partition.epoch
    unbroken.partition.close()
    restarted.partition.close()
    kinds = (".log", ".index", ".timeindex")
    for path in unbroken.disk.files:
        if path.endswith(kinds):
            assert unbroken.disk.files[path] == restarted.disk.files[path], path


def test_indexes_of_sealed_segments_use_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IndexCache, "BYTES_MAX", 100)
    rig = PartitionRig(PartitionConfig(segment_bytes=900, index_interval_bytes=100))
    for n in range(80):
        rig.partition.append(batch(size=60, timestamp_ms=n))
    rig.restart()
    for offset in [*range(0, 80, 3), *range(1, 80, 3)]:
        assert read_header(rig.partition.read_blocking(offset, 1).data).base_offset == offset
        loaded = [segment for segment in rig.partition.segments[:-1] if segment.index is not None]
        assert sum(segment.index_bytes() for segment in loaded) <= 200
    assert len(rig.partition.segments) > 8
    assert rig.partition.offset_for_time(41).result() == (41, 41, 0)

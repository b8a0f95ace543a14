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
from tests.support.memdisk import PartitionRig

# --- appending --------------------------------------------------------------------------------------------


def test_a_new_partition_touches_the_disk_with_its_first_append() -> None:
    bench = PartitionRig()
    assert not bench.disk.calls
    assert bytes(bench.partition.read_blocking(0, 100).data) == b""
    assert bench.partition.append(batch(3)) == (0, 3, -1, False)
    assert bench.partition.append(batch(2)) == (3, 5, -1, False)
    assert offsets(bench) == [0, 1, 2, 3, 4]


def test_append_sets_the_offset_in_place_and_keeps_every_other_byte() -> None:
    bench = PartitionRig()
    bench.partition.append(batch())
    data = batch(2, codec="zstd", size=500)
    sent = bytes(data)
    bench.partition.append(data)
    kept = bytes(bench.partition.read_blocking(1, 1).data)
    assert read_header(kept).base_offset == 1
    assert kept[16:] == sent[16:]
    assert kept == bytes(data)


def test_log_append_time_never_falls_and_is_returned() -> None:
    bench = PartitionRig(PartitionConfig(log_append_time=True))
    first = bench.partition.append(batch()).log_append_ms
    bench.clock.wall -= 60_000
    assert bench.partition.append(batch()).log_append_ms == first == bench.clock.wall + 60_000
    assert [record.timestamp_ms for record in decode(bench.partition.read_blocking(1, 1).data)] == [first]


def test_a_batch_that_is_too_large_is_refused_before_it_is_validated() -> None:
    bench = PartitionRig(PartitionConfig(max_message_bytes=200, segment_bytes=1000))
    with pytest.raises(BatchTooLarge):
        bench.partition.append(batch(size=300))
    bench.partition.config = PartitionConfig(max_message_bytes=2000, segment_bytes=250)
    with pytest.raises(BatchTooLarge):
        bench.partition.append(batch(size=300))
    bench.partition.config = PartitionConfig()
    bench.partition.append(batch(size=300))
    assert bench.partition.log_end_offset == 1


def test_timestamps_outside_the_limits_of_the_topic_are_refused() -> None:
    bench = PartitionRig(PartitionConfig(timestamp_after_max_ms=1000, timestamp_before_max_ms=5000))
    now = bench.clock.wall_ms()
    bench.partition.append(batch(timestamp_ms=now + 1000))
    bench.partition.append(batch(timestamp_ms=now - 5000))
    bench.partition.append(batch(timestamp_ms=-1))
    for timestamp in (now + 1001, now - 5001, now * 1000):
        with pytest.raises(InvalidTimestamp):
            bench.partition.append(batch(timestamp_ms=timestamp))


def test_a_damaged_batch_changes_nothing() -> None:
    bench = PartitionRig()
    data = bytearray(batch())
    data[-1] ^= 1
    with pytest.raises(CorruptBatch):
        bench.partition.append(memoryview(data))
    assert bench.partition.log_end_offset == 0


def test_a_failed_write_is_undone_and_the_next_one_succeeds() -> None:
    bench = PartitionRig()
    bench.partition.append(batch())
    bench.disk.fail = lambda call, path: call == "pwrite"
    with pytest.raises(StorageError):
        bench.partition.append(batch(size=100))
    assert bench.partition.fenced is None
    bench.disk.fail = lambda call, path: False
    assert bench.partition.append(batch()).base_offset == 1
    assert offsets(bench) == [0, 1]


def test_a_failing_disk_is_logged_at_most_once_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    bench = PartitionRig()
    bench.disk.fail = lambda call, path: call == "pwrite"
    for _ in range(100):
        with pytest.raises(StorageError):
            bench.partition.append(batch())
        bench.clock.advance(0.15)
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if "writing failed" in line]) == 2


def test_a_write_that_cannot_be_undone_makes_the_partition_read_only() -> None:
    bench = PartitionRig()
    bench.partition.append(batch())
    bench.disk.fail = lambda call, path: call in ("pwrite", "truncate")
    for _ in range(2):
        with pytest.raises(StorageError):
            bench.partition.append(batch(size=100))
    assert bench.partition.fenced is not None
    assert offsets(bench) == [0]


@pytest.mark.parametrize("call", ["open", "make_folder"])
def test_a_full_disk_fails_the_first_append_and_the_roll_until_there_is_room(call: str) -> None:
    bench = PartitionRig(PartitionConfig(segment_bytes=200))
    bench.disk.fail = lambda name, path: name == call
    with pytest.raises(StorageError):
        bench.partition.append(batch(size=100))
    bench.disk.fail = lambda name, path: False
    bench.partition.append(batch(size=100))
    if call == "open":
        bench.disk.fail = lambda name, path: name == call
        with pytest.raises(StorageError):
            bench.partition.append(batch(size=100))
        bench.disk.fail = lambda name, path: False
    bench.partition.append(batch(size=100))
    assert len(bench.partition.segments) == 2
    assert offsets(bench) == [0, 1]


@pytest.mark.parametrize("call", ["write_all", "append", "sync", "read_all"])
def test_side_files_that_cannot_be_written_or_read_lose_nothing(call: str) -> None:
    bench = PartitionRig(PartitionConfig(segment_bytes=1000, index_interval_bytes=100))
    for n in range(30):
        if n == 10 and call != "read_all":
            bench.disk.fail = lambda name, path: name == call and "sync" not in name
        bench.partition.append(batch(2, size=50))
    bench.partition.save_side_files()
    bench.partition.close()
    bench.disk.fail = lambda name, path: False
    bench.open(bench.state())
    assert offsets(bench) == list(range(60))
    assert bench.partition.offset_for_time(1001).result() == (1, 1001, 0)


# --- rolling ----------------------------------------------------------------------------------------------


def test_a_partition_rolls_by_size_by_age_of_arrival_and_by_full_index() -> None:
    bench = PartitionRig(PartitionConfig(segment_bytes=1000, segment_ms=60_000))
    size = len(batch(size=100))
    for _ in range(1000 // size + 1):
        bench.partition.append(batch(size=100, timestamp_ms=1))
    assert len(bench.partition.segments) == 2
    bench.clock.advance(60)
    bench.partition.append(batch(size=100))
    assert len(bench.partition.segments) == 2
    bench.clock.advance(0.001)
    bench.partition.append(batch(size=100))
    assert len(bench.partition.segments) == 3
    bench.partition.config = PartitionConfig(index_interval_bytes=0, segment_index_bytes=48)
    for _ in range(8):
        bench.partition.append(batch(size=100))
    assert len(bench.partition.segments) == 4
    assert bench.committer.rolls == 3
    assert [one.base_offset for one in bench.partition.segments][:2] == [0, 1000 // size]


def test_a_file_in_the_way_of_a_roll_is_quarantined() -> None:
    bench = PartitionRig(PartitionConfig(segment_bytes=200))
    bench.partition.append(batch(size=100))
    path = f"{bench.partition.folder}/{1:020}.log"
    bench.disk.files[path] = bytearray(b"what is this")
    bench.partition.append(batch(size=100))
    assert bench.disk.files[path + ".quarantine"] == b"what is this"
    assert offsets(bench) == [0, 1]


# --- waiting ----------------------------------------------------------------------------------------------


def test_waiters_and_watchers_are_notified_of_the_watermark() -> None:
    bench, committer = manual()
    partition = bench.partition
    seen: list[int] = []
    partition.watch(lambda one: seen.append(one.high_watermark))
    laters = [partition.when_committed(partition.append(batch()).next_offset) for _ in range(3)]
    assert bytes(partition.read_blocking(0, 100).data) == b""
    assert read_header(partition.read_blocking(0, 1, past_watermark=True).data).base_offset == 0
    committer.commit(2)
    assert [later.done for later in laters] == [True, True, False]
    assert partition.when_committed(1).done
    committer.commit()
    assert laters[2].result() is None
    assert seen == [1, 2, 3]


def test_a_watcher_may_unwatch_itself_while_it_is_called() -> None:
    bench = PartitionRig()
    seen: list[int] = []

    def once(_: object) -> None:
        seen.append(1)
        bench.partition.unwatch(once)

    bench.partition.watch(once)
    bench.partition.append(batch())
    bench.partition.append(batch())
    assert seen == [1]


def test_deleting_the_topic_fails_waiting_and_later_requests() -> None:
    bench, _ = manual()
    later = bench.partition.when_committed(bench.partition.append(batch()).next_offset)
    bench.partition.delete()
    assert isinstance(later.error, PartitionDeleted)
    with pytest.raises(PartitionDeleted):
        bench.partition.append(batch())
    assert isinstance(bench.partition.delete_records(-1).error, PartitionDeleted)


# --- failed commits ---------------------------------------------------------------------------------------


def test_epochs_of_two_crashes_outlive_a_clean_stop_without_appends() -> None:
    bench = PartitionRig()
    bench.partition.append(batch())
    bench.checkpoint()
    bench.crash()
    bench.partition.append(batch())
    bench.crash()
    assert bench.partition.epoch_end(0) == (0, 1)
    bench.restart()
    assert bench.partition.epoch_end(0) == (0, 1)
    assert bench.partition.epoch_end(1) == (1, 2)


def test_epochs_of_two_crashes_are_known_after_a_third_without_a_checkpoint() -> None:
    bench = PartitionRig()
    bench.partition.append(batch())
    bench.checkpoint()
    bench.crash()
    bench.partition.append(batch())
    bench.crash()
    bench.crash()
    assert bench.partition.epoch_end(0) == (0, 1)


def test_arrivals_after_a_crash_are_at_most_a_second_early() -> None:
    """The journal has one pair a second, for all segments; each segment needs one at its beginning."""
    bench = PartitionRig(PartitionConfig(segment_bytes=1000, index_interval_bytes=200))
    for _ in range(3):
        bench.partition.append(batch(4, size=200))
    first = bench.clock.wall
    bench.clock.wall += 1000
    bench.partition.append(
        batch(size=900)
    )  # rolls: the pair of this second belongs to a segment's first batch
    bench.partition.delete_records(4)
    bench.crash()
    assert bench.partition.arrival_of(12) == first + 1000
    assert bench.partition.offset_for_arrival(first) == 4
    assert bench.partition.arrival_of(5) == first


def test_arrivals_of_batches_lost_in_a_crash_are_forgotten() -> None:
    bench, committer = manual(PartitionConfig(segment_bytes=1000, index_interval_bytes=200))
    for _ in range(2):
        bench.partition.append(batch(4, size=200))  # rolls: the first segment's pairs are in its file
    committer.pending.clear()
    bench.crash()
    bench.clock.wall += 1000
    bench.partition.append(batch())
    committer.commit()
    bench.restart()
    assert bench.partition.arrival_of(0) == bench.clock.wall


def test_a_lost_time_index_is_rebuilt_although_the_offset_index_is_whole() -> None:
    bench = PartitionRig(PartitionConfig(segment_bytes=2000, index_interval_bytes=200))
    bench.partition.append(batch(3, size=200, timestamp_ms=500))
    for _ in range(4):
        bench.partition.append(batch(2, size=200, timestamp_ms=100))
    bench.checkpoint()
    for path in [path for path in bench.disk.files if path.endswith(".timeindex")]:
        del bench.disk.files[path]
    bench.crash()
    found = bench.partition.offset_of_max_timestamp()
    bench.wait(cast("Promise[object]", found))
    largest = found.result()
    assert largest is not None
    assert largest.offset == 2


def test_a_failed_commit_cuts_the_log_back_across_a_roll_and_begins_an_epoch() -> None:
    bench, committer = manual(PartitionConfig(segment_bytes=300, index_interval_bytes=0))
    partition = bench.partition
    for _ in range(3):
        partition.append(batch(size=80))
    committer.commit()
    laters = [partition.when_committed(partition.append(batch(size=80)).next_offset) for _ in range(5)]
    assert len(partition.segments) > 2
    committer.pending.clear()
    partition.roll_back()
    assert all(isinstance(later.error, StorageError) for later in laters)
    with pytest.raises(StorageError):
        partition.append(batch())
    partition.resume()
    assert (partition.log_end_offset, partition.epoch) == (3, 1)
    assert partition.append(batch(timestamp_ms=77)).base_offset == 3
    committer.commit()
    assert offsets(bench) == [0, 1, 2, 3]
    assert read_header(partition.read_blocking(3, 1).data).leader_epoch == 1
    assert partition.epoch_end(0) == (0, 3)
    assert partition.epoch_end(1) == (1, 4)
    assert not bench.disk.exists(f"{partition.folder}/{6:020}.log")


def test_a_fenced_partition_is_read_only_until_its_bytes_are_safe() -> None:
    bench, committer = manual()
    partition = bench.partition
    partition.append(batch())
    committer.commit()
    later = partition.when_committed(partition.append(batch()).next_offset)
    partition.fence("the disk failed")
    assert isinstance(later.error, StorageError)
    with pytest.raises(StorageError, match="the disk failed"):
        partition.append(batch())
    assert offsets(bench) == [0]
    partition.unfence()
    assert partition.log_end_offset == 1
    with pytest.raises(StorageError):
        partition.append(batch())
    partition.resume()
    assert partition.append(batch()).base_offset == 1


# --- restarts ---------------------------------------------------------------------------------------------


def test_a_clean_restart_reads_no_log_before_the_first_request() -> None:
    bench = PartitionRig(PartitionConfig(segment_bytes=2000))
    for _ in range(50):
        bench.partition.append(batch(size=100))
    bench.partition.close()
    state = bench.state()
    bench.disk.calls.clear()
    bench.open(state)
    assert not bench.disk.calls
    bench.partition.append(batch(producer=(1, 0, 0)))
    assert bench.disk.calls["pread_nowait"] <= 3
    assert bench.disk.calls["pread"] <= 1


def test_index_files_after_restarts_equal_those_of_a_run_without_restarts() -> None:
    config = PartitionConfig(segment_bytes=3000, index_interval_bytes=300)
    one, other = PartitionRig(config), PartitionRig(config)
    for n in range(60):
        for bench in (one, other):
            bench.partition.append(batch(2, size=60, timestamp_ms=(n * 7919) % 1000))
        if n % 7 == 3:
            other.checkpoint()
        if n % 11 == 5:
            other.crash()
            one.partition.epoch = other.partition.epoch
    one.partition.close()
    other.partition.close()
    kinds = (".log", ".index", ".timeindex")
    for path in one.disk.files:
        if path.endswith(kinds):
            assert one.disk.files[path] == other.disk.files[path], path


def test_indexes_of_sealed_segments_use_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IndexCache, "BYTES_MAX", 100)
    bench = PartitionRig(PartitionConfig(segment_bytes=900, index_interval_bytes=100))
    for n in range(80):
        bench.partition.append(batch(size=60, timestamp_ms=n))
    bench.restart()
    for offset in [*range(0, 80, 3), *range(1, 80, 3)]:
        assert read_header(bench.partition.read_blocking(offset, 1).data).base_offset == offset
        loaded = [segment for segment in bench.partition.segments[:-1] if segment.index is not None]
        assert sum(segment.index_bytes() for segment in loaded) <= 200
    assert len(bench.partition.segments) > 8
    assert bench.partition.offset_for_time(41).result() == (41, 41, 0)

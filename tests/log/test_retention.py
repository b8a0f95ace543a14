"""Removing what is old: by age, by size, by request."""

from __future__ import annotations

import pytest

from mainstem.log.config import PartitionConfig
from mainstem.log.errors import OffsetOutOfRange
from mainstem.log.partition import retention
from tests.log.batches import batch, manual, offsets
from tests.support.memdisk import PartitionRig


def test_retention_by_age_counts_from_arrival() -> None:
    bench = PartitionRig(PartitionConfig(segment_bytes=300, retention_ms=60_000))
    for n in range(6):
        bench.partition.append(batch(size=60, timestamp_ms=n))  # of 1970
        bench.clock.advance(10)
    size = bench.partition.size_bytes()
    assert bench.partition.enforce_retention().result() == 0
    bench.clock.advance(25)  # the last of the second segment of two batches arrived 30 s after the beginning
    removed = bench.partition.enforce_retention().result()
    assert bench.partition.log_start_offset == 2
    assert removed == size - bench.partition.size_bytes() > 0
    assert offsets(bench) == [2, 3, 4, 5]
    with pytest.raises(OffsetOutOfRange):
        bench.partition.read_blocking(1, 1)
    bench.clock.advance(1000)
    bench.partition.enforce_retention().result()
    assert bench.partition.log_start_offset == bench.partition.high_watermark == 6
    assert bench.partition.append(batch()).base_offset == 6
    bench.restart()
    assert bench.partition.log_start_offset == 6


def test_retention_by_record_time_works_as_in_kafka() -> None:
    config = PartitionConfig(segment_bytes=300, retention_ms=60_000, retention_by_record_time=True)
    bench = PartitionRig(config)
    now = bench.clock.wall_ms()
    for n in range(6):
        old = n in (0, 1, 4, 5)
        bench.partition.append(batch(size=60, timestamp_ms=now - 100_000 if old else now))
    bench.partition.enforce_retention().result()
    assert bench.partition.log_start_offset == 2


def test_retention_by_size_keeps_at_least_retention_bytes() -> None:
    bench = PartitionRig(PartitionConfig(segment_bytes=300, retention_ms=-1))
    for _ in range(10):
        bench.partition.append(batch(size=60))
    each = bench.partition.segments[0].size
    bench.partition.config = PartitionConfig(segment_bytes=300, retention_ms=-1, retention_bytes=each * 3 - 1)
    bench.partition.enforce_retention().result()
    assert bench.partition.size_bytes() == each * 3
    assert bench.partition.log_start_offset == 4


def test_nothing_is_unlinked_before_the_log_start_is_durable() -> None:
    bench, committer = manual(PartitionConfig(segment_bytes=300, retention_ms=0))
    for _ in range(6):
        bench.partition.append(batch(size=60))
    bench.clock.advance(10)
    assert bench.partition.enforce_retention().result() == 0  # nothing of it is committed
    committer.commit()
    later = bench.partition.enforce_retention()
    unlinked = bench.disk.calls["unlink"]
    assert not later.done
    assert bench.partition.log_start_offset == 0
    assert bench.partition.checkpoint_row().log_start == 6
    committer.commit()
    assert later.result() > 0
    assert bench.disk.calls["unlink"] > unlinked
    assert bench.partition.log_start_offset == 6


@pytest.mark.parametrize("suffix", [".log", ".index"])
def test_a_segment_that_cannot_be_unlinked_keeps_those_after_it(suffix: str) -> None:
    bench = PartitionRig(PartitionConfig(segment_bytes=300))
    for n in range(8):
        bench.partition.append(batch(size=60, producer=(7, 0, n)))
    size, files = bench.partition.size_bytes(), set(bench.disk.files)
    bench.disk.fail = lambda call, path: call == "unlink" and path.endswith(f"{2:020}{suffix}")
    assert bench.partition.delete_records(6).result() == 6
    assert {path for path in bench.disk.files if path.endswith(".log")} == {
        path for path in files if path.endswith(".log") and not path.endswith(f"{0:020}.log")
    }, "without a gap, as a backup expects"
    assert offsets(bench) == [6, 7]
    assert bench.partition.size_bytes() == size * 3 // 4
    bench.restart()
    assert bench.partition.append(batch(size=60, producer=(7, 0, 7))).duplicate
    assert bench.partition.size_bytes() == size * 3 // 4
    bench.disk.fail = lambda call, path: False
    assert bench.partition.enforce_retention().result() == size // 2
    assert bench.partition.size_bytes() == size // 4
    assert offsets(bench) == [6, 7]


def test_segments_of_unknown_age_count_as_young() -> None:
    bench = PartitionRig(PartitionConfig(segment_bytes=300, retention_ms=60_000))
    for _ in range(6):
        bench.partition.append(batch(size=60, timestamp_ms=5))
    bench.restart()
    for path in [path for path in bench.disk.files if path.endswith(".arrivals")]:
        bench.disk.unlink(path)
    bench.open(bench.state())
    bench.clock.advance(100_000)
    assert bench.partition.enforce_retention().result() == 0
    assert offsets(bench) == list(range(6))


def test_events_from_before_the_clock_was_set_do_not_expire_when_it_is_set() -> None:
    today_ms = 1_790_000_000_000
    for restarts in (False, True):
        bench = PartitionRig(PartitionConfig(segment_bytes=300, retention_ms=60_000, segment_ms=30_000))
        bench.clock.wall = 5_000  # of 1970
        for n in range(6):
            bench.partition.append(batch(size=60, timestamp_ms=n, producer=(7, 0, n)))
            bench.clock.advance(1)
        bench.clock.wall = today_ms
        if restarts:
            bench.restart()
        assert bench.partition.enforce_retention().result() == 0
        bench.clock.advance(3600)
        assert bench.partition.enforce_retention().result() == 0, "nobody knows how old it is"
        assert bench.partition.append(batch(size=60, producer=(7, 0, 5))).duplicate, (
            "the window has not expired"
        )
        for n in range(6, 9):
            bench.partition.append(batch(size=60, producer=(7, 0, n)))
        bench.clock.advance(50)
        assert bench.partition.enforce_retention().result() == 0
        assert offsets(bench) == list(range(9))
        bench.clock.advance(11)  # a minute after the first event that came when the clock was set
        assert bench.partition.enforce_retention().result() > 0
        assert bench.partition.log_start_offset >= 6


def test_before_the_clock_is_set_ages_count_as_usual() -> None:
    bench = PartitionRig(PartitionConfig(segment_bytes=300, retention_ms=60_000))
    bench.clock.wall = 5_000
    for n in range(4):
        bench.partition.append(batch(size=60, timestamp_ms=n))
    bench.clock.advance(50)
    assert bench.partition.enforce_retention().result() == 0
    bench.clock.advance(11)
    bench.partition.enforce_retention().result()
    assert bench.partition.log_start_offset == 4


def test_a_clock_set_back_expires_nothing_and_delays_expiry_by_no_more_than_that() -> None:
    bench = PartitionRig(PartitionConfig(segment_bytes=300, retention_ms=60_000))
    for _ in range(4):
        bench.partition.append(batch(size=60))
    bench.clock.wall -= 86_400_000
    for _ in range(4):
        bench.partition.append(batch(size=60))
        assert bench.partition.enforce_retention().result() == 0
    bench.clock.advance(86_400 + 59)
    assert bench.partition.enforce_retention().result() == 0
    bench.clock.advance(2)
    bench.partition.enforce_retention().result()
    assert bench.partition.log_start_offset == 8


def test_delete_records_moves_the_log_start_and_refuses_offsets_outside_the_log() -> None:
    bench = PartitionRig(PartitionConfig(segment_bytes=300))
    for _ in range(5):
        bench.partition.append(batch(3, size=20))
    with pytest.raises(OffsetOutOfRange):
        bench.partition.delete_records(16)
    with pytest.raises(OffsetOutOfRange):
        bench.partition.delete_records(-2)
    assert bench.partition.delete_records(7).result() == 7
    assert offsets(bench) == list(range(7, 15))
    assert bench.partition.delete_records(2).result() == 7
    assert bench.partition.delete_records(-1).result() == 15
    assert offsets(bench) == []
    assert bench.partition.offset_for_time(0).result() is None
    assert len(bench.partition.segments) == 1


def test_unlinking_many_segments_yields_to_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "UNLINKS_PER_TURN", 3)
    bench = PartitionRig(PartitionConfig(segment_bytes=300))
    for _ in range(22):
        bench.partition.append(batch(size=60))
    segments, size = len(bench.partition.segments), bench.partition.size_bytes()
    later = bench.partition.delete_records(-1)
    assert not later.done
    assert len(bench.partition.segments) == segments - 3
    assert bench.partition.append(batch(size=60)).base_offset == 22, "the partition goes on meanwhile"
    bench.clock.advance(0)
    assert later.result() == 22
    assert len(bench.partition.segments) == 1
    assert offsets(bench) == [22]
    assert bench.partition.size_bytes() < size


def test_deleting_a_topic_ends_the_unlinking_of_its_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "UNLINKS_PER_TURN", 1)
    bench = PartitionRig(PartitionConfig(segment_bytes=300))
    for _ in range(8):
        bench.partition.append(batch(size=60))
    later = bench.partition.delete_records(-1)
    bench.partition.delete()
    unlinked = bench.disk.calls["unlink"]
    bench.clock.advance(0)
    assert later.done
    assert bench.disk.calls["unlink"] == unlinked

"""Retention: deleting segments by age, by size and by request."""

from __future__ import annotations

import pytest

from mainstem.log.config import PartitionConfig
from mainstem.log.errors import OffsetOutOfRange
from mainstem.log.partition import retention
from tests.log.batches import batch, manual, offsets
from tests.log.partition_rig import PartitionRig


def test_retention_by_age_counts_from_arrival() -> None:
    rig = PartitionRig(PartitionConfig(segment_bytes=300, retention_ms=60_000))
    for n in range(6):
        rig.partition.append(batch(size=60, timestamp_ms=n))  # of 1970
        rig.clock.advance(10)
    size = rig.partition.size_bytes()
    assert rig.partition.enforce_retention().result() == 0
    rig.clock.advance(25)  # the last of the second segment of two batches arrived 30 s after the beginning
    removed = rig.partition.enforce_retention().result()
    assert rig.partition.log_start_offset == 2
    assert removed == size - rig.partition.size_bytes() > 0
    assert offsets(rig) == [2, 3, 4, 5]
    with pytest.raises(OffsetOutOfRange):
        rig.partition.read_blocking(1, 1)
    rig.clock.advance(1000)
    rig.partition.enforce_retention().result()
    assert rig.partition.log_start_offset == rig.partition.high_watermark == 6
    assert rig.partition.append(batch()).base_offset == 6
    rig.restart()
    assert rig.partition.log_start_offset == 6


def test_retention_by_record_time_works_as_in_kafka() -> None:
    config = PartitionConfig(segment_bytes=300, retention_ms=60_000, retention_by_record_time=True)
    rig = PartitionRig(config)
    now = rig.clock.wall_ms()
    for n in range(6):
        old = n in (0, 1, 4, 5)
        rig.partition.append(batch(size=60, timestamp_ms=now - 100_000 if old else now))
    rig.partition.enforce_retention().result()
    assert rig.partition.log_start_offset == 2


def test_retention_by_record_time_deletes_the_active_segment_too() -> None:
    """Kafka rolls it and deletes it once its newest record is too old."""
    config = PartitionConfig(segment_bytes=300, retention_ms=60_000, retention_by_record_time=True)
    rig = PartitionRig(config)
    now = rig.clock.wall_ms()
    for n in range(5):
        rig.partition.append(batch(size=60, timestamp_ms=now - 100_000 + n))
    assert rig.partition.preview_log_start(config).result() == 5
    assert rig.partition.enforce_retention().result() > 0
    assert rig.partition.log_start_offset == rig.partition.high_watermark == 5
    assert rig.partition.size_bytes() == 0
    assert rig.partition.append(batch(size=60, timestamp_ms=now)).base_offset == 5
    rig.partition.enforce_retention().result()
    assert rig.partition.log_start_offset == 5
    rig.restart()
    assert offsets(rig) == [5]


def test_a_young_segment_before_it_keeps_an_active_one_of_old_records() -> None:
    config = PartitionConfig(segment_bytes=300, retention_ms=60_000, retention_by_record_time=True)
    rig = PartitionRig(config)
    now = rig.clock.wall_ms()
    for n in range(3):
        rig.partition.append(batch(size=60, timestamp_ms=now if n < 2 else now - 100_000))
    assert rig.partition.enforce_retention().result() == 0
    assert offsets(rig) == [0, 1, 2]
    assert len(rig.partition.segments) == 2


def test_no_bytes_to_keep_empties_the_partition() -> None:
    """`retention.bytes=0`, as in Kafka."""
    config = PartitionConfig(segment_bytes=300, retention_ms=-1, retention_bytes=0)
    rig = PartitionRig(config)
    for _ in range(5):
        rig.partition.append(batch(size=60))
    assert rig.partition.preview_log_start(config).result() == 5
    assert rig.partition.enforce_retention().result() > 0
    assert (rig.partition.log_start_offset, rig.partition.size_bytes()) == (5, 0)
    rig.partition.config = PartitionConfig(segment_bytes=300, retention_ms=-1, retention_bytes=1)
    rig.partition.append(batch(size=60))
    assert rig.partition.enforce_retention().result() == 0  # with less than one segment to keep it is kept


def test_retention_by_size_keeps_at_least_retention_bytes() -> None:
    rig = PartitionRig(PartitionConfig(segment_bytes=300, retention_ms=-1))
    for _ in range(10):
        rig.partition.append(batch(size=60))
    segment_bytes = rig.partition.segments[0].size
    rig.partition.config = PartitionConfig(
        segment_bytes=300, retention_ms=-1, retention_bytes=segment_bytes * 3 - 1
    )
    rig.partition.enforce_retention().result()
    assert rig.partition.size_bytes() == segment_bytes * 3
    assert rig.partition.log_start_offset == 4


def test_nothing_is_unlinked_before_the_log_start_is_durable() -> None:
    rig, committer = manual(PartitionConfig(segment_bytes=300, retention_ms=0))
    for _ in range(6):
        rig.partition.append(batch(size=60))
    rig.clock.advance(10)
    assert rig.partition.enforce_retention().result() == 0  # nothing is committed yet
    committer.commit()
    deletion = rig.partition.enforce_retention()
    unlinked = rig.disk.calls["unlink"]
    assert not deletion.done
    assert rig.partition.log_start_offset == 0
    assert rig.partition.checkpoint_row().log_start == 6
    committer.commit()
    assert deletion.result() > 0
    assert rig.disk.calls["unlink"] > unlinked
    assert rig.partition.log_start_offset == 6


@pytest.mark.parametrize("suffix", [".log", ".index"])
def test_a_segment_that_cannot_be_unlinked_keeps_those_after_it(suffix: str) -> None:
    rig = PartitionRig(PartitionConfig(segment_bytes=300))
    for n in range(8):
        rig.partition.append(batch(size=60, producer=(7, 0, n)))
    size, files = rig.partition.size_bytes(), set(rig.disk.files)
    rig.disk.fail = lambda call, path: call == "unlink" and path.endswith(f"{2:020}{suffix}")
    assert rig.partition.delete_records(6).result() == 6
    assert {path for path in rig.disk.files if path.endswith(".log")} == {
        path for path in files if path.endswith(".log") and not path.endswith(f"{0:020}.log")
    }, "without a gap, as a backup expects"
    assert offsets(rig) == [6, 7]
    assert rig.partition.size_bytes() == size * 3 // 4
    rig.restart()
    assert rig.partition.append(batch(size=60, producer=(7, 0, 7))).duplicate
    assert rig.partition.size_bytes() == size * 3 // 4
    rig.disk.fail = lambda call, path: False
    assert rig.partition.enforce_retention().result() == size // 2
    assert rig.partition.size_bytes() == size // 4
    assert offsets(rig) == [6, 7]


def test_segments_of_unknown_age_count_as_young() -> None:
    rig = PartitionRig(PartitionConfig(segment_bytes=300, retention_ms=60_000))
    for _ in range(6):
        rig.partition.append(batch(size=60, timestamp_ms=5))
    rig.restart()
    for path in [path for path in rig.disk.files if path.endswith(".arrivals")]:
        rig.disk.unlink(path)
    rig.open(rig.state())
    rig.clock.advance(100_000)
    assert rig.partition.enforce_retention().result() == 0
    assert offsets(rig) == list(range(6))


def test_events_from_before_the_clock_was_set_do_not_expire_when_it_is_set() -> None:
    today_ms = 1_790_000_000_000
    for restarts in (False, True):
        rig = PartitionRig(PartitionConfig(segment_bytes=300, retention_ms=60_000, segment_ms=30_000))
        rig.clock.wall = 5_000  # of 1970
        for n in range(6):
            rig.partition.append(batch(size=60, timestamp_ms=n, producer=(7, 0, n)))
            rig.clock.advance(1)
        rig.clock.wall = today_ms
        if restarts:
            rig.restart()
        assert rig.partition.enforce_retention().result() == 0
        rig.clock.advance(3600)
        assert rig.partition.enforce_retention().result() == 0, "its age is not known"
        assert rig.partition.append(batch(size=60, producer=(7, 0, 5))).duplicate, (
            "the window has not expired"
        )
        for n in range(6, 9):
            rig.partition.append(batch(size=60, producer=(7, 0, n)))
        rig.clock.advance(50)
        assert rig.partition.enforce_retention().result() == 0
        assert offsets(rig) == list(range(9))
        rig.clock.advance(11)  # a minute after the first event that arrived with the clock set
        assert rig.partition.enforce_retention().result() > 0
        assert rig.partition.log_start_offset >= 6


def test_before_the_clock_is_set_ages_count_as_usual() -> None:
    rig = PartitionRig(PartitionConfig(segment_bytes=300, retention_ms=60_000))
    rig.clock.wall = 5_000
    for n in range(4):
        rig.partition.append(batch(size=60, timestamp_ms=n))
    rig.clock.advance(50)
    assert rig.partition.enforce_retention().result() == 0
    rig.clock.advance(11)
    rig.partition.enforce_retention().result()
    assert rig.partition.log_start_offset == 4


def test_a_clock_set_back_expires_nothing_and_delays_expiry_by_no_more_than_that() -> None:
    rig = PartitionRig(PartitionConfig(segment_bytes=300, retention_ms=60_000))
    for _ in range(4):
        rig.partition.append(batch(size=60))
    rig.clock.wall -= 86_400_000
    for _ in range(4):
        rig.partition.append(batch(size=60))
        assert rig.partition.enforce_retention().result() == 0
    rig.clock.advance(86_400 + 59)
    assert rig.partition.enforce_retention().result() == 0
    rig.clock.advance(2)
    rig.partition.enforce_retention().result()
    assert rig.partition.log_start_offset == 8


def test_delete_records_moves_the_log_start_and_refuses_offsets_outside_the_log() -> None:
    rig = PartitionRig(PartitionConfig(segment_bytes=300))
    for _ in range(5):
        rig.partition.append(batch(3, size=20))
    with pytest.raises(OffsetOutOfRange):
        rig.partition.delete_records(16)
    with pytest.raises(OffsetOutOfRange):
        rig.partition.delete_records(-2)
    assert rig.partition.delete_records(7).result() == 7
    assert offsets(rig) == list(range(7, 15))
    assert rig.partition.delete_records(2).result() == 7
    assert rig.partition.delete_records(-1).result() == 15
    assert offsets(rig) == []
    assert rig.partition.offset_for_time(0).result() is None
    assert len(rig.partition.segments) == 1


def test_unlinking_many_segments_yields_to_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "UNLINKS_PER_TURN", 3)
    rig = PartitionRig(PartitionConfig(segment_bytes=300))
    for _ in range(22):
        rig.partition.append(batch(size=60))
    segments, size = len(rig.partition.segments), rig.partition.size_bytes()
    deletion = rig.partition.delete_records(-1)
    assert not deletion.done
    assert len(rig.partition.segments) == segments - 3
    assert rig.partition.append(batch(size=60)).base_offset == 22, "appends succeed meanwhile"
    rig.clock.advance(0)
    assert deletion.result() == 22
    assert len(rig.partition.segments) == 1
    assert offsets(rig) == [22]
    assert rig.partition.size_bytes() < size


def test_deleting_a_topic_ends_the_unlinking_of_its_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "UNLINKS_PER_TURN", 1)
    rig = PartitionRig(PartitionConfig(segment_bytes=300))
    for _ in range(8):
        rig.partition.append(batch(size=60))
    deletion = rig.partition.delete_records(-1)
    rig.partition.delete()
    unlinked = rig.disk.calls["unlink"]
    rig.clock.advance(0)
    assert deletion.done
    assert rig.disk.calls["unlink"] == unlinked

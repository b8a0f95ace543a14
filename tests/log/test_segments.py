"""The segments of a partition: order, offsets that keep their order, limits of a segment."""

from __future__ import annotations

import pytest

from mainstem.log.config import PartitionConfig
from mainstem.log.partition.recovered_state import RecoveredState
from mainstem.log.partition.segments import Segments
from mainstem.log.storage.segment import Segment
from tests.log.batches import batch, manual, offsets
from tests.log.partition_rig import PartitionRig

TWO_BATCHES = PartitionConfig(segment_bytes=300)
"""A segment is full after two batches of 60 bytes of value."""


def filled(batches: int = 5) -> tuple[PartitionRig, Segments]:
    rig = PartitionRig(TWO_BATCHES)
    for _ in range(batches):
        rig.partition.append(batch(size=60))
    return rig, rig.partition.segments


@pytest.mark.parametrize("wrong", [(3, 2, 5), (0, 6, 5), (6, 6, 5), (-1, -2, 0)])
def test_offsets_out_of_order_are_refused_and_change_nothing(wrong: tuple[int, int, int]) -> None:
    _, segments = filled()
    segments.set_offsets(1, 4, 5)
    with pytest.raises(AssertionError):
        segments.set_offsets(*wrong)
    assert (segments.log_start_offset, segments.high_watermark, segments.log_end_offset) == (1, 4, 5)


def test_the_log_start_never_falls_and_never_passes_what_is_durable() -> None:
    _, segments = filled()
    segments.requested_log_start = 3
    segments.advance_log_start(2)
    for offset in (1, 4):
        with pytest.raises(AssertionError):
            segments.advance_log_start(offset)
    assert segments.log_start_offset == 2


def test_the_high_watermark_never_falls() -> None:
    rig, segments = filled()
    with pytest.raises(AssertionError):
        rig.partition.on_committed(4, *segments.committed_end)
    assert segments.high_watermark == 5


def test_each_offset_is_held_by_one_segment() -> None:
    _, segments = filled()
    assert [segment.base_offset for segment in segments] == [0, 2, 4]
    bases = [holder.base_offset for offset in range(6) if (holder := segments.holding(offset)) is not None]
    assert bases == [0, 0, 2, 2, 4, 4]
    assert segments.holding(-1) is None
    assert segments.with_base(2) is segments[1]
    assert segments.with_base(3) is None
    assert segments.from_base(2) == segments[1:]
    assert list(segments.after(segments[0])) == segments[1:]
    assert segments.active is segments[-1]


def test_a_segment_is_readable_up_to_the_committed_end() -> None:
    rig, committer = manual(TWO_BATCHES)
    for _ in range(4):
        rig.partition.append(batch(size=60))
    committer.commit(3)
    segments = rig.partition.segments
    first, second = segments
    assert segments.log_limit(first) == segments.committed_limit(first) == (first.size, 2)
    assert segments.log_limit(second) == (second.size, 4)
    assert segments.committed_limit(second) == (second.size // 2, 3)
    assert segments.readable_bytes(second, past_watermark=True) == second.size


def test_segments_that_hold_readable_or_committed_batches_are_not_dropped() -> None:
    _, segments = filled()
    with pytest.raises(AssertionError):
        segments.drop_first()
    with pytest.raises(AssertionError):
        segments.drop_last()
    assert len(segments) == 3


def test_segments_are_added_in_offset_order() -> None:
    rig, segments = filled()
    with pytest.raises(AssertionError):
        segments.add(Segment(segments.context, segments.folder, 4, 0))
    assert len(segments) == 3
    assert offsets(rig) == list(range(5))


def test_a_recovered_log_start_lies_within_the_log() -> None:
    with pytest.raises(AssertionError):
        RecoveredState(segments=(0,), log_start=6, end_offset=5)
    with pytest.raises(AssertionError):
        RecoveredState(segments=(4, 2), end_offset=5)

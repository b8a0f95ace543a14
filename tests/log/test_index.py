"""The offset and time indexes: Kafka's rules, the bytes, the lookups."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.log.storage.arrival_index import ArrivalIndex
from mainstem.log.storage.index import SegmentIndex

Triples: TypeAlias = list[tuple[int, int, int]]

appends = st.lists(
    st.tuples(st.integers(1, 10), st.integers(61, 5000), st.integers(-1, 100)), min_size=0, max_size=80
)


def grown(batches: Triples, interval: int = 4096) -> tuple[SegmentIndex, Triples]:
    """An index after appends of (count, size, largest timestamp), and (last offset, position, timestamp) of
    each."""
    index = SegmentIndex()
    offset = position = 0
    placed = []
    for count, size, timestamp in batches:
        index.append(offset + count - 1, position, size, timestamp, interval)
        placed.append((offset + count - 1, position, timestamp))
        offset += count
        position += size
    return index, placed


def test_an_entry_is_added_before_a_batch_that_follows_more_than_the_interval() -> None:
    index, _ = grown([(1, 4096, 5), (2, 100, 4), (3, 100, 9), (1, 100, 9)])
    # Kafka's LogSegment.append: 4096 bytes since the last entry are not more than 4096.
    assert index.offset_bytes() == struct.pack(">II", 5, 4196)
    assert index.time_bytes() == struct.pack(">qI", 9, 5)


def test_a_time_entry_is_the_largest_so_far_and_strictly_rises() -> None:
    index, _ = grown([(1, 5000, 7), (1, 5000, 3), (1, 5000, 3), (1, 5000, 8), (1, 10, 6)])
    assert index.time_bytes() == struct.pack(">qIqI", 7, 0, 8, 3)
    index.append(5, 20010, 10, 9, 4096)
    index.add_time_entry()
    index.add_time_entry()
    assert index.time_bytes() == struct.pack(">qIqIqI", 7, 0, 8, 3, 9, 5)


def test_batches_without_timestamps_leave_the_time_index_empty() -> None:
    index, _ = grown([(1, 5000, -1)] * 5)
    index.add_time_entry()
    assert index.entries == (4, 0)


@given(batches=appends, probe=st.integers(0, 900))
def test_lookups_agree_with_a_linear_search(batches: Triples, probe: int) -> None:
    index, placed = grown(batches)
    position, claimed = index.position_before(probe)
    noted = [(last, position) for last, position, _ in placed if (last, position) in noted_of(index)]
    below = [(position, last) for last, position in noted if last <= probe]
    assert (position, claimed) == (below[-1] if below else (0, None))
    after = index.position_after(probe)
    if after is not None:
        first_after = next(position for (last, _, _), (_, position, _) in pairwise(placed) if last >= probe)
        assert after >= first_after
    known = index.offset_before_time(probe)
    assert all(timestamp < probe for last, _, timestamp in placed if last <= known)


def noted_of(index: SegmentIndex) -> set[tuple[int, int]]:
    return {(last, position) for last, position in struct.iter_unpack(">II", index.offset_bytes())}


@given(batches=appends, cut=st.integers(0, 900))
def test_files_parse_to_what_was_written_and_truncation_keeps_earlier_entries(
    batches: Triples, cut: int
) -> None:
    index, placed = grown(batches)
    end = placed[-1][0] + 1 if placed else 0
    size = placed[-1][1] + batches[-1][1] if placed else 0
    parsed = SegmentIndex.parse(index.offset_bytes(), index.time_bytes(), end, size)
    assert parsed is not None
    assert (parsed.offset_bytes(), parsed.time_bytes()) == (index.offset_bytes(), index.time_bytes())
    assert parsed.entries_below(cut) == tuple(
        sum(value < cut for value in column)
        for column in (
            [last for last, _ in sorted(noted_of(index))],
            [offset for _, offset in struct.iter_unpack(">qI", index.time_bytes())],
        )
    )
    before = parsed.entries_below(cut)
    parsed.truncate(cut)
    assert parsed.entries == before


@settings(deadline=None)
@given(batches=appends, data=st.data())
def test_continuing_from_files_gives_the_same_index(batches: Triples, data: st.DataObject) -> None:
    whole, placed = grown(batches)
    split = data.draw(st.integers(0, len(batches)))
    index, _ = grown(batches[:split])
    resumed = index.resume_position()
    for (last, position, timestamp), (_, size, _) in zip(placed, batches, strict=True):
        if position < resumed:
            continue
        if position == resumed and resumed:  # the entry's own batch
            index.bytes_since_entry += size
            if timestamp > index.max_timestamp:
                index.max_timestamp, index.max_timestamp_offset = timestamp, last
            continue
        if index.entries[0] and (last, position) in noted_of(index):
            continue
        index.append(last, position, size, timestamp, 4096)
    assert index.offset_bytes() == whole.offset_bytes()
    assert index.time_bytes() == whole.time_bytes()
    assert index.max_timestamp == whole.max_timestamp


def test_files_that_cannot_be_valid_are_rejected() -> None:
    good = struct.pack(">IIII", 5, 4200, 9, 9000)
    times = struct.pack(">qIqI", 3, 5, 4, 9)
    assert SegmentIndex.parse(good, times, 20, 20_000) is not None
    assert SegmentIndex.parse(struct.pack(">IIII", 5, 4200, 5, 9000), times, 20, 20_000) is None
    assert SegmentIndex.parse(struct.pack(">IIII", 5, 4200, 9, 100), times, 20, 20_000) is None
    assert SegmentIndex.parse(good + bytes(8), times, 20, 20_000) is None
    assert SegmentIndex.parse(good, struct.pack(">qIqI", 4, 5, 4, 9), 20, 20_000) is None
    assert (
        SegmentIndex.parse(good, times, 20, 8000) is None
    )  # a position beyond the log with offsets inside it
    ahead = SegmentIndex.parse(good, times, 8, 9000)
    assert ahead is not None
    assert ahead.entries == (1, 1)  # entries of batches beyond the end are left out
    torn = SegmentIndex.parse(good + b"\x00\x00\x01", times[:-1], 20, 20_000)
    assert torn is not None
    assert torn.entries == (2, 1)


def test_an_index_is_full_when_one_more_entry_would_not_fit_its_file() -> None:
    index, _ = grown([(1, 5000, n) for n in range(6)])
    assert index.entries == (5, 5)
    assert index.is_full(40)
    assert not index.is_full(84)
    assert index.is_full(72)  # the time index: six entries of 12 bytes, one of them reserved for the seal


def test_arrivals_are_a_second_apart_and_rise() -> None:
    arrivals = ArrivalIndex()
    for wall, offset in ((1000, 0), (1500, 3), (1999, 5), (2000, 8), (2500, 9)):
        arrivals.add(wall, offset)
    arrivals.seal(9)
    assert list(zip(arrivals.times, arrivals.offsets, strict=True)) == [(1000, 0), (2000, 8), (2500, 9)]
    assert [arrivals.arrival_of(offset) for offset in (0, 7, 8, 9, 100)] == [1000, 1000, 2000, 2500, 2500]
    offsets = [
        arrivals.first_at_or_after(wall) for wall in (0, 1000, 1001, 1999, 2000, 2400, 2500, 3499, 3500)
    ]
    assert offsets == [0, 0, 0, 0, 8, 8, 8, 9, None]
    again = ArrivalIndex.parse(arrivals.to_bytes())
    assert again.to_bytes() == arrivals.to_bytes()
    assert again.last_ms == 2500
    assert ArrivalIndex.parse(arrivals.to_bytes() + arrivals.to_bytes()).to_bytes() == arrivals.to_bytes()
    assert ArrivalIndex.parse(arrivals.to_bytes()[:-1]).last_ms == 2000

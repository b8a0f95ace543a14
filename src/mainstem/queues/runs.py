"""Runs of positions, and their encoding in records and snapshots.

A run is (first, end), the end being exclusive. Encoded, a list of runs is a pair of varints (LEB128, as in
Protocol Buffers) for each: the gap since the end of the run before it (the base, for the first), and its
length. Acknowledging a single position near the one before takes 2 bytes, 500 contiguous ones 3 bytes.

Owns: the encoding and the arithmetic of runs. Refuses: to know what state the positions have.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

Run: TypeAlias = tuple[int, int]
"""(first, end): the positions first, first + 1, ... end - 1."""

POSITION_END = 2**63
"""Positions are below this, as offsets are."""
VARINT_BYTES_MAX = 9


def encode_runs(base: int, runs: Sequence[Run]) -> bytes:
    """The runs as varints. They are ascending, disjoint and not empty, and begin at the base or after it;
    runs that touch are merged. ValueError if they are not."""
    out = bytearray()
    previous = base
    gap = length = 0
    for first, end in runs:
        if first < previous or end <= first:
            raise ValueError(f"runs must ascend and must not be empty: {first}..{end} after {previous}")
        if first == previous and length:
            length += end - first
        else:
            if length:
                _append_pair(out, gap, length)
            gap, length = first - previous, end - first
        previous = end
    if previous > POSITION_END:
        raise ValueError(f"no position is so high: {previous}")
    if length:
        _append_pair(out, gap, length)
    return bytes(out)


def _append_pair(out: bytearray, gap: int, length: int) -> None:
    if gap < 0x80 and length < 0x80:  # most are
        out.append(gap)
        out.append(length)
        return
    for number in (gap, length):
        while number > 0x7F:
            out.append(number & 0x7F | 0x80)
            number >>= 7
        out.append(number)


def decode_runs(base: int, data: bytes) -> list[Run]:
    """The runs that `encode_runs` was given, merged. ValueError if the bytes are damaged: a varint that is
    cut off or too long, an empty run, runs that touch, a position that is too high."""
    runs: list[Run] = []
    index, size, previous = 0, len(data), base
    while index < size:
        # Most varints are a single byte; here without a call.
        if (gap := data[index]) < 0x80:
            index += 1
        else:
            gap, index = _read_varint(data, index)
        if index < size and (length := data[index]) < 0x80:
            index += 1
        else:
            length, index = _read_varint(data, index)
        first = previous + gap
        previous = first + length
        if not length or (not gap and runs) or previous > POSITION_END:
            raise ValueError(f"a damaged list of runs: gap {gap}, length {length}")
        runs.append((first, previous))
    return runs


def _read_varint(data: bytes, index: int) -> tuple[int, int]:
    number = shift = 0
    for index in range(index, min(index + VARINT_BYTES_MAX, len(data))):  # noqa: B020  (goes on from there)
        byte = data[index]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if not byte and shift:
                raise ValueError("a varint with needless bytes")
            return number, index + 1
        shift += 7
    raise ValueError("a varint that is cut off or too long")


def merge_runs(runs: Iterable[Run]) -> list[Run]:
    """The same positions as ascending, disjoint runs that do not touch. The runs may overlap, in any order;
    empty ones are left out."""
    merged: list[Run] = []
    for first, end in sorted(runs):
        if end <= first:
            continue
        if merged and first <= merged[-1][1]:
            if end > merged[-1][1]:
                merged[-1] = (merged[-1][0], end)
        else:
            merged.append((first, end))
    return merged


def runs_of(positions: Iterable[int]) -> list[Run]:
    """The runs that consist of these positions, which may be in any order."""
    ascending = sorted(positions)
    if not ascending:
        return []
    first = last = ascending[0]
    if ascending[-1] - first == len(ascending) - 1 == len(set(ascending)) - 1:
        return [(first, first + len(ascending))]
    runs: list[Run] = []
    for position in ascending:
        if position > last + 1:
            runs.append((first, last + 1))
            first = position
        last = position
    runs.append((first, last + 1))
    return runs


def count_positions(runs: Iterable[Run]) -> int:
    """How many positions the runs have; the runs are disjoint."""
    return sum(end - first for first, end in runs)


def has_position(runs: Sequence[Run], position: int) -> bool:
    """Whether a position is in runs, which are ascending and disjoint."""
    index = bisect_right(runs, position, key=lambda run: run[1])
    return index < len(runs) and runs[index][0] <= position


def add_run(runs: list[Run], first: int, end: int) -> None:
    """Appends a run that is not below the last one, merging it with that if they touch."""
    if runs and runs[-1][1] == first:
        runs[-1] = (runs[-1][0], end)
    else:
        runs.append((first, end))


def complement(first: int, end: int, runs: Iterable[Run]) -> list[Run]:
    """What the runs, which are ascending and end by `end`, leave out from `first` on."""
    left: list[Run] = []
    for low, high in runs:
        if first < low:
            left.append((first, low))
        first = max(first, high)
    if first < end:
        left.append((first, end))
    return left


def cut_runs(runs: Iterable[Run], size: int) -> Iterator[list[Run]]:
    """The runs, cut into parts of `size` positions; the last part may have fewer."""
    part: list[Run] = []
    room = size
    for first, end in runs:
        while first < end:
            stop = min(end, first + room)
            part.append((first, stop))
            room -= stop - first
            first = stop
            if not room:
                yield part
                part, room = [], size
    if part:
        yield part

"""Pages: the states of 4,096 positions, open for changes or frozen to bytes.

An open page has a byte a position for its state and 4 for its lease, so that operations on a range are
slices. A frozen page is bytes, in memory as in a snapshot:

    flags 1 B | count 1 B or bitmap 512 B | positions | states | words | tries or counts | ahead

    flags   1: bitmap   2: states   4: words   8: tries   16: ahead   32: counts   64: deflated
    count   of positions that are not done, and not in `ahead`: 0 to 128, which follow in 2 B each, ascending;
            or a bitmap of them, the first position in the highest bit of its first byte
    states  1 B for each of them, unless all are ready
    words   4 B for each of them, unless all are 0
            deflated: each with the bits in which it differs from the one before
    tries   count 2 B, then for each, ascending: position 2 B, acquisitions 2 B, failures 2 B
    counts  in place of tries, where more than 96 positions have some: acquisitions 2 B, failures 2 B for each
            position that is not done, both 0 for none
    ahead   2 B: from this position on, all are ahead of the scan
    deflated  what follows the positions is a raw deflate stream (RFC 1951): of columns of 512 B and more,
            where that is smaller

All numbers are big-endian. What fails together is alike, so the columns of a page of retries deflate to about
a bit a position, where they are 9 bytes. An isolated position takes 4 bytes, and those of all pages with the
same one are a single object.

Owns: the layout of a page in both forms. Refuses: to know what a state means for leases and counters.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterable
from enum import IntEnum
from itertools import accumulate, compress, pairwise
from operator import xor
from typing import Final

from mainstem.queues.tries import TryCounts

PAGE_SHIFT: Final = 12
PAGE_POSITIONS: Final = 1 << PAGE_SHIFT
PAGE_MASK: Final = PAGE_POSITIONS - 1
LISTED_MAX: Final = 128
"""A frozen page with at most as many positions lists them; with more it has a bitmap."""


class PositionState(IntEnum):
    """Where a position is in its life, for one view."""

    AHEAD = 0
    """Not looked at yet."""
    READY = 1
    """May be acquired."""
    LEASED = 2
    """Belongs to a consumer."""
    WAITING = 3
    """Becomes ready when it is due."""
    PARKED = 4
    """Behind an earlier position of its key."""
    DYING = 5
    """Rejected or failed too often; done when its dead letter is durable."""
    DONE = 6
    """Acknowledged, excluded by a filter, trimmed, or dead."""


# As plain integers, for the byte operations below.
AHEAD: Final = 0
READY: Final = 1
LEASED: Final = 2
WAITING: Final = 3
PARKED: Final = 4
DYING: Final = 5
DONE: Final = 6

FILL: Final = tuple(bytes([state]) * PAGE_POSITIONS for state in range(7))
"""A whole page of each state; slices of it set ranges."""

ALL_DONE: Final = b"\0\0"
"""A frozen page all of whose positions are done."""

_BITMAP, _STATES, _WORDS, _TRIES, _AHEAD, _COUNTS, _DEFLATED = 1, 2, 4, 8, 16, 32, 64
_DEFLATE_MIN_BYTES = 512
"""Columns that are shorter are not deflated: it would gain little."""
_COLUMNS_MAX_BYTES = PAGE_POSITIONS * 9 + 2
"""States, words, counts and ahead of a whole page."""
_BITMAP_BYTES = PAGE_POSITIONS // 8
_DONE_BYTE = bytes([DONE])
_NOT_DONE = bytes(state != DONE for state in range(256))
_NOT_DONE_DIGITS = bytes(ord("0") if state == DONE else ord("1") for state in range(256))
_READY_OR_DONE = bytes.maketrans(b"01", bytes([DONE, READY]))
_SOFT_TO_READY = bytes.maketrans(bytes([LEASED, PARKED]), bytes([READY, READY]))
_ZERO_WORDS = bytes(4 * PAGE_POSITIONS)
_lone: dict[bytes, bytes] = {}
"""Frozen pages of at most 4 bytes, each a single object: at most 8,193 of them."""


class OpenPage:
    """A page that can be changed."""

    __slots__ = ("states", "tries", "undone", "words")

    def __init__(self, states: bytearray, words: array[int] | None = None) -> None:
        self.states = states
        self.words: array[int] = array("I", _ZERO_WORDS) if words is None else words
        """Leased, ready and waiting: the low 32 bits of the last lease's number, 0 if it had none in this
        life of the server. Dying: the reason."""
        self.tries = TryCounts()
        self.undone = PAGE_POSITIONS - states.count(DONE)
        """How many positions are not done."""

    def copied(self) -> OpenPage:
        """A copy for `freeze(durable=True)`: words, which are 16 KB, only where that reads them."""
        page = OpenPage(self.states[:], self.words[:] if DYING in self.states else _NO_WORDS)
        page.tries = self.tries.copied()
        return page


_NO_WORDS: Final[array[int]] = array("I", _ZERO_WORDS)
"""Never changed."""


def freeze(page: OpenPage, durable: bool = False) -> bytes:
    """The page as bytes. Durable: without what ends with the server, the leases; so leased and parked
    positions are ready, and only dying ones have their word."""
    states = bytes(page.states)
    ahead = len(states.rstrip(FILL[AHEAD]))
    states = states[:ahead] + FILL[DONE][ahead:]
    mask = states.translate(_NOT_DONE)
    words = array("I", compress(page.words, mask))
    own_states = states.translate(None, _DONE_BYTE)
    if durable:
        if DYING in own_states:
            words = array("I", [w if s == DYING else 0 for w, s in zip(words, own_states, strict=True)])
        else:
            words = array("I")
        own_states = own_states.translate(_SOFT_TO_READY)
    undone = len(own_states)
    if undone <= LISTED_MAX:
        flags, places = 0, bytes([undone]) + _big_endian(array("H", compress(range(PAGE_POSITIONS), mask)))
    else:
        flags, places = _BITMAP, int(states.translate(_NOT_DONE_DIGITS), 2).to_bytes(_BITMAP_BYTES, "big")
    columns = b""
    if own_states.count(READY) != undone:
        flags |= _STATES
        columns = own_states
    if any(words):
        flags |= _WORDS
        columns += _big_endian(words)
    if page.tries.used:
        counts = page.tries.column(mask)
        flags |= _TRIES if counts is None else _COUNTS
        columns += page.tries.encode() if counts is None else _big_endian(counts)
    if ahead < PAGE_POSITIONS:
        flags |= _AHEAD
        columns += ahead.to_bytes(2, "big")
    if len(columns) >= _DEFLATE_MIN_BYTES:
        flags, columns = flags | _DEFLATED, _deflated(flags, undone, columns)
    data = bytes([flags]) + places + columns
    return _lone.setdefault(data, data) if len(data) <= 4 else data


def _deflated(flags: int, undone: int, columns: bytes) -> bytes:
    if flags & _WORDS:
        first = undone if flags & _STATES else 0
        end = first + 4 * undone
        words = int.from_bytes(columns[first:end], "big")
        columns = columns[:first] + (words ^ words >> 32).to_bytes(4 * undone, "big") + columns[end:]
    return zlib.compress(columns, 1, -zlib.MAX_WBITS)


def thaw(data: bytes) -> OpenPage:
    """The page of these bytes. ValueError if they are damaged."""
    flags, places, rest = _split(data)
    states, chosen = _positions(flags, places)
    if flags & _STATES:
        column, rest = _take(rest, len(chosen))
        if max(column, default=0) >= DONE:
            raise ValueError("a damaged page: an unknown state")
        for index, state in zip(chosen, column, strict=True):
            states[index] = state
    words = array("I", _ZERO_WORDS)
    if flags & _WORDS:
        column, rest = _take(rest, 4 * len(chosen))
        numbers: Iterable[int] = _native(column, "I")
        for index, word in zip(
            chosen, accumulate(numbers, xor) if flags & _DEFLATED else numbers, strict=True
        ):
            words[index] = word
    tries = TryCounts()
    if flags & _TRIES:
        tries, rest = TryCounts.decode(rest)
    elif flags & _COUNTS:
        column, rest = _take(rest, 4 * len(chosen))
        tries = TryCounts.of_column(chosen, _native(column, "I"))
    if flags & _AHEAD:
        column, rest = _take(rest, 2)
        ahead = int.from_bytes(column, "big")
        if ahead >= PAGE_POSITIONS or states[ahead:].count(DONE) < PAGE_POSITIONS - ahead:
            raise ValueError("a damaged page: positions after its end")
        states[ahead:] = FILL[AHEAD][ahead:]
    if rest:
        raise ValueError("a damaged page: bytes after its end")
    page = OpenPage(states, words)
    page.tries = tries
    return page


def _positions(flags: int, places: bytes) -> tuple[bytearray, list[int]]:
    """(states, as if all were ready or done; the ready ones, as far as columns need them)."""
    if flags & _BITMAP:
        bits = int.from_bytes(places, "big")
        states = bytearray(format(bits, f"0{PAGE_POSITIONS}b").encode().translate(_READY_OR_DONE))
        columns = flags & (_STATES | _WORDS | _COUNTS)
        return states, list(compress(range(PAGE_POSITIONS), states.translate(_NOT_DONE))) if columns else []
    states = bytearray(FILL[DONE])
    chosen = list(_native(places, "H"))
    if any(a >= b for a, b in pairwise(chosen)) or chosen[-1:] > [PAGE_MASK]:
        raise ValueError("a damaged page: its positions do not ascend")
    for index in chosen:
        states[index] = READY
    return states, chosen


def undone_states(data: bytes) -> bytes:
    """The states of the positions of a frozen page that are not done, ascending. For a start, which counts
    them: of words and tries it checks the sizes only. ValueError as `thaw`."""
    flags, places, rest = _split(data)
    count = int.from_bytes(places, "big").bit_count() if flags & _BITMAP else len(places) // 2
    column = FILL[READY][:count]
    if flags & _STATES:
        column, rest = _take(rest, count)
        if max(column, default=0) >= DONE:
            raise ValueError("a damaged page: an unknown state")
    if flags & _WORDS:
        _, rest = _take(rest, 4 * count)
    if flags & _TRIES:
        rest = TryCounts.behind(rest)
    elif flags & _COUNTS:
        _, rest = _take(rest, 4 * count)
    if flags & _AHEAD:
        _, rest = _take(rest, 2)
    if rest:
        raise ValueError("a damaged page: bytes after its end")
    return column


def undone_of(data: bytes) -> int:
    """How many positions of a frozen page are not done, before those ahead. ValueError as `thaw`."""
    flags, places, _ = _split(data)
    return int.from_bytes(places, "big").bit_count() if flags & _BITMAP else len(places) // 2


def is_all_ready(data: bytes) -> bool:
    """Whether all positions of a frozen page that are not done are ready and were never leased."""
    return bool(data) and not data[0] & ~_BITMAP


def _split(data: bytes) -> tuple[int, bytes, bytes]:
    """(flags, positions or bitmap, columns, inflated)."""
    if len(data) < 2 or data[0] > 127 or (data[0] & _TRIES and data[0] & _COUNTS):
        raise ValueError("a damaged page: unknown flags")
    if data[0] & _BITMAP:
        places, rest = _take(data[1:], _BITMAP_BYTES)
    else:
        if data[1] > LISTED_MAX:
            raise ValueError("a damaged page: too many positions in its list")
        places, rest = _take(data[2:], 2 * data[1])
    return data[0], places, _inflated(rest) if data[0] & _DEFLATED else rest


def _inflated(data: bytes) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        columns = stream.decompress(data, _COLUMNS_MAX_BYTES + 1)
    except zlib.error as error:
        raise ValueError(f"a damaged page: {error}") from None
    if not stream.eof or stream.unused_data or len(columns) > _COLUMNS_MAX_BYTES:
        raise ValueError("a damaged page: its columns do not end where it does")
    return columns


def _take(data: bytes, size: int) -> tuple[bytes, bytes]:
    if len(data) < size:
        raise ValueError("a damaged page: it is cut off")
    return data[:size], data[size:]


def _big_endian(numbers: array[int]) -> bytes:
    if sys.byteorder == "little":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _native(data: bytes, code: str) -> array[int]:
    numbers = array(code, data)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers

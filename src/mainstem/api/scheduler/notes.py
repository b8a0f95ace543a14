"""What the commit of a partition says beside its position: the notes, as text in Kafka's commit metadata.

Owns: the format. Refuses: to raise for notes of another program, or of a later version: they are no notes.

Text: `ms1:` and base64url, without padding, of these bytes. Numbers are unsigned varints (LEB128).

    flags            1: running, 2: what is done is a bitmap
    position         that the notes were committed with
    started_max      0, or 1 + a number of offsets from the position: see `started_end`
    suspects_max     the same for `suspects_end`
    suspects         their number, then of each: offset - (the last one + 1, or the position), deaths
    done             bytes, and in them: a bit for each offset from the position, lowest bit first; or pairs:
                     offsets that are not done, then offsets that are
    CRC-32           of all before it, 4 bytes, big-endian

A mirror of a cluster copies notes beside positions that it has translated. Such notes are about other events,
so notes name their position, and count only with it.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mainstem import base64url

NOTES_CHARACTERS_MAX = 4_000
"""Kafka allows 4,096 bytes (`offset.metadata.max.bytes`), and librdkafka sends one more than there are."""
DONE_BYTES_MAX = 2_250
"""Of what is done, encoded; the rest is for what is in flight."""
SUSPECTS_MAX = 100
"""Events that notes list by their offsets."""
BITMAP_OFFSETS_MAX = DONE_BYTES_MAX * 8
"""Whatever is done of that many offsets after the position has room in the notes."""
RANGE_BYTES_MAX = 10
"""Of a range of done offsets, if it is within 2^35 offsets."""

_PREFIX = "ms1:"
_RUNNING, _BITMAP = 1, 2

OffsetRange = tuple[int, int]
"""Offsets from the first up to, but not including, the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitNotes:
    """What is known of a partition beyond the group's position in it."""

    position: int
    is_running: bool = False
    """Events may be in flight. If the owner of the partition is gone, it has not stopped, but died."""
    started_end: int = 0
    """No event from this offset on has been started; 0: not known."""
    done: Sequence[OffsetRange] = ()
    """Offsets after the position that are done, ascending, none empty or touching another one."""
    suspects: dict[int, int] = field(default_factory=dict)
    """Offsets of events that were in flight when their process died, or are now -> how often it has died then
    if it dies now. Ascending."""
    suspects_end: int = 0
    """Of the events before this offset, those that are not done and not listed were in flight at two deaths,
    perhaps."""


def encode_notes(notes: CommitNotes) -> str:
    """The text. What is done must have room: see `encoded_ranges` and BITMAP_OFFSETS_MAX. Of the suspects,
    SUSPECTS_MAX are listed."""
    ranges = encoded_ranges(notes.position, notes.done)
    span = notes.done[-1][1] - notes.position if notes.done else 0
    is_bitmap = len(ranges) > (span + 7) // 8
    done = _bitmap(notes.position, notes.done) if is_bitmap else ranges
    assert len(done) <= DONE_BYTES_MAX, "no event was started whose end might not have room"
    data = bytearray()
    _put(data, notes.is_running * _RUNNING | is_bitmap * _BITMAP)
    _put(data, notes.position)
    for end in (notes.started_end, notes.suspects_end):
        _put(data, max(0, end - notes.position) + 1 if end else 0)
    suspects = list(notes.suspects.items())[:SUSPECTS_MAX]
    _put(data, len(suspects))
    following = notes.position
    for offset, deaths in suspects:
        _put(data, offset - following)
        _put(data, deaths)
        following = offset + 1
    _put(data, len(done))
    data += done
    data += zlib.crc32(data).to_bytes(4)
    text = _PREFIX + base64url.encode(data)
    assert len(text) <= NOTES_CHARACTERS_MAX
    return text


def decode_notes(text: str, position: int) -> CommitNotes | None:
    """The notes that were committed with this position; None: there are none."""
    if not text.startswith(_PREFIX) or len(text) > NOTES_CHARACTERS_MAX:
        return None
    try:
        encoded = text[len(_PREFIX) :]
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(data) < 4 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:]):
        return None
    numbers = _Numbers(data[:-4])
    try:
        notes = _read(numbers)
    except (IndexError, ValueError):
        return None
    return notes if notes.position == position else None


def _read(numbers: _Numbers) -> CommitNotes:
    flags, position = next(numbers), next(numbers)
    started, suspected = next(numbers), next(numbers)
    suspects = {}
    following = position
    for _ in range(next(numbers)):
        offset = following + next(numbers)
        suspects[offset] = next(numbers)
        following = offset + 1
    done = numbers.take(next(numbers))
    return CommitNotes(
        position=position,
        is_running=bool(flags & _RUNNING),
        started_end=position + started - 1 if started else 0,
        done=tuple(_bitmap_ranges(position, done) if flags & _BITMAP else _ranges(position, done)),
        suspects=suspects,
        suspects_end=position + suspected - 1 if suspected else 0,
    )


def encoded_ranges(position: int, done: Iterable[OffsetRange]) -> bytes:
    """What is done as pairs of numbers: at most RANGE_BYTES_MAX for each range."""
    data = bytearray()
    following = position
    for begin, end in done:
        _put(data, begin - following)
        _put(data, end - begin)
        following = end
    return bytes(data)


def _ranges(position: int, data: bytes) -> Iterator[OffsetRange]:
    numbers = _Numbers(data)
    following = position
    while numbers.left:
        begin = following + next(numbers)
        following = begin + next(numbers)
        yield begin, following


def _bitmap(position: int, done: Sequence[OffsetRange]) -> bytes:
    bits = 0
    for begin, end in done:
        bits |= ((1 << (end - begin)) - 1) << (begin - position)
    return bits.to_bytes((done[-1][1] - position + 7) // 8, "little")


def _bitmap_ranges(position: int, data: bytes) -> Iterator[OffsetRange]:
    bits, offset = int.from_bytes(data, "little"), position
    while bits:
        zeros = (bits & -bits).bit_length() - 1
        bits >>= zeros
        ones = (~bits & (bits + 1)).bit_length() - 1
        bits >>= ones
        yield offset + zeros, offset + zeros + ones
        offset += zeros + ones


def _put(data: bytearray, number: int) -> None:
    assert number >= 0
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)


class _Numbers:
    """Reads varints. IndexError: the bytes end; ValueError: a number has more than 64 bits."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._next = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._next

    def __next__(self) -> int:
        number = 0
        for shift in range(0, 70, 7):
            byte = self._data[self._next]
            self._next += 1
            number |= (byte & 0x7F) << shift
            if byte <= 0x7F:
                return number
        raise ValueError("a number of more than 64 bits")

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise IndexError
        self._next += count
        return self._data[self._next - count : self._next]

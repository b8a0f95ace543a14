"""Searches raw bytes for the byte clauses of a query, so that most batches are never decoded.

Owns: fast searches for the needles of a clause. A negative result is certain, a positive one is not. Refuses:
to derive clauses, and to prove that they exclude no match (`query/necessary_terms.py`).

RE2 searches a memory map directly: for one literal at 2 to 3 GB/s ignoring case, and at 8 to 15 GB/s with
exact case if the first byte is rare. Python's `find` and `lower` reach 1 GB/s, and RE2 with several literals
at once 0.6 GB/s. So each literal has its own search, over many batches at once, and its digits, which have no
case, are searched first.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mainstem.log.disk.contract import Buffer
from mainstem.log.storage.record_batch import Record
from mainstem.search.query.necessary_terms import FOLDS_INTO_ASCII, Clause
from mainstem.search.text.regex import compiled_raw

_EXPONENTS = tuple(b"%de" % digit for digit in range(10))
_DIGITS = re.compile(rb"[0-9]{3,}")
_DIGITS_TRIES = 8
"""How often a search may find the digits without the rest of the needle. After that, digits are not rare in
these bytes and the whole needle is searched."""
_EXPONENT = rb"[0-9][eE][+-]?[0-9]+[\s,\]}]"
"""A number with an exponent and the character that follows it in a field. Without that character, every hash
with a digit before an e would match."""


def _needle_escape() -> bytes:
    """An expression for every \\u escape of a character that is in a needle or folds into one."""
    plain = [chr(point) for point in range(128) if chr(point).isalnum()]
    codes = sorted(f"{ord(character):04x}" for character in [*plain, *FOLDS_INTO_ASCII])
    return rb"\\u(?i:" + "|".join(codes).encode() + b")"


_ESCAPE = compiled_raw(rb"\\u").search
_NEEDLE_ESCAPE = compiled_raw(_needle_escape()).search


def alternatives(clause: Clause) -> tuple[bytes, ...]:
    """The byte strings of a clause: `raw.lower()` of a matching event has at least one of them."""
    strings = [needle.encode() for needle in sorted(clause.needles)]
    strings += sorted(raw.lower() for raw in clause.raw)
    return (*strings, *(_EXPONENTS if clause.or_exponent else ()))


class BytePrefilter:
    """Tests whether batches or single records may satisfy one clause."""

    def __init__(self, clause: Clause) -> None:
        self._needles = tuple(needle.encode() for needle in sorted(clause.needles))
        self._raw = tuple(sorted(raw.lower() for raw in clause.raw))
        self._or_exponent = clause.or_exponent
        self.selectivity = (not clause.or_exponent, min(map(len, clause.needles)))
        """Sort key: the clause with the largest value excludes most and is tested first."""
        patterns = [_EXPONENT] if clause.or_exponent else []
        patterns += [b"".join(b"\\x%02x" % byte for byte in raw) for raw in sorted(clause.raw)]
        searches = [_search(needle) for needle in self._needles]
        self._searches = (*searches, *(compiled_raw(pattern).search for pattern in patterns))

    def may_match(self, raw: Buffer) -> bool:
        """Whether bytes of many records may satisfy the clause. It ignores needles that are written with \\u
        escapes: see `may_hide_needle`."""
        return any(search(raw) is not None for search in self._searches)

    def stretches_that_may_match(self, raw: Buffer, ends: Sequence[int]) -> set[int]:
        """Tests many stretches of bytes, such as batches, at once. They lie side by side in `raw` and end at
        `ends`. Returns the numbers of those that may satisfy the clause, each judged as by `may_match`."""
        stretches: set[int] = set()
        for search in self._searches:
            position = 0
            while position < ends[-1] and (match := search(raw, position)) is not None:
                stretch = bisect_right(ends, match.start())
                stretches.add(stretch)
                position = ends[stretch]
        return stretches

    def record_may_match(self, record: Record) -> bool:
        """Whether one record may satisfy the clause: its value, its key or a header's value may have a
        needle."""
        if record.value is not None and self._text(record.value):
            return True
        if record.key is not None and self._text(record.key):
            return True
        return any(value is not None and self._text(value) for _, value in record.headers)

    def _text(self, raw: bytes) -> bool:
        if self._or_exponent:
            return True
        lowered = raw.lower()
        for needle in self._needles:
            if needle in lowered:
                return True
        if not raw.isascii():
            for other in self._raw:
                if other in lowered:
                    return True
        return b"\\" in raw and _NEEDLE_ESCAPE(raw) is not None


def _search(needle: bytes) -> Callable[..., Any]:
    """A function `search(raw, position)`, as of a compiled expression, for a needle in any ASCII case."""
    if needle.isdigit():
        return compiled_raw(needle).search  # type: ignore[no-any-return]
    folded = compiled_raw(b"(?i:" + needle + b")").search
    digits = max(_DIGITS.findall(needle), key=len, default=None)
    if digits is None:
        return folded  # type: ignore[no-any-return]
    digits_offset, find_digits = needle.index(digits), compiled_raw(digits).search

    def search(raw: Buffer, position: int = 0) -> Any:
        for _ in range(_DIGITS_TRIES):
            match = find_digits(raw, position + digits_offset)
            if match is None:
                return None
            begin = match.start() - digits_offset
            whole = folded(raw, begin, begin + len(needle))
            if whole is not None:
                return whole
            position = begin + 1
        return folded(raw, position)

    return search


def may_hide_needle(raw: Buffer, begin: int, end: int) -> bool:
    """Whether the bytes from `begin` to `end` have a \\u escape of a character that may be in a needle: then
    a search for the needle's bytes may miss it."""
    first = _ESCAPE(raw, begin, end)
    return first is not None and _NEEDLE_ESCAPE(raw, first.start(), end) is not None


def candidate_stretches(prefilters: Iterable[BytePrefilter], raw: Buffer, ends: Sequence[int]) -> set[int]:
    """The numbers of the stretches of `raw`, which end at `ends`, that may satisfy all clauses or that may
    hide a needle in a \\u escape."""
    candidates = set(range(len(ends)))
    for prefilter in prefilters:
        candidates &= prefilter.stretches_that_may_match(raw, ends)
        if not candidates:
            break
    position = 0
    while position < ends[-1] and (match := _ESCAPE(raw, position)) is not None:
        stretch = bisect_right(ends, match.start())
        if stretch not in candidates and _NEEDLE_ESCAPE(raw, match.start(), ends[stretch]) is not None:
            candidates.add(stretch)
        position = ends[stretch]
    return candidates

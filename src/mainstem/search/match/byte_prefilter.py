"""Clauses about bytes, made fast.

Owns: how raw bytes are searched, cheapest first. The proofs are in `necessary_terms`.

RE2 takes a view of the file as it is and looks for one literal at 2 to 3 GB/s with case aside, and at 8 to 15
GB/s as it stands if its first byte is rare; Python's own `find` and `lower` take 1 GB/s, and RE2 several
literals at once 0.6 GB/s: so each literal is looked for by itself, over many batches at once, and first its
digits, which have no case.
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
"""So often digits may be found without the rest of the needle, in one search: then they are not rare here."""
_EXPONENT = rb"[0-9][eE][+-]?[0-9]+[\s,\]}]"
"""The end of a number in a field, which always has something after it. Hashes are full of digits and e."""


def _hiding() -> bytes:
    """An expression for every \\u escape of a character that is in a needle, or folds into one that is."""
    plain = [chr(point) for point in range(128) if chr(point).isalnum()]
    codes = sorted(f"{ord(each):04x}" for each in [*plain, *FOLDS_INTO_ASCII])
    return rb"\\u(?i:" + "|".join(codes).encode() + b")"


_ESCAPE = compiled_raw(rb"\\u").search
_HIDING = compiled_raw(_hiding()).search


def alternatives(clause: Clause) -> tuple[bytes, ...]:
    """What to look for in `raw.lower()`, any of it."""
    found = [needle.encode() for needle in sorted(clause.needles)]
    found += sorted(raw.lower() for raw in clause.raw)
    return (*found, *(_EXPONENTS if clause.or_exponent else ()))


class BytePrefilter:
    """Whether bytes may keep one clause: batches, or single records."""

    def __init__(self, clause: Clause) -> None:
        self._needles = tuple(needle.encode() for needle in sorted(clause.needles))
        self._raw = tuple(sorted(raw.lower() for raw in clause.raw))
        self._or_exponent = clause.or_exponent
        self.selectivity = (not clause.or_exponent, min(map(len, clause.needles)))
        """Larger: more is excluded. Of several clauses, the best one is asked first."""
        patterns = [_EXPONENT] if clause.or_exponent else []
        patterns += [b"".join(b"\\x%02x" % byte for byte in raw) for raw in sorted(clause.raw)]
        searches = [_search(needle) for needle in self._needles]
        self._searches = (*searches, *(compiled_raw(pattern).search for pattern in patterns))

    def may_match(self, raw: Buffer) -> bool:
        """Of many records at once. What is behind \\u is not looked at: see `may_hide_needle`."""
        return any(search(raw) is not None for search in self._searches)

    def stretches_that_may_match(self, raw: Buffer, ends: Sequence[int]) -> set[int]:
        """Which of the stretches of `raw` that end at `ends`, one after the other, may keep the clause. As
        `may_match`, in one go."""
        found: set[int] = set()
        for search in self._searches:
            position = 0
            while position < ends[-1] and (match := search(raw, position)) is not None:
                at = bisect_right(ends, match.start())
                found.add(at)
                position = ends[at]
        return found

    def record_may_match(self, record: Record) -> bool:
        """Of one. Every text lies in one of value, key and header values, and so does every needle."""
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
        return b"\\" in raw and _HIDING(raw) is not None


def _search(needle: bytes) -> Callable[..., Any]:
    """Looks for a needle, ASCII case aside: as a compiled expression's `search(raw, position)`."""
    if needle.isdigit():
        return compiled_raw(needle).search  # type: ignore[no-any-return]
    folded = compiled_raw(b"(?i:" + needle + b")").search
    digits = max(_DIGITS.findall(needle), key=len, default=None)
    if digits is None:
        return folded  # type: ignore[no-any-return]
    at, find = needle.index(digits), compiled_raw(digits).search

    def search(raw: Buffer, position: int = 0) -> Any:
        for _ in range(_DIGITS_TRIES):
            match = find(raw, position + at)
            if match is None:
                return None
            begin = match.start() - at
            whole = folded(raw, begin, begin + len(needle))
            if whole is not None:
                return whole
            position = begin + 1
        return folded(raw, position)

    return search


def may_hide_needle(raw: Buffer, begin: int, end: int) -> bool:
    """Whether a character of a needle may be hidden behind \\u, from `begin` to `end`."""
    first = _ESCAPE(raw, begin, end)
    return first is not None and _HIDING(raw, first.start(), end) is not None


def candidate_stretches(checks: Iterable[BytePrefilter], raw: Buffer, ends: Sequence[int]) -> set[int]:
    """Which of the stretches of `raw` that end at `ends` may keep all of the clauses, or hide something."""
    found = set(range(len(ends)))
    for check in checks:
        found &= check.stretches_that_may_match(raw, ends)
        if not found:
            break
    position = 0
    while position < ends[-1] and (match := _ESCAPE(raw, position)) is not None:
        at = bisect_right(ends, match.start())
        if at not in found and _HIDING(raw, match.start(), ends[at]) is not None:
            found.add(at)
        position = ends[at]
    return found

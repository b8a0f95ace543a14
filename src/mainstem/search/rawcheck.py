"""Clauses about bytes, made fast.

Owns: how raw bytes are searched, cheapest first. The proofs are in `requirements`.
"""

from __future__ import annotations

from mainstem.log.batch import Record
from mainstem.search.regex import compiled_raw
from mainstem.search.requirements import Clause

_EXPONENTS = tuple(b"%de" % digit for digit in range(10))


def alternatives(clause: Clause) -> tuple[bytes, ...]:
    """What to look for in `raw.lower()`, any of it."""
    found = [needle.encode() for needle in sorted(clause.needles)]
    found += sorted(raw.lower() for raw in clause.raw)
    return (*found, *(_EXPONENTS if clause.or_exponent else ()))


class RawCheck:
    """Whether bytes may keep one clause: batches, or single records."""

    def __init__(self, clause: Clause) -> None:
        self._needles = tuple(needle.encode() for needle in sorted(clause.needles))
        self._raw = tuple(sorted(raw.lower() for raw in clause.raw))
        self._or_exponent = clause.or_exponent
        # RE2 looks for one literal, case aside, at some GB/s, and for several at once at a fifth of that.
        patterns = [b"(?i:" + needle + b")" for needle in self._needles]
        patterns += [b"[0-9][eE]"] if clause.or_exponent else []
        patterns += [b"".join(b"\\x%02x" % byte for byte in raw) for raw in sorted(clause.raw)]
        self._searches = tuple(compiled_raw(pattern).search for pattern in patterns)

    def batches(self, raw: bytes) -> bool:
        """Of many records at once."""
        return any(search(raw) is not None for search in self._searches) or escapes_in(raw)

    def record(self, record: Record) -> bool:
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
        return escapes_in(raw)


def escapes_in(raw: bytes) -> bool:
    """Whether a character may be hidden behind \\u. One byte is found 20 times as fast as two."""
    return b"\\" in raw and b"\\u" in raw

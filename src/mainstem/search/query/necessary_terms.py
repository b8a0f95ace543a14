"""What an event must contain to match, as far as it can be proven: the basis of every exclusion.

Owns: `Clause`s, their algebra over AND, OR and NOT, and the proofs. A query's requirement is a conjunction of
clauses; an event or block that breaks one cannot match. No clause is always right, so each proof only has to
show that a clause is right, never that it is there.

**Tokens.** A token filter holds all that `tokens.filter_tokens` yields.
1. Free text needs each of its tokens in one text of the event, and the filter has them: by definition.
2. Equality: folded(scalar) == folded(value). The tokens of both are the same, for folding neither joins nor
   splits runs of letters and digits. Exceptions are the characters that fold from letters into combining
   marks, and U+03B9, into which the mark U+0345 folds; a value with one of them (FOLDED_UNSURE) gives no
   clause. A test goes over all of Unicode.
3. A number equals by value: 4711 may be spelled 4711.0 or 4.711e3. Without an exponent, JSON's spelling
   begins with the same digits before the point, which are a token. With one, the filter has EXPONENT_TOKEN.

**Bytes.** Needles are runs of ASCII letters and digits that the event's text, case-folded, must contain. They
are looked for in raw bytes, ASCII case aside; the text of a scalar, key or header stands in these unchanged,
except
1. behind \\u: nothing is excluded of batches and events in which it stands for an ASCII letter or digit, or
   for a character that folds into such. JSON's other escapes (\\n, \\/, \\") decode to
   characters that are neither letters nor digits, and the other \\u to characters that no needle holds: a
   needle cannot lie across one, nor contain one.
2. where other characters fold into ASCII (the Kelvin sign into k, ß into ss): each of those that folds into a
   character of the needle is an alternative of the clause (FOLDS_INTO_ASCII).
3. where bytes that are not UTF-8 are read as hex: a needle that may be a whole token of hex has its bytes as
   an alternative; a part of a token that is hex digits alone gives no clause, for it may begin in the middle
   of a byte.
4. where numbers are equal by value: as above, and every spelling with an exponent has a digit followed by e.
   A text that is spelled as the query says has the longest run of that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import msgspec

from mainstem.search.query.ast import And, Glob, Node, Or, Range, TargetKind, Term, TermTarget, Test, Text
from mainstem.search.text import globs
from mainstem.search.text.freetext import token_patterns
from mainstem.search.text.numbers import number_of
from mainstem.search.text.tokens import EXPONENT_TOKEN, tokens

FOLDS_INTO_ASCII = {
    "ß": "ss", "ẞ": "ss", "ſ": "s", "İ": "i", "ŉ": "n", "ǰ": "j", "ẖ": "h", "ẗ": "t", "ẘ": "w", "ẙ": "y",
    "ẚ": "a",
    "\u212a": "k", "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st",
}  # fmt: skip
"""Every character beyond ASCII whose case-folding has an ASCII character in it, and which."""

FOLDED_UNSURE = frozenset("\u0300\u0301\u0307\u0308\u030a\u030c\u0313\u0331\u0342\u03b9")
"""What letters fold into that is no letter, and the letter into which a mark folds."""

Interval: TypeAlias = tuple[int | None, int | None]

CLAUSE_MAX = 64
"""A clause with more alternatives excludes too little to be worth its cost."""

_RUN = re.compile(r"[a-z0-9]+")
_HEX = re.compile(r"[0-9a-f]+")
_DIGITS_MAX = 40


class Clause(msgspec.Struct, frozen=True):
    """At least one of these must be there."""

    tokens: frozenset[str] = frozenset()
    """Alternatives in a token filter. Empty: this clause says nothing about tokens."""
    needles: frozenset[str] = frozenset()
    """Alternatives in raw bytes: lower-case ASCII letters and digits. Empty: nothing about bytes."""
    raw: frozenset[bytes] = frozenset()
    """More alternatives in raw bytes, as they are. Only with needles."""
    or_exponent: bool = False
    """A digit followed by e or E is also an alternative in raw bytes: in a number that is a field's value."""


def required_clauses(node: Node) -> tuple[Clause, ...]:
    """The clauses of a query, each of which every event that matches keeps."""
    match node:
        case Term(target, test) if isinstance(test, Text | Glob):
            return tuple(_of_term(target, test))
        case And(children):
            return tuple(dict.fromkeys(clause for child in children for clause in required_clauses(child)))
        case Or(children):
            return _of_any([required_clauses(child) for child in children])
        case _:
            return ()


def _of_any(choices: Sequence[Sequence[Clause]]) -> tuple[Clause, ...]:
    """One clause about tokens and one about bytes, each of the best of every choice, if every choice has
    one."""
    found = []
    by_tokens = [[clause for clause in clauses if clause.tokens] for clauses in choices]
    if all(by_tokens):
        best = [max(clauses, key=lambda clause: min(map(len, clause.tokens))) for clauses in by_tokens]
        found.append(Clause(tokens=frozenset().union(*(clause.tokens for clause in best))))
    by_bytes = [[clause for clause in clauses if clause.needles] for clauses in choices]
    if all(by_bytes):
        best = [
            max(clauses, key=lambda clause: (not clause.or_exponent, min(map(len, clause.needles))))
            for clauses in by_bytes
        ]
        found.append(
            Clause(
                needles=frozenset().union(*(clause.needles for clause in best)),
                raw=frozenset().union(*(clause.raw for clause in best)),
                or_exponent=any(clause.or_exponent for clause in best),
            )
        )
    return tuple(
        clause for clause in found if len(clause.tokens) + len(clause.needles) + len(clause.raw) <= CLAUSE_MAX
    )


def _of_term(target: TermTarget, test: Text | Glob) -> Iterable[Clause]:
    match target.kind, test:
        case "text", Text(text):
            wanted = tokens(text)
            for token in wanted:
                yield Clause(tokens=frozenset([token]))
                yield from _bytes_of(token, whole_text=len(wanted) == 1)
        case "text", Glob(pattern):
            for part in token_patterns(pattern):
                yield from _of_pieces(globs.literals(part))
        case "field", Text(text, quoted):
            if not quoted and number_of(text) is not None:
                yield _of_number(text)
            elif text.casefold() != "null":
                yield from _of_equality(text, hex_too=False)
        case (("key" | "header"), Text(text, quoted)):
            if quoted or text.casefold() != "null":
                yield from _of_equality(text, hex_too=True)
        case "field", Glob(pattern):
            yield from (_clause(run) for run in _pieces(pattern))
        case (("key" | "header"), Glob(pattern)):
            yield from _of_pieces(_pieces(pattern))
        case _:
            pass


def _pieces(pattern: str) -> list[str]:
    return [run for literal in globs.literals(pattern) for run in _runs(literal)]


def _runs(text: str) -> list[str]:
    return _RUN.findall(text.casefold())


def _of_equality(text: str, *, hex_too: bool) -> Iterable[Clause]:
    folded = text.casefold()
    if not FOLDED_UNSURE & set(folded):
        for token in tokens(text):
            yield Clause(tokens=frozenset([token]))
    for run in _runs(folded):
        if hex_too:
            yield from _bytes_of(run, whole_text=run == folded)
        else:
            yield _clause(run)


def _bytes_of(run: str, *, whole_text: bool) -> Iterable[Clause]:
    """The clause of a run of letters and digits that is whole; `whole_text`: a text may be this and nothing
    else."""
    if not _RUN.fullmatch(run):
        return
    if whole_text and len(run) % 2 == 0 and _HEX.fullmatch(run):
        yield _clause(run, bytes.fromhex(run))
    else:
        yield _clause(run)


def _of_pieces(pieces: Iterable[str]) -> Iterable[Clause]:
    """Parts that may be anywhere in a token."""
    for piece in pieces:
        folded = piece.casefold()
        if _RUN.fullmatch(folded) and not _HEX.fullmatch(folded):
            yield _clause(folded)


def _of_number(text: str) -> Clause:
    """A value that is a number, for JSON numbers by value and for texts that are spelled like the query."""
    value = number_of(text)
    assert value is not None
    plain = format(value, "f") if value else "0"
    if len(plain) > _DIGITS_MAX:
        return Clause()
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    plain = plain.lstrip("-")
    first_digits = plain.partition(".")[0]
    spelled = text.casefold()
    return Clause(
        tokens=frozenset([first_digits, tokens(text)[0], EXPONENT_TOKEN]),
        needles=frozenset([plain] if plain in spelled else [plain, max(_runs(spelled), key=len)]),
        or_exponent=True,
    )


def _clause(run: str, *raw: bytes) -> Clause:
    """Bytes that may stand for a run in raw bytes."""
    folding = (other.encode() for other, folded in FOLDS_INTO_ASCII.items() if set(folded) & set(run))
    return Clause(needles=frozenset([run]), raw=frozenset([*raw, *folding]))


# ----------------------------------------------------------------------------------------------------------
# places


def topic_globs(node: Node) -> tuple[str, ...] | None:
    """Patterns of which an event's topic matches at least one; None: any topic may match."""
    match node:
        case Term(TermTarget("topic"), Text(text)):
            return (text,) if re.fullmatch(r"[\w.-]+", text, re.ASCII) else None
        case Term(TermTarget("topic"), Glob(pattern)):
            return (pattern,) if re.fullmatch(r"[\w.*?-]+", pattern, re.ASCII) else None
        case And(children):
            known = [globs for globs in map(topic_globs, children) if globs is not None]
            return min(known, key=len) if known else None
        case Or(children):
            found: list[str] = []
            for child in children:
                globs = topic_globs(child)
                if globs is None:
                    return None
                found.extend(globs)
            return tuple(dict.fromkeys(found))
        case _:
            return None


def bounds_of(node: Node, kind: TargetKind, of_term: Callable[[Test], Interval]) -> Interval:
    """What a query demands of a number that every event has (time, partition, offset): from, to; the latter
    excluded."""
    match node:
        case Term(TermTarget(found), test) if found == kind:
            return of_term(test)
        case And(children):
            every = [bounds_of(child, kind, of_term) for child in children]
            begins = [begin for begin, _ in every if begin is not None]
            ends = [end for _, end in every if end is not None]
            return max(begins, default=None), min(ends, default=None)
        case Or(children):
            every = [bounds_of(child, kind, of_term) for child in children]
            low = None if any(begin is None for begin, _ in every) else min(begin or 0 for begin, _ in every)
            high = None if any(end is None for _, end in every) else max(end or 0 for _, end in every)
            return low, high
        case _:
            return None, None


def number_bounds(test: Test) -> Interval:
    """Of partitions or offsets: (from, to), the latter not included; None is open."""
    if isinstance(test, Text):
        return int(test.text), int(test.text) + 1
    assert isinstance(test, Range), "the parser takes no other"
    begin = end = None
    if test.low:
        begin = int(test.low.text) + (not test.low.inclusive)
    if test.high:
        end = int(test.high.text) + test.high.inclusive
    return begin, end

"""Derives the tokens and bytes that every matching event must contain: the basis for skipping data unread.

Owns: the clauses of a query, its bounds of time, partition and offset, and the proofs that no match is
excluded. Refuses: to read or test data (`match/`, `blocks/`).

A query gives a conjunction of `Clause`s. An event or block that contradicts one of them cannot match. It is
always correct to have fewer clauses, down to none. So the proofs below only show that each clause is implied
by the query, not that the set is complete.

**Tokens.** A token filter holds everything that `tokens.filter_tokens` yields.
1. Free text: by definition, all its tokens are in one text of the event, so the filter has them.
2. Equality means folded(scalar) == folded(value). Both have the same tokens, because case folding neither
   joins nor splits runs of letters and digits. The exceptions are letters that fold into combining marks, and
   U+03B9, into which the mark U+0345 folds. A value with such a character (FOLDED_UNSURE) gives no clause. A
   test checks this over all of Unicode.
3. Numbers are equal by value: 4711 may be spelled 4711.0 or 4.711e3. A JSON spelling without an exponent
   begins with the same digits before the point, and these are a token. For a spelling with an exponent, the
   filter has EXPONENT_TOKEN.

**Bytes.** Needles are runs of ASCII letters and digits that the event's case-folded text must contain. They
are searched in raw bytes, ignoring ASCII case. The raw bytes contain the text of a scalar, key or header
unchanged, with four exceptions:
1. \\u escapes. Batches and events with a \\u escape of an ASCII letter or digit, or of a character that folds
   into one, are never excluded. JSON's other escapes (\\n, \\/, \\") decode to characters that are neither
   letters nor digits, and other \\u escapes to characters that no needle has. So no needle contains or spans
   an escape.
2. Characters beyond ASCII that fold into ASCII (the Kelvin sign into k, ß into ss). Each one that folds into
   a character of the needle is an alternative of the clause (FOLDS_INTO_ASCII).
3. Bytes that are not UTF-8, whose text is hex. A needle that may be a whole hex token has the bytes that it
   spells as an alternative. A part of a token that has hex digits only gives no clause, because it may begin
   in the middle of a byte.
4. Numbers that are equal by value. The digits are as under "Tokens", and every spelling with an exponent has
   a digit followed by e. A text spelled like the query contains the longest run of the query's spelling.
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
"""Every character beyond ASCII whose case folding has ASCII characters, and these characters."""

FOLDED_UNSURE = frozenset("\u0300\u0301\u0307\u0308\u030a\u030c\u0313\u0331\u0342\u03b9")
"""The combining marks into which letters fold, and the letter into which a mark folds."""

Interval: TypeAlias = tuple[int | None, int | None]

CLAUSE_MAX = 64
"""Maximum alternatives of a clause. One with more excludes too little for its cost."""

_RUN = re.compile(r"[a-z0-9]+")
_HEX = re.compile(r"[0-9a-f]+")
_DIGITS_MAX = 40


class Clause(msgspec.Struct, frozen=True):
    """A disjunction: a matching event has at least one of these alternatives."""

    tokens: frozenset[str] = frozenset()
    """Alternatives in a token filter. Empty: the clause says nothing about tokens."""
    needles: frozenset[str] = frozenset()
    """Alternatives in raw bytes: lower-case ASCII letters and digits. Empty: it says nothing about bytes."""
    raw: frozenset[bytes] = frozenset()
    """Further alternatives in raw bytes, matched exactly. Only together with needles."""
    or_exponent: bool = False
    """Whether a digit followed by e or E, in a number, is also an alternative in raw bytes."""


def required_clauses(node: Node) -> tuple[Clause, ...]:
    """The clauses of a query. Every matching event satisfies each of them."""
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
    """The clauses of a disjunction: one about tokens and one about bytes, each the union of the best clause
    of every choice. Absent if a choice has no such clause."""
    merged = []
    by_tokens = [[clause for clause in clauses if clause.tokens] for clauses in choices]
    if all(by_tokens):
        best = [max(clauses, key=lambda clause: min(map(len, clause.tokens))) for clauses in by_tokens]
        merged.append(Clause(tokens=frozenset().union(*(clause.tokens for clause in best))))
    by_bytes = [[clause for clause in clauses if clause.needles] for clauses in choices]
    if all(by_bytes):
        best = [
            max(clauses, key=lambda clause: (not clause.or_exponent, min(map(len, clause.needles))))
            for clauses in by_bytes
        ]
        merged.append(
            Clause(
                needles=frozenset().union(*(clause.needles for clause in best)),
                raw=frozenset().union(*(clause.raw for clause in best)),
                or_exponent=any(clause.or_exponent for clause in best),
            )
        )
    return tuple(
        clause
        for clause in merged
        if len(clause.tokens) + len(clause.needles) + len(clause.raw) <= CLAUSE_MAX
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
                if part.isascii() and part.isalnum():  # without a wildcard: a whole token
                    yield Clause(tokens=frozenset([part.lower()]))
                    yield from _bytes_of(part.lower(), whole_text=False)
                else:
                    yield from _of_token_parts(globs.literals(part))
        case "field", Text(text, quoted):
            if not quoted and number_of(text) is not None:
                yield _of_number(text)
            elif text.casefold() != "null":
                yield from _of_equality(text, may_be_hex=False)
        case (("key" | "header"), Text(text, quoted)):
            if quoted or text.casefold() != "null":
                yield from _of_equality(text, may_be_hex=True)
        case "field", Glob(pattern):
            yield from (_clause(run) for run in _literal_runs(pattern))
        case (("key" | "header"), Glob(pattern)):
            yield from _of_token_parts(_literal_runs(pattern))
        case _:
            pass


def _literal_runs(pattern: str) -> list[str]:
    return [run for literal in globs.literals(pattern) for run in _runs(literal)]


def _runs(text: str) -> list[str]:
    return _RUN.findall(text.casefold())


def _of_equality(text: str, *, may_be_hex: bool) -> Iterable[Clause]:
    folded = text.casefold()
    if not FOLDED_UNSURE & set(folded):
        for token in tokens(text):
            yield Clause(tokens=frozenset([token]))
    for run in _runs(folded):
        if may_be_hex:
            yield from _bytes_of(run, whole_text=run == folded)
        else:
            yield _clause(run)


def _bytes_of(run: str, *, whole_text: bool) -> Iterable[Clause]:
    """The clause of a whole run of letters and digits. `whole_text`: the run may be a text of its own."""
    if not _RUN.fullmatch(run):
        return
    if whole_text and len(run) % 2 == 0 and _HEX.fullmatch(run):
        yield _clause(run, bytes.fromhex(run))
    else:
        yield _clause(run)


def _of_token_parts(token_parts: Iterable[str]) -> Iterable[Clause]:
    """The clauses of strings that may be anywhere in a token."""
    for part in token_parts:
        folded = part.casefold()
        if _RUN.fullmatch(folded) and not _HEX.fullmatch(folded):
            yield _clause(folded)


def _of_number(text: str) -> Clause:
    """The clause of a number: for JSON numbers of equal value, and for texts spelled like the query."""
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
    """The clause of a run in raw bytes: the run, or bytes that fold or decode into it."""
    folding = (other.encode() for other, folded in FOLDS_INTO_ASCII.items() if set(folded) & set(run))
    return Clause(needles=frozenset([run]), raw=frozenset([*raw, *folding]))


# ----------------------------------------------------------------------------------------------------------
# bounds on topic, partition, offset and time


def topic_globs(node: Node) -> tuple[str, ...] | None:
    """Patterns of which the topic of every matching event matches at least one; None: any topic may match."""
    match node:
        case Term(TermTarget("topic"), Text(text)):
            return (text,) if re.fullmatch(r"[\w.-]+", text, re.ASCII) else None
        case Term(TermTarget("topic"), Glob(pattern)):
            return (pattern,) if re.fullmatch(r"[\w.*?-]+", pattern, re.ASCII) else None
        case And(children):
            bounded = [patterns for patterns in map(topic_globs, children) if patterns is not None]
            return min(bounded, key=len) if bounded else None
        case Or(children):
            union: list[str] = []
            for child in children:
                patterns = topic_globs(child)
                if patterns is None:
                    return None
                union.extend(patterns)
            return tuple(dict.fromkeys(union))
        case _:
            return None


def bounds_of(node: Node, kind: TargetKind, of_term: Callable[[Test], Interval]) -> Interval:
    """The interval of an event's time, partition or offset (`kind`) outside which the query cannot match. Its
    end is exclusive."""
    match node:
        case Term(TermTarget(term_kind), test) if term_kind == kind:
            return of_term(test)
        case And(children):
            intervals = [bounds_of(child, kind, of_term) for child in children]
            begins = [begin for begin, _ in intervals if begin is not None]
            ends = [end for _, end in intervals if end is not None]
            return max(begins, default=None), min(ends, default=None)
        case Or(children):
            intervals = [bounds_of(child, kind, of_term) for child in children]
            begins = [begin for begin, _ in intervals if begin is not None]
            ends = [end for _, end in intervals if end is not None]
            return (
                min(begins) if len(begins) == len(intervals) else None,
                max(ends) if len(ends) == len(intervals) else None,
            )
        case _:
            return None, None


def number_bounds(test: Test) -> Interval:
    """The interval of a test of partitions or offsets. Its end is exclusive; None is open."""
    if isinstance(test, Text):
        return int(test.text), int(test.text) + 1
    assert isinstance(test, Range), "a test of a partition or offset is a Text or a Range"
    begin = end = None
    if test.low:
        begin = int(test.low.text) + (not test.low.inclusive)
    if test.high:
        end = int(test.high.text) + test.high.inclusive
    return begin, end

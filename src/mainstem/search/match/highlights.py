"""Lists the terms of a query that are not negated, in a form that a page can highlight without a parser.

Regular expressions are left out, because a browser's engine may need unbounded time for them. So are topic,
partition, offset and time, which every event has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mainstem.search.query.ast import And, Bound, Glob, Node, Not, Or, Range, Term, Text
from mainstem.search.query.parser import parse
from mainstem.search.text import globs
from mainstem.search.text.freetext import token_patterns
from mainstem.search.text.numbers import number_of
from mainstem.search.text.tokens import tokens


@dataclass(frozen=True, slots=True)
class Highlight:
    """What to highlight in the shown events for one term of a query: `words` side by side, texts that match
    `glob`, or values in the range from `low` to `high`."""

    place: Literal["text", "field", "key", "header"]
    path: tuple[str, ...] = ()
    """For a field, its names; for a header, its name."""
    words: tuple[str, ...] = ()
    """Patterns of tokens side by side in one text, case-folded. `*` is any run of characters, `?` one
    character; a backslash escapes the next character."""
    glob: str | None = None
    """A pattern that the whole case-folded text matches; `*`, `?` and backslashes as in `words`."""
    number: str | None = None
    """A number. JSON numbers of this value match too, however they are spelled (4711, 4711.0, 4.711e3)."""
    literal: bool = False
    """Whether the value was in quotes that change its meaning: `"null"` is not null."""
    low: Bound | None = None
    high: Bound | None = None


def highlights(text: str) -> list[Highlight]:
    """The highlights of a query, without duplicates. Raises QueryError."""
    return list(dict.fromkeys(_of_node(parse(text), positive=True)))


def _of_node(node: Node, *, positive: bool) -> Iterator[Highlight]:
    match node:
        case And(children) | Or(children):
            for child in children:
                yield from _of_node(child, positive=positive)
        case Not(child):
            yield from _of_node(child, positive=not positive)
        case Term() if positive:
            yield from _of_term(node)
        case _:
            return


def _of_term(term: Term) -> Iterator[Highlight]:
    kind, path = term.target.kind, term.target.path
    if kind == "text":
        yield from _of_free_text(term)
    elif kind in ("field", "key", "header"):
        match term.test:
            case Text(value, quoted):
                number = value if not quoted and number_of(value) is not None else None
                pattern = globs.escaped(value.casefold())
                yield Highlight(kind, path, glob=pattern, number=number, literal=quoted)
            case Glob(pattern):
                yield Highlight(kind, path, glob=globs.fold(pattern))
            case Range(low, high) if low or high:
                yield Highlight(kind, path, low=low, high=high)
            case _:
                return


def _of_free_text(term: Term) -> Iterator[Highlight]:
    match term.test:
        case Text(value):
            words = [globs.escaped(token) for token in tokens(value)]
        case Glob(pattern):
            words = token_patterns(globs.fold(pattern))
        case _:
            words = []
    if words:
        yield Highlight("text", words=tuple(words))

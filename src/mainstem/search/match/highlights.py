"""What is to be shown as matched: the positive terms of a query, in a form that needs no parser.

Owns: that form. Refuses: expressions, which a reader (a browser) could take for ever to evaluate, and places
that every event has. Used by the HTTP door for pages that mark matches.
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
    """One test of one place. One of `words`, `glob`, or a range between `low` and `high`."""

    place: Literal["text", "field", "key", "header"]
    path: tuple[str, ...] = ()
    """Of a field: its names; of a header: its name."""
    words: tuple[str, ...] = ()
    """Adjacent tokens of one text, each a case-folded pattern with `*`, `?` and backslashes."""
    glob: str | None = None
    """A case-folded pattern of the whole text."""
    number: str | None = None
    """Beside `glob`: a JSON number of this value matches, too."""
    literal: bool = False
    """The value stood in quotes that matter: `"null"` is not null."""
    low: Bound | None = None
    high: Bound | None = None


def highlights(text: str) -> list[Highlight]:
    """Of a query. QueryError if it cannot be read."""
    return list(dict.fromkeys(_of(parse(text), positive=True)))


def _of(node: Node, *, positive: bool) -> Iterator[Highlight]:
    match node:
        case And(children) | Or(children):
            for child in children:
                yield from _of(child, positive=positive)
        case Not(child):
            yield from _of(child, positive=not positive)
        case Term() if positive:
            yield from _term(node)
        case _:
            return


def _term(term: Term) -> Iterator[Highlight]:
    kind, path = term.target.kind, term.target.path
    if kind == "text":
        yield from _words(term)
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


def _words(term: Term) -> Iterator[Highlight]:
    match term.test:
        case Text(value):
            found = [globs.escaped(each) for each in tokens(value)]
        case Glob(pattern):
            found = token_patterns(globs.fold(pattern))
        case _:
            found = []
    if found:
        yield Highlight("text", words=tuple(found))

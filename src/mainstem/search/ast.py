"""What a query means: the tree that `query.parse` makes and `matcher` runs.

Owns: the nodes, all frozen and comparable. Refuses: positions in the text (errors are found while parsing)
and the current time (`-2d` stays as it was typed until a Matcher is made).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["text", "field", "key", "header", "topic", "partition", "offset", "time"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a test looks."""

    kind: Kind
    path: tuple[str, ...] = ()
    """Of a field: the names from the outermost to the innermost. Of a header: its name. Else empty."""


@dataclass(frozen=True, slots=True)
class Text:
    """In free text: these tokens, adjacent. Elsewhere: equality."""

    text: str
    quoted: bool = False
    """Only where quotes change the meaning: a number that stood in quotes is text, and `"null"` is a word."""


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern with `*` (any run of characters) and `?` (one). A literal `*`, `?` or `\\` has a `\\` before
    it."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Regex:
    """An RE2 expression that is found anywhere in the text."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a range."""

    text: str
    inclusive: bool
    quoted: bool = False
    """As in Text: a number that stood in quotes is text."""


@dataclass(frozen=True, slots=True)
class Range:
    """Between two ends; None is an open end."""

    low: Bound | None
    high: Bound | None


@dataclass(frozen=True, slots=True)
class Exists:
    """There is such a field, key or header, and it is not null."""


Test: TypeAlias = Text | Glob | Regex | Range | Exists


@dataclass(frozen=True, slots=True)
class Everything:
    """The empty query, and `*`."""


@dataclass(frozen=True, slots=True)
class Term:
    """One test of one place."""

    target: Target
    test: Test


@dataclass(frozen=True, slots=True)
class Not:
    """What `child` does not match."""

    child: Node


@dataclass(frozen=True, slots=True)
class And:
    """What all match. At least two, none of them an And."""

    children: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """What any matches. At least two, none of them an Or."""

    children: tuple[Node, ...]


Node: TypeAlias = Everything | Term | Not | And | Or

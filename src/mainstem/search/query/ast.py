"""What a query means: the tree that `query.parse` makes and `matcher` runs.

Owns: the nodes, all frozen and comparable. Refuses: positions in the text (errors are found while parsing)
and the current time (`-2d` stays as it was typed until a Matcher is made).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

TargetKind: TypeAlias = Literal["text", "field", "key", "header", "topic", "partition", "offset", "time"]


class TermTarget(msgspec.Struct, frozen=True):
    """Where a test looks."""

    kind: TargetKind
    path: tuple[str, ...] = ()
    """Of a field: the names from the outermost to the innermost. Of a header: its name. Else empty."""


class Text(msgspec.Struct, frozen=True):
    """In free text: these tokens, adjacent. Elsewhere: equality."""

    text: str
    quoted: bool = False
    """Only where quotes change the meaning: a number that stood in quotes is text, and `"null"` is a word."""


class Glob(msgspec.Struct, frozen=True):
    """A pattern with `*` (any run of characters) and `?` (one). A literal `*`, `?` or `\\` has a `\\` before
    it."""

    pattern: str


class Regex(msgspec.Struct, frozen=True):
    """An RE2 expression that is found anywhere in the text."""

    pattern: str


class Bound(msgspec.Struct, frozen=True):
    """One end of a range."""

    text: str
    inclusive: bool
    quoted: bool = False
    """As in Text: a number that stood in quotes is text."""


class Range(msgspec.Struct, frozen=True):
    """Between two ends; None is an open end."""

    low: Bound | None
    high: Bound | None


class Exists(msgspec.Struct, frozen=True):
    """There is such a field, key or header, and it is not null."""


Test: TypeAlias = Text | Glob | Regex | Range | Exists


class Everything(msgspec.Struct, frozen=True):
    """The empty query, and `*`."""


class Term(msgspec.Struct, frozen=True):
    """One test of one place."""

    target: TermTarget
    test: Test


class Not(msgspec.Struct, frozen=True):
    """What `child` does not match."""

    child: Node


class And(msgspec.Struct, frozen=True):
    """What all match. At least two, none of them an And."""

    children: tuple[Node, ...]


class Or(msgspec.Struct, frozen=True):
    """What any matches. At least two, none of them an Or."""

    children: tuple[Node, ...]


Node: TypeAlias = Everything | Term | Not | And | Or

"""The syntax tree of a query: `parser.parse` builds it, `match.matcher.Matcher` evaluates it.

All nodes are frozen and comparable. They hold no positions in the text, because mistakes are found while
parsing, and no current time: `-2d` stays as typed until a Matcher is built.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

TargetKind: TypeAlias = Literal["text", "field", "key", "header", "topic", "partition", "offset", "time"]


class TermTarget(msgspec.Struct, frozen=True):
    """The part of an event that a term tests."""

    kind: TargetKind
    path: tuple[str, ...] = ()
    """For a field, its names from the outermost to the innermost. For a header, its name. Otherwise empty."""


class Text(msgspec.Struct, frozen=True):
    """In free text: these tokens, side by side. Elsewhere: equality."""

    text: str
    quoted: bool = False
    """Set only where quotes change the meaning: a quoted number is text, and `"null"` is a word."""


class Glob(msgspec.Struct, frozen=True):
    """A pattern with `*` (any run of characters) and `?` (one character). `\\` escapes the next character."""

    pattern: str


class Regex(msgspec.Struct, frozen=True):
    """An RE2 expression, which may match anywhere in the text."""

    pattern: str


class Bound(msgspec.Struct, frozen=True):
    """One end of a range."""

    text: str
    inclusive: bool
    quoted: bool = False
    """Whether the bound was a number in quotes: it is compared as text then."""


class Range(msgspec.Struct, frozen=True):
    """Between two bounds; None is an open end."""

    low: Bound | None
    high: Bound | None


class Exists(msgspec.Struct, frozen=True):
    """The field, key or header is present and not null."""


Test: TypeAlias = Text | Glob | Regex | Range | Exists


class Everything(msgspec.Struct, frozen=True):
    """Matches every event: the empty query and `*`."""


class Term(msgspec.Struct, frozen=True):
    """One test of one part of an event."""

    target: TermTarget
    test: Test


class Not(msgspec.Struct, frozen=True):
    """Matches events that `child` does not match."""

    child: Node


class And(msgspec.Struct, frozen=True):
    """Matches events that all children match. Has at least two, none of them an And."""

    children: tuple[Node, ...]


class Or(msgspec.Struct, frozen=True):
    """Matches events that any child matches. Has at least two, none of them an Or."""

    children: tuple[Node, ...]


Node: TypeAlias = Everything | Term | Not | And | Or

"""Help with writing a query: whether it parses, what its matches highlight, which fields there are."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class QueryCheckQuery(msgspec.Struct):
    """The query to check."""

    q: Annotated[str, Meta(max_length=10_000)] = ""


class QueryErrorJson(msgspec.Struct):
    """The error of a query that cannot be parsed: why, and where."""

    message: str
    column: Annotated[int, Meta(description="Where the error begins; characters, from 0.")]
    length: int


class BoundJson(msgspec.Struct):
    """The lower or upper bound of a range in a query, such as the 60 of `>60`."""

    text: str
    inclusive: bool
    quoted: Annotated[bool, Meta(description="A number in quotes is compared as text.")]


class HighlightJson(msgspec.Struct, omit_defaults=True):
    """What to highlight in a match: adjacent `words` of any text, a text that matches `glob`, or a range."""

    place: Literal["text", "field", "key", "header"]
    path: Annotated[
        list[str], Meta(description="For a field, its names from the outside in; for a header, its name.")
    ] = []
    words: Annotated[
        list[str],
        Meta(description="Case-folded tokens to highlight; `*` and `?` are wildcards, a backslash escapes."),
    ] = []
    glob: Annotated[
        str | None, Meta(description="Case-folded wildcard pattern that the whole text matches.")
    ] = None
    number: Annotated[str | None, Meta(description="A number of this value matches, too.")] = None
    literal: Annotated[bool, Meta(description='`"null"` in quotes is a text, not null.')] = False
    low: BoundJson | None = None
    high: BoundJson | None = None


class QueryCheckJson(msgspec.Struct):
    """Whether a query can be parsed."""

    error: Annotated[QueryErrorJson | None, Meta(description="null: it can be parsed.")]
    highlights: Annotated[list[HighlightJson], Meta(description="What to highlight in its matches.")] = []


class FieldsQuery(msgspec.Struct):
    """Which fields to list."""

    topic: Annotated[
        str, Meta(description="Fields of this topic; empty: of the topics with the most events written now.")
    ] = ""
    prefix: Annotated[str, Meta(description="Only names that begin with this text, in any case.")] = ""


class FieldJson(msgspec.Struct):
    """A field of payloads."""

    field: Annotated[str, Meta(description="Its name in a query: `a.b.c`.")]
    example: str


class FieldsJson(msgspec.Struct):
    """Fields of the newest events, the most frequent first. Older events may have further fields."""

    fields: list[FieldJson]

"""The JSON of dead letters: which a subscription has, and why."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from mainstem.http_api.events import EventJson
from mainstem.http_api.field_types import Milliseconds
from mainstem.http_api.subscriptions import PositionText


class DeadLettersQuery(msgspec.Struct):
    """Which dead letters to show."""

    reason: Annotated[str, Meta(max_length=100, description="Only letters with this reason.")] = ""
    q: Annotated[
        str, Meta(max_length=10_000, description="Only letters that match this query, see docs/SEARCH.md.")
    ] = ""
    since_ms: Annotated[
        Milliseconds, Meta(description="Only letters of this time or later, ms since 1970.")
    ] = 0
    after: Annotated[
        PositionText | None, Meta(description="Only letters after this one: `next` of the previous page.")
    ] = None
    limit: Annotated[int, Meta(ge=1, le=500, description="Maximum number of letters.")] = 100


class DeadLetterJson(msgspec.Struct):
    """A dead letter, and the event of which it is a copy."""

    event: EventJson
    origin: Annotated[str, Meta(description="topic/partition/offset of the event that was given up.")]
    reason: Annotated[str, Meta(description="rejected, failed or expired.")]
    detail: Annotated[str, Meta(description="What a consumer said last; may be empty.")]
    attempts: Annotated[int, Meta(description="How often the event was delivered.")]
    time: Annotated[str, Meta(description="When the letter was written, ISO 8601.")]
    redriven: Annotated[
        bool, Meta(description="The event was redriven since the last seek, and has not been given up again.")
    ]


class DeadLettersJson(msgspec.Struct):
    """A page of dead letters, by partition and offset of the dead-letter topic."""

    letters: list[DeadLetterJson]
    next: Annotated[
        str | None,
        Meta(description="The `after` of the next page, which may be empty; null: this is the last one."),
    ]

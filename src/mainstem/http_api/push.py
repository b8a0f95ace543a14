"""The JSON of pushed events, and of push settings and how pushing goes.

Owns: the body of a push request in the wrapped form, and the fields of push settings and reports with their
descriptions. Refuses: secrets in replies.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainstem.http_api.events import EventJson
from mainstem.queues.push_settings import (
    AUDIENCE_CHARACTERS_MAX,
    CONCURRENCY,
    DEADLINE_MS,
    ENDPOINT_CHARACTERS_MAX,
    HEADERS_MAX,
    PushPayload,
)


class PushedEventJson(msgspec.Struct):
    """The body of a push request in the wrapped form."""

    subscription: str
    attempt: Annotated[int, Meta(description="1: the event is delivered for the first time.")]
    event: EventJson


class PushSettingsJson(msgspec.Struct, forbid_unknown_fields=True):
    """Where and how events are pushed. In a request to change a subscription, what is omitted keeps its
    value. A reply has no secret, no value of a header, and of the endpoint not the query."""

    endpoint: Annotated[
        Annotated[str, Meta(max_length=ENDPOINT_CHARACTERS_MAX)] | UnsetType,
        Meta(description="The URL to which each event is sent by POST: http or https, without a user name."),
    ] = UNSET
    headers: Annotated[
        Annotated[dict[str, str | None], Meta(max_length=HEADERS_MAX)] | UnsetType,
        Meta(
            description="Further headers of each request; null in place of a value keeps the value that the"
            " header has. In a reply all are null."
        ),
    ] = UNSET
    secret: Annotated[
        Annotated[str, Meta(max_length=400)] | UnsetType | None,
        Meta(
            description="What requests are signed with: whsec_ and the base64 of 24 to 64 bytes; up to 3 of"
            " them, separated by blanks; null: requests are not signed. Never in a reply."
        ),
    ] = UNSET
    signed: Annotated[
        bool | UnsetType, Meta(description="In a reply: whether requests are signed. Ignored in a request.")
    ] = UNSET
    token_audience: Annotated[
        Annotated[str, Meta(max_length=AUDIENCE_CHARACTERS_MAX)] | UnsetType,
        Meta(
            description="Whom the tokens are for that the server signs and sends with each request"
            " (`Authorization: Bearer`); empty, the default: it sends none."
        ),
    ] = UNSET
    deadline_ms: Annotated[
        Annotated[int, Meta(ge=DEADLINE_MS[0], le=DEADLINE_MS[1])] | UnsetType,
        Meta(description="How long the endpoint may take to answer, ms; 10,000 by default."),
    ] = UNSET
    concurrency: Annotated[
        Annotated[int, Meta(ge=CONCURRENCY[0], le=CONCURRENCY[1])] | UnsetType,
        Meta(description="Most requests at once; 32 by default."),
    ] = UNSET
    payload: Annotated[
        PushPayload | UnsetType,
        Meta(
            description="wrapped, the default: the event as JSON. unwrapped: the value of the event, with the"
            " rest in headers. pubsub-wrapped, pubsub-unwrapped: as Google Cloud Pub/Sub sends both."
        ),
    ] = UNSET


class PushReportJson(msgspec.Struct):
    """How pushing goes since the start of the server."""

    in_flight: Annotated[int, Meta(description="Requests that wait for their answer.")]
    window: Annotated[int, Meta(description="Requests that may be under way: more after successes.")]
    delivered: Annotated[int, Meta(description="Requests that were answered with a status of 200 to 299.")]
    failed: Annotated[int, Meta(description="Requests that were not.")]
    delivered_per_s: Annotated[float, Meta(description="Over the last minute.")]
    failed_per_s: Annotated[float, Meta(description="Over the last minute.")]
    latency_ms: Annotated[
        float | None, Meta(description="Of answers, the latest ones weigh more; null: there was none.")
    ]
    last_error: Annotated[str | None, Meta(description="Of the latest request that failed.")]
    last_error_time: Annotated[str | None, Meta(description="ISO 8601.")]
    paused_until: Annotated[
        str | None, Meta(description="Nothing is sent before this time, for requests failed; ISO 8601.")
    ]
    pull_failures: Annotated[
        int, Meta(description="How often events could not be pulled to be sent; it is tried again.")
    ]
    pull_error: Annotated[
        str | None, Meta(description="Why they cannot be pulled at the moment; null: they can.")
    ]

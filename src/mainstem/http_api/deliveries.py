"""The JSON of deliveries: pulling events from a subscription, and settling them.

Owns: the fields of these requests and replies, with their limits and descriptions. Refuses: subscriptions
themselves, which are in `subscriptions`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainstem.http_api.events import EventJson
from mainstem.queues.settings import DELAY_MS_MAX, LOCK_MS_MAX

PULLED_EVENTS_MAX = 1_000
PULLED_BYTES_MAX = 16 << 20
WAIT_MS_MAX = 60_000
TOKENS_MAX = 10_000
REASON_CHARACTERS_MAX = 1_000
LeaseTime = Annotated[int, Meta(ge=1, le=LOCK_MS_MAX)]
AckToken = Annotated[str, Meta(max_length=200)]
Tokens = Annotated[
    list[AckToken],
    Meta(min_length=1, max_length=TOKENS_MAX, description="Tokens of deliveries of this subscription."),
]
Reason = Annotated[
    str, Meta(max_length=REASON_CHARACTERS_MAX, description="Why; it is shown, and kept with a dead letter.")
]


class PullJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request for the next events of a subscription."""

    JSON_SCHEMA: ClassVar = {"examples": [{"consumer": "worker-1", "max_events": 10, "wait_ms": 20_000}]}

    consumer: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=255,
            description="A name for who works on the events; it is shown with what it has.",
        ),
    ]
    max_events: Annotated[int, Meta(ge=1, le=PULLED_EVENTS_MAX, description="Maximum number of events.")] = (
        100
    )
    max_bytes: Annotated[
        int,
        Meta(
            ge=1,
            le=PULLED_BYTES_MAX,
            description="Stop after this many bytes of keys, values and headers; but at least one event.",
        ),
    ] = 4 << 20
    wait_ms: Annotated[
        int,
        Meta(ge=0, le=WAIT_MS_MAX, description="How long to wait for the first event if none is ready, ms."),
    ] = 0
    lock_ms: Annotated[
        LeaseTime | None, Meta(description="In place of the subscription's setting of this name, ms.")
    ] = None
    encoding: Annotated[
        Literal["base64"] | UnsetType,
        Meta(description="base64: key and value byte for byte, always as base64."),
    ] = UNSET


class DeliveryJson(msgspec.Struct):
    """An event that is the consumer's until the deadline, or until it is settled."""

    event: EventJson
    token: Annotated[str, Meta(description="Names this delivery when it is settled.")]
    attempt: Annotated[int, Meta(description="1: the event is delivered for the first time.")]
    deadline: Annotated[str, Meta(description="After it the event is delivered again; ISO 8601.")]
    deadline_ms: Annotated[int, Meta(description="The same in milliseconds since 1970.")]


class PulledJson(msgspec.Struct):
    """The reply to a pull. It is empty if no event was ready in time."""

    deliveries: list[DeliveryJson]


class AckJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to acknowledge events: their work is done."""

    tokens: Tokens


class NackJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to deliver events again later."""

    tokens: Tokens
    delay_ms: Annotated[
        Annotated[int, Meta(ge=0, le=DELAY_MS_MAX)] | None,
        Meta(description="How long to wait, ms; null: as the settings of the subscription say."),
    ] = None
    counts: Annotated[
        bool, Meta(description="false: given back untried; it is no failure, and no wait is added.")
    ] = True
    reason: Reason = ""
    delivered: Annotated[
        bool,
        Meta(
            description="false: the event reached no worker, so that its next delivery has the same attempt;"
            " the other fields do not count then."
        ),
    ] = True


class RejectJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to give events up: each is a dead letter now."""

    tokens: Tokens
    reason: Reason = ""


class ExtendJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to move the deadline of deliveries, together with those of the same pull that are not
    settled."""

    tokens: Tokens
    lock_ms: Annotated[LeaseTime, Meta(description="From now on, ms.")]


class VerdictsJson(msgspec.Struct):
    """The reply when deliveries are settled: a verdict for each token, in their order. What is done is
    durable."""

    verdicts: Annotated[
        list[Literal["done", "late", "stale", "invalid"]],
        Meta(
            description="done; late: done, although the deadline was over; stale: nothing was changed,"
            " because the event was delivered again or is done; invalid: no token of this subscription and"
            " its topics."
        ),
    ]

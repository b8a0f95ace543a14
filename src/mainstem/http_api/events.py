"""The JSON of events, as they are read and as they are published, and of the requests for them.

Owns: the fields of these requests and replies, with their limits and descriptions, and how bytes are
represented in JSON. Refuses: the conversion of events, which `event_encoding` and the HTTP door do.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from mainstem.http_api.field_types import Milliseconds, PartitionNumber, SignedOffset

Encoding = Literal["json", "text", "base64"]
"""How the string or JSON of a field represents bytes."""
TAIL_RATE = 500
"""Events per second that a tail from the end sends, unless `rate` says otherwise."""


class HeaderJson(msgspec.Struct, forbid_unknown_fields=True):
    """A header of an event. Several headers may have the same name."""

    name: str
    value: str | None = None
    value_encoding: Annotated[
        Literal["text", "base64"] | UnsetType,
        Meta(description="How `value` represents bytes; text if omitted."),
    ] = UNSET


class EventJson(msgspec.Struct):
    """An event of a topic."""

    topic: str
    partition: int
    offset: int
    timestamp: Annotated[str | None, Meta(description="ISO 8601, UTC; null: the event has no timestamp.")]
    timestamp_ms: Annotated[int | None, Meta(description="The timestamp in milliseconds since 1970.")]
    key: str | None
    value: Annotated[Any, Meta(description="The payload, represented as value_encoding says.")]
    headers: list[HeaderJson]
    size: Annotated[int, Meta(description="Bytes of key, value and headers.")]
    key_encoding: Annotated[
        Literal["text", "base64"] | UnsetType, Meta(description="Omitted if there is no key.")
    ] = UNSET
    value_encoding: Annotated[
        Encoding | UnsetType,
        Meta(
            description=(
                "json: the payload is this JSON. text: the payload is the characters of this string. base64:"
                " the payload is not UTF-8. Omitted: there is no payload (null)."
            )
        ),
    ] = UNSET
    amqp: Annotated[
        dict[str, Any] | UnsetType,
        Meta(
            description=(
                "What the header mainstem-amqp of a message of RabbitMQ's stream protocol says: the fields of"
                " the sections header and properties (AMQP 1.0) by their names, and the maps"
                " application-properties, message-annotations and delivery-annotations. Omitted if there is"
                " no such header."
            )
        ),
    ] = UNSET


class NewEventJson(msgspec.Struct, forbid_unknown_fields=True):
    """An event to publish."""

    JSON_SCHEMA: ClassVar = {
        "examples": [
            {"key": "4711", "value": {"total": 1.10}, "headers": [{"name": "source", "value": "shop"}]}
        ]
    }

    value: Annotated[
        Raw | UnsetType,
        Meta(
            description=(
                "The payload. Without value_encoding, a string is published as its characters, null as no"
                " payload, and any other JSON exactly as it is written here."
            )
        ),
    ] = UNSET
    value_encoding: Encoding | None = None
    key: Annotated[str | None, Meta(description="Events with the same key keep their order.")] = None
    key_encoding: Literal["text", "base64"] = "text"
    headers: list[HeaderJson] = []
    partition: Annotated[
        PartitionNumber | None,
        Meta(description="If omitted, chosen by the key; without a key, any partition."),
    ] = None
    timestamp: Annotated[str | None, Meta(description="ISO 8601; if omitted, the time of publishing.")] = None
    timestamp_ms: Milliseconds | None = None


class PartitionOffsetJson(msgspec.Struct):
    """An offset in a partition."""

    partition: int
    offset: int


class PublishQuery(msgspec.Struct):
    """Who publishes, so that an event that was stored before is not stored again."""

    producer: Annotated[
        Annotated[str, Meta(min_length=1, max_length=255)] | None,
        Meta(
            description="Name of the producer, whose events have ids that rise: one whose id is not above the"
            " last one that is stored in its partition was stored before, and is not stored again."
        ),
    ] = None
    publish_id: Annotated[
        Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] | None,
        Meta(
            description="With `producer`: the id of the first event; each event or line after it has the next"
            " one."
        ),
    ] = None


class PublishedJson(msgspec.Struct):
    """The reply to a publish request: all events are durable."""

    topic: str
    published: int
    events: Annotated[
        list[PartitionOffsetJson | None] | None,
        Meta(
            description="Partition and offset of each event, in order, null if it was stored before; null for"
            " a stream of lines."
        ),
    ]
    ends: Annotated[
        list[PartitionOffsetJson],
        Meta(description="The offset after the last event published, for each partition that got events."),
    ]
    duplicates: Annotated[
        int,
        Meta(description="Events that were stored before, by their producer and id: not among published."),
    ] = 0


PageToken = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{0,22}\.[0-9]{1,19}$")]
"""The topic's id, a dot, and an offset."""


class ReadQuery(msgspec.Struct):
    """Where to start reading a partition, and how much to read. Without `offset`, `time` and `after`, the
    first event is the oldest."""

    offset: Annotated[
        SignedOffset | None,
        Meta(
            description="The first offset; a negative one counts from the end: -10.",
        ),
    ] = None
    time: Annotated[
        str | None, Meta(description="Start at the first event of this time or later, ISO 8601.")
    ] = None
    after: Annotated[
        PageToken | None,
        Meta(
            description="Continue after a page: its `next`. Refused if the topic was deleted and created"
            " again since."
        ),
    ] = None
    limit: Annotated[int, Meta(ge=1, le=10_000, description="Maximum number of events.")] = 100
    max_bytes: Annotated[
        int,
        Meta(ge=1, le=64 << 20, description="Stop after this many bytes of keys, values and headers."),
    ] = 4 << 20
    encoding: Annotated[
        Literal["base64"] | UnsetType,
        Meta(description="base64: key and value byte for byte, always as base64."),
    ] = UNSET


class EventPageJson(msgspec.Struct):
    """The reply with a page of events of one partition, oldest first."""

    events: list[EventJson]
    unreadable: Annotated[
        list[int], Meta(description="Offsets at which damaged ranges begin; their events are skipped.")
    ]
    next: Annotated[
        str,
        Meta(
            description="Pass it as `after` to get the next page: the topic's id (none if the cluster has no"
            " topic ids), a dot, and the offset."
        ),
    ]
    begin: Annotated[int, Meta(description="The first offset that the partition still has.")]
    end: Annotated[int, Meta(description="The offset that the next published event will get.")]


class TailQuery(msgspec.Struct, rename={"start": "from"}):
    """Where a tail starts, which events it sends, and how fast."""

    q: Annotated[
        str, Meta(max_length=10_000, description="Send only events that match; see docs/SEARCH.md.")
    ] = ""
    start: Annotated[
        str,
        Meta(description="end; begin; -N: the last N events of each partition; or a time, ISO 8601."),
    ] = "end"
    partition: Annotated[
        PartitionNumber | None, Meta(description="Only this partition; all of them if omitted.")
    ] = None
    rate: Annotated[
        Annotated[int, Meta(ge=0, le=100_000)] | None,
        Meta(
            description=(
                "Maximum number of events per second: further ones are skipped, and `skipped` says how many."
                f" 0: every event, as fast as the client reads. If omitted: {TAIL_RATE} from the end, else 0."
            ),
        ),
    ] = None
    last_event_id: Annotated[
        str,
        Meta(description="Continue after this event id. The header Last-Event-ID takes precedence."),
    ] = ""

"""The JSON of topics: pages of them, one in full, and the requests that change them.

Owns: the fields of these requests and replies, with their limits and descriptions. Refuses: checking settings
and changing topics, which the engine does.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta

from mainstem.http_api.field_types import LONG_MAX, Operations, PartitionCount, PartitionNumber, TopicName


class TopicsQuery(msgspec.Struct):
    """Which topics to list."""

    q: Annotated[str, Meta(description="Only names that contain this text, in any case.")] = ""
    limit: Annotated[int, Meta(ge=1, le=10_000, description="Maximum number of topics.")] = 100
    after: Annotated[str, Meta(description="Only names after this one: `next` of the previous page.")] = ""
    internal: Annotated[bool, Meta(description="Whether to list the server's internal topics, too.")] = False


class TopicJson(msgspec.Struct):
    """A topic in the list of topics: counts and rates, without partitions and settings."""

    topic: str
    partitions: int
    events: int
    internal: bool
    bytes: Annotated[
        int | None,
        Meta(description="Bytes of the topic's files, one replica; null: not known for this cluster."),
    ]
    in_per_s: Annotated[float, Meta(description="Events written to the topic per second now.")]
    out_per_s: Annotated[float, Meta(description="Events read by consumer groups per second now.")]


class TopicsJson(msgspec.Struct):
    """The reply with a page of the list of topics, sorted by name."""

    topics: list[TopicJson]
    total: Annotated[int, Meta(description="Number of topics that match `q`.")]
    next: Annotated[str | None, Meta(description="`after` of the next page; null: this is the last page.")]


class NewTopicJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to create a topic."""

    JSON_SCHEMA: ClassVar = {
        "examples": [{"topic": "orders", "partitions": 4, "settings": {"retention.ms": "604800000"}}]
    }

    topic: TopicName
    partitions: PartitionCount | None = None
    settings: dict[str, str] = {}


class PartitionJson(msgspec.Struct):
    """A partition of a topic."""

    partition: int
    begin: Annotated[int, Meta(description="The first offset that the partition still has.")]
    end: Annotated[int, Meta(description="The offset that the next published event will get.")]
    leader: int
    replicas: list[int]
    in_sync: list[int]
    bytes: Annotated[
        int | None, Meta(description="Bytes of the partition's files; null: not known for this cluster.")
    ]


class SettingJson(msgspec.Struct):
    """A setting of a topic, with the value in force."""

    name: str
    value: str | None
    is_default: bool
    read_only: bool
    doc: Annotated[str, Meta(description="Empty if the server does not provide it; so are the fields below.")]
    default: str | None
    type: Annotated[str, Meta(description="In Kafka's terms: boolean, string, int, long, double, list.")]
    unit: Annotated[
        Literal["ms", "bytes"] | None, Meta(description="The unit of a number; null: it has none.")
    ]
    valid: Annotated[str, Meta(description="The accepted values, as a text for people.")]


class TopicDetailJson(msgspec.Struct):
    """A topic with its partitions and settings."""

    topic: str
    id: str
    internal: bool
    events: int
    bytes: int | None
    partitions: list[PartitionJson]
    settings: list[SettingJson]
    operations: Operations = UNSET


class DryRunQuery(msgspec.Struct):
    """Query parameter of a change: whether to make it, or only to report what would be done."""

    dry_run: Annotated[bool, Meta(description="Only report what would be done.")] = False


class DeletedTopicJson(msgspec.Struct):
    """The reply to the deletion of a topic: what it removed, or in a dry run would remove."""

    topic: str
    dry_run: bool
    partitions: int
    events: int


class SettingsJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to change settings of a topic. null resets a setting to its default; settings not named
    here are not changed."""

    JSON_SCHEMA: ClassVar = {"examples": [{"settings": {"retention.ms": "86400000", "segment.ms": None}}]}

    settings: Annotated[dict[str, str | None], Meta(min_length=1)]


class AddPartitionsJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to add partitions to a topic: the new number of them."""

    total: PartitionCount


class DeletionPreviewJson(msgspec.Struct):
    """What a deletion removes from one partition."""

    partition: int
    events: int
    bytes: Annotated[
        int | None,
        Meta(
            description="Bytes of all batches that hold these events. The last batch counts as a whole,"
            " though it may also hold events that are kept. null: not known for this cluster."
        ),
    ]
    begin: Annotated[int, Meta(description="The first offset that the partition has afterwards.")]
    oldest: Annotated[
        str | None, Meta(description="The time of the first event that is kept; null: no event is kept.")
    ]


class DeleteRecordsJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to delete the events of a partition before an offset."""

    partition: PartitionNumber
    before: Annotated[
        int, Meta(ge=-1, le=LONG_MAX, description="The first offset to keep; -1: delete all events.")
    ]
    dry_run: Annotated[bool, Meta(description="Only report what would be deleted.")] = False


class DeletedRecordsJson(msgspec.Struct, rename={"deleted": "gone"}):
    """The reply to a deletion of events: what it removed, or in a dry run would remove."""

    topic: str
    dry_run: bool
    deleted: DeletionPreviewJson


class SettingsPreviewJson(msgspec.Struct):
    """The reply to a preview of topic settings: what retention would delete under them, the next time it
    runs."""

    topic: str
    exact: Annotated[
        bool,
        Meta(
            description="false: estimated from the times of events; retention deletes whole segments, so it"
            " may delete less."
        ),
    ]
    events: int
    bytes: Annotated[
        int | None, Meta(description="Bytes of the log's files; null: not known for this cluster.")
    ]
    oldest: Annotated[
        str | None, Meta(description="The time of the oldest event that is kept; null: no event is kept.")
    ]
    partitions: list[DeletionPreviewJson]

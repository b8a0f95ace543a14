"""The JSON of consumer groups: pages of them, one in full, and the requests that reset and delete them.

Owns: the fields of these requests and replies, with their limits and descriptions. Refuses: finding stalled
positions and moving them, which the HTTP door and the engine do.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, Meta

from mainstem.http_api.field_types import Operations, PartitionNumber


class GroupsQuery(msgspec.Struct):
    """Which groups to list."""

    q: Annotated[str, Meta(description="Only names that contain this text, in any case.")] = ""
    limit: Annotated[int, Meta(ge=1, le=500, description="Maximum number of groups.")] = 100
    after: Annotated[str, Meta(description="Only names after this one: `next` of the previous page.")] = ""


class StalledPositionJson(msgspec.Struct):
    """A position with unread events that has not moved for 40 seconds or more, and the member that owns
    it."""

    topic: str
    partition: int
    for_ms: Annotated[
        int, Meta(description="How long the position has not moved while this server observed it, ms.")
    ]
    client_id: Annotated[
        str | None, Meta(description="Of the member that has the partition; null: none has.")
    ]
    host: str | None


class GroupJson(msgspec.Struct):
    """A consumer group in the list of groups: its state, lag and longest stalled position, without
    members."""

    group: str
    state: str
    members: int
    topics: list[str]
    lag: Annotated[int | None, Meta(description="Unread events; null: the group has no position yet.")]
    lag_ms: Annotated[
        int | None, Meta(description="How long the oldest unread event of the group has waited, ms.")
    ]
    lag_per_s: Annotated[
        float | None,
        Meta(description="Growth of the lag in events per second; negative while the group catches up."),
    ]
    stuck: Annotated[
        StalledPositionJson | None, Meta(description="The position that has stalled longest; null: none has.")
    ]
    protocol_type: Annotated[
        str,
        Meta(
            description="consumer; share: a share group, whose lag is the number of records that are not"
            " done; others for groups of Kafka Connect and the like; empty: not known."
        ),
    ] = ""
    problem: Annotated[
        str | None,
        Meta(description="Why the group cannot be described: only its name and state are known."),
    ] = None


class GroupsJson(msgspec.Struct):
    """A page of groups, sorted by name."""

    groups: list[GroupJson]
    total: int
    next: str | None


class MemberJson(msgspec.Struct):
    """A member of a group."""

    id: str
    client_id: str
    host: str
    instance_id: str | None
    assigned: list[tuple[str, int]]
    undecoded_bytes: Annotated[
        int,
        Meta(
            description="Size of an assignment that is not one of Kafka's consumers, so that `assigned` is"
            " empty; 0: there is none."
        ),
    ] = 0


class GroupPositionJson(msgspec.Struct):
    """A group's position in a partition, and its lag."""

    topic: str
    partition: int
    offset: int | None
    end: int
    lag: int | None
    lag_ms: int | None


class GroupDetailJson(msgspec.Struct):
    """A group with its members and positions."""

    group: str
    state: str
    assignor: str
    lag: int | None
    lag_ms: int | None
    lag_per_s: float | None
    stuck: Annotated[
        list[StalledPositionJson], Meta(description="Positions that have stalled, the longest first.")
    ]
    members: list[MemberJson]
    positions: list[GroupPositionJson]
    protocol_type: Annotated[
        str,
        Meta(
            description="consumer; share: a share group; connect and others exchange assignments that are not"
            " Kafka's."
        ),
    ] = "consumer"
    operations: Operations = UNSET


class ResetJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to reset a group: where it continues to read."""

    JSON_SCHEMA: ClassVar = {"examples": [{"to": "earliest", "topics": ["orders"], "dry_run": True}]}

    to: Annotated[
        str,
        Meta(
            pattern=r"^(earliest|latest|[0-9]{1,18}|-([0-9]+(ms|s|m|h|d|w))+|[0-9]{4}-[0-9]{2}.*)$",
            max_length=100,
            description="earliest, latest, an offset, a time (ISO 8601; UTC by default) or an age (-10m).",
        ),
    ]
    topics: Annotated[
        list[str],
        Meta(
            description="Only these topics; required for topics that the group has not read yet. If empty,"
            " all topics that it reads."
        ),
    ] = []
    partition: Annotated[
        PartitionNumber | None, Meta(description="Only this partition; `topics` must name one topic.")
    ] = None
    dry_run: Annotated[bool, Meta(description="Only report what would be done.")] = False


class MoveJson(msgspec.Struct):
    """The change of a group's position in one partition, made by a reset."""

    topic: str
    partition: int
    old: Annotated[int | None, Meta(description="null: the group had no position here.")]
    new: int


class ResetDoneJson(msgspec.Struct):
    """The reply to a reset of a group: what it changed, or in a dry run would change."""

    group: str
    dry_run: bool
    again: Annotated[int, Meta(description="Events that will be read again.")]
    passed_over: Annotated[int, Meta(description="Events that will not be read.")]
    moves: list[MoveJson]


class DeletedGroupJson(msgspec.Struct):
    """The reply to the deletion of a group: what it removed, or in a dry run would remove."""

    group: str
    dry_run: bool
    positions: int

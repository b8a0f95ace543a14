"""Consumer groups: pages of them, one in full, and the requests that reset and delete them."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from mainstem.http_api.field_types import PartitionNumber


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
    for_ms: Annotated[int, Meta(description="How long it has not moved, as far as this server has observed.")]
    client_id: Annotated[str | None, Meta(description="null: the partition is assigned to no member.")]
    host: str | None


class GroupJson(msgspec.Struct):
    """A group in a list."""

    group: str
    state: str
    members: int
    topics: list[str]
    lag: Annotated[int | None, Meta(description="Unread events; null: the group has no position yet.")]
    lag_ms: Annotated[int | None, Meta(description="How long the oldest unread event has waited, ms.")]
    lag_per_s: Annotated[
        float | None,
        Meta(description="Growth of the lag in events per second; negative while the group catches up."),
    ]
    stuck: Annotated[
        StalledPositionJson | None, Meta(description="The position that has stalled longest; null: none has.")
    ]


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


class GroupPositionJson(msgspec.Struct):
    """How far a group has read a partition."""

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


class ResetJson(msgspec.Struct, forbid_unknown_fields=True):
    """Where a group continues to read."""

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
    """The change of one position."""

    topic: str
    partition: int
    old: Annotated[int | None, Meta(description="null: the group had no position here.")]
    new: int


class ResetDoneJson(msgspec.Struct):
    """What a reset changes."""

    group: str
    dry_run: bool
    again: Annotated[int, Meta(description="Events that will be read again.")]
    passed_over: Annotated[int, Meta(description="Events that will not be read.")]
    moves: list[MoveJson]


class DeletedGroupJson(msgspec.Struct):
    """What the deletion of a group removes."""

    group: str
    dry_run: bool
    positions: int

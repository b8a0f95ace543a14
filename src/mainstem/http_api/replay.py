"""The JSON of exports and replays: which events they concern, and how a replay reports its progress.

Owns: the fields of these requests and replies, with their limits and descriptions. Refuses: running a replay,
which the HTTP door does.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from mainstem.http_api.events import Encoding, HeaderJson
from mainstem.http_api.field_types import Milliseconds, Offset, PartitionNumber, TopicGlob, TopicName
from mainstem.replay import JOB_PATTERN
from mainstem.search.contract import SearchRequest

CHOSEN_EVENTS_MAX = 1_000


class MatchesJson(msgspec.Struct, forbid_unknown_fields=True):
    """All events that match a query, in the order of their offsets."""

    query: Annotated[
        str, Meta(max_length=10_000, description="See docs/SEARCH.md; empty: every event matches.")
    ] = ""
    topics: Annotated[list[TopicGlob], Meta(description="Globs; empty: all topics but internal ones.")] = []
    partitions: list[PartitionNumber] | None = None
    since_ms: Annotated[Milliseconds | None, Meta(description="Events of this time or later.")] = None
    until_ms: Annotated[Milliseconds | None, Meta(description="Events before this time.")] = None

    def request(self) -> SearchRequest:
        """The same matches as a request for a search."""
        return SearchRequest(
            query=self.query,
            topics=self.topics,
            partitions=self.partitions,
            since_ms=self.since_ms,
            until_ms=self.until_ms,
            limit=None,
            newest_first=False,
        )

    @classmethod
    def from_request(cls, request: SearchRequest) -> Self:
        """The JSON of the matches of a request; its limit and order are not part of it."""
        return cls(
            query=request.query,
            topics=list(request.topics),
            partitions=None if request.partitions is None else list(request.partitions),
            since_ms=request.since_ms,
            until_ms=request.until_ms,
        )


class ExportJson(MatchesJson, forbid_unknown_fields=True):
    """Which events to export, and in which format."""

    format: Annotated[
        Literal["ndjson", "csv", "parquet"],
        Meta(
            description="ndjson: events as in other replies; csv: without headers; parquet: byte for byte, if"
            " pyarrow is installed on the server."
        ),
    ] = "ndjson"


class ChosenEventJson(msgspec.Struct, forbid_unknown_fields=True):
    """One event to replay, and the parts of it to replace. Parts that are omitted are published unchanged."""

    topic: str
    partition: PartitionNumber
    offset: Offset
    value: Annotated[Raw | UnsetType, Meta(description="As in an event to publish; null: no payload.")] = (
        UNSET
    )
    value_encoding: Encoding | None = None
    key: Annotated[str | UnsetType | None, Meta(description="null: no key.")] = UNSET
    key_encoding: Literal["text", "base64"] = "text"
    headers: Annotated[list[HeaderJson] | UnsetType, Meta(description="Replace all headers.")] = UNSET

    @property
    def is_changed(self) -> bool:
        """Whether any part of the event is replaced before it is published."""
        return not (self.value is UNSET and self.key is UNSET and self.headers is UNSET)


class ReplayRequestJson(msgspec.Struct, forbid_unknown_fields=True):
    """Which events to publish again, where to, and how fast. Either `matches` or `events` names them."""

    to: Annotated[TopicName, Meta(description="The target topic; it must exist.")]
    matches: MatchesJson | None = None
    events: Annotated[list[ChosenEventJson], Meta(min_length=1, max_length=CHOSEN_EVENTS_MAX)] | None = None
    rate: Annotated[int, Meta(ge=1, le=1_000_000, description="Maximum number of events per second.")] = 1_000
    job: Annotated[
        Annotated[str, Meta(pattern=JOB_PATTERN)] | None,
        Meta(
            description="A name for the replay; if omitted, the server chooses one. With the name of a replay"
            " that was interrupted and otherwise the same request, it continues: events that it has published"
            " are not published again."
        ),
    ] = None
    dry_run: Annotated[bool, Meta(description="Only report how many events there are.")] = False


class ReplayProgressJson(msgspec.Struct):
    """A line of the reply to a replay request: its progress. The last line has `done`, or the `problem` that
    ended the replay."""

    to: str
    job: str
    dry_run: bool
    published: Annotated[int, Meta(description="Events published by this request.")]
    published_before: Annotated[int, Meta(description="Events published by earlier requests of this job.")]
    unreadable: Annotated[
        int, Meta(description="Number of ranges that could not be read; their events are not replayed.")
    ] = 0
    events: Annotated[
        int | None, Meta(description="Only in a dry run: how many events the replay would publish.")
    ] = None
    done: bool = False
    problem: Annotated[
        dict[str, Any] | None, Meta(description="Why the replay ended before it was done.")
    ] = None

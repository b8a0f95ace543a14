"""The JSON of searches, and of the updates, histograms, facets, comparisons and traces that answer them.

Owns: the fields of these requests and replies, with their limits and descriptions. Refuses: searching;
`mainstem.search` does it and has types of its own, which `SearchJson.request` makes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta

from mainstem.http_api.events import EventJson
from mainstem.http_api.field_types import Milliseconds, PartitionNumber, TopicGlob
from mainstem.search.contract import SearchRequest

LIMIT_MAX = 100_000
BUDGET_MAX_S = 3_600.0
TRACED_EVENTS_MAX = 10_000

BudgetSeconds = Annotated[float, Meta(gt=0, le=BUDGET_MAX_S)]


class SearchJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request for a search: what to look for, and where."""

    query: Annotated[
        str, Meta(max_length=10_000, description="See docs/SEARCH.md; empty: every event matches.")
    ] = ""
    topics: Annotated[list[TopicGlob], Meta(description="Globs; empty: all topics but internal ones.")] = []
    partitions: list[PartitionNumber] | None = None
    since_ms: Annotated[
        Milliseconds | None, Meta(description="Events of this time or later, ms since 1970.")
    ] = None
    until_ms: Annotated[Milliseconds | None, Meta(description="Events before this time, ms since 1970.")] = (
        None
    )
    limit: Annotated[
        Annotated[int, Meta(ge=1, le=LIMIT_MAX)] | None,
        Meta(description="Maximum number of matches; null: all."),
    ] = 100
    newest_first: bool = True
    resume: Annotated[
        str | None, Meta(description="Continue an earlier search of the same query: its `resume`.")
    ] = None
    budget_s: Annotated[BudgetSeconds | None, Meta(description="Stop after this many seconds.")] = None
    only_count: Annotated[bool, Meta(description="Return no hits, only the totals.")] = False
    encoding: Annotated[
        Literal["plain", "base64"], Meta(description="base64: keys and payloads byte for byte.")
    ] = "plain"

    def request(self, *, budget_s: float | None = None) -> SearchRequest:
        """The same request for a search; `budget_s` is the budget unless the client gave one."""
        return SearchRequest(
            query=self.query,
            topics=self.topics,
            partitions=self.partitions,
            since_ms=self.since_ms,
            until_ms=self.until_ms,
            limit=None if self.only_count else self.limit,
            newest_first=self.newest_first,
            resume=self.resume,
            budget_s=self.budget_s or budget_s,
            only_count=self.only_count,
        )

    @classmethod
    def from_request(cls, request: SearchRequest) -> Self:
        """The JSON of a request whose matches the client wants byte for byte."""
        return cls(
            query=request.query,
            topics=list(request.topics),
            partitions=None if request.partitions is None else list(request.partitions),
            since_ms=request.since_ms,
            until_ms=request.until_ms,
            limit=request.limit,
            newest_first=request.newest_first,
            resume=request.resume,
            budget_s=request.budget_s,
            only_count=request.only_count,
            encoding="base64",
        )


class UnreadableJson(msgspec.Struct):
    """A range of a partition that could not be searched; it begins at `offset`."""

    topic: str
    partition: int
    offset: int
    reason: str


class TotalsJson(msgspec.Struct):
    """How far a search has got: counts since its start. The fields are those of
    `mainstem.search.contract.Totals`."""

    scanned_bytes: int
    skipped_bytes: Annotated[
        int,
        Meta(description="Bytes that were not read, because a filter or an index rules out a match in them."),
    ]
    indexed_bytes: Annotated[
        int, Meta(description="Those of the skipped bytes that a full-text index ruled out.")
    ]
    removed_bytes: Annotated[int, Meta(description="Bytes deleted before the search reached them.")]
    total_bytes: Annotated[
        int | None, Meta(description="Bytes to search in all; null: not known for this cluster.")
    ]
    events: Annotated[int, Meta(description="Events that were decoded and compared.")]
    matches: int
    undecodable: Annotated[int, Meta(description="Number of ranges that could not be read.")]
    share: Annotated[float, Meta(description="The share of all bytes to search that is done, 0 to 1.")]
    reached_ms: int | None
    elapsed_s: float
    partitions: int
    index_note: Annotated[
        str | None,
        Meta(description="Why topics set mainstem.search=indexed were searched without an index."),
    ]


class ProgressJson(msgspec.Struct):
    """How far the search has got; sent while it runs."""

    totals: TotalsJson
    resume: Annotated[
        str | None,
        Meta(description="To continue from this line. null: the latest one that was sent is still valid."),
    ]


class DoneJson(msgspec.Struct):
    """The last update of a search: why it ended, and its totals."""

    reason: Annotated[Literal["complete", "limit", "budget"], Meta(description="Why the search ended.")]
    totals: TotalsJson
    resume: Annotated[str | None, Meta(description="To continue the search; null after `complete`.")]


class ValueJson(msgspec.Struct):
    """A value of a field, and how many matches have it."""

    value: str
    count: int


class FacetsJson(msgspec.Struct):
    """The most frequent values of fields over the matches."""

    events: Annotated[int, Meta(description="Number of matches that were counted.")]
    fields: dict[str, list[ValueJson]]


class DifferenceJson(msgspec.Struct):
    """A value that is more, or less, frequent in the selection than in the baseline."""

    field: str
    value: str
    selected: int
    selected_share: float
    baseline: int
    baseline_share: float


class ComparisonJson(msgspec.Struct):
    """The values that differ most between two searches, the largest difference first."""

    selected: Annotated[int, Meta(description="Number of selected events that were counted.")]
    baseline: Annotated[int, Meta(description="Number of baseline events that were counted.")]
    differences: list[DifferenceJson]


class UpdateJson(msgspec.Struct, omit_defaults=True):
    """A line of the reply to a search. It has exactly one of these fields."""

    hit: EventJson | None = None
    facets: Annotated[
        FacetsJson | None,
        Meta(
            description="The values counted so far, once a second, and all of them in the line before `done`."
        ),
    ] = None
    comparison: Annotated[
        ComparisonJson | None,
        Meta(description="The differences so far, once a second, and at the end in the line before `done`."),
    ] = None
    progress: ProgressJson | None = None
    unreadable: UnreadableJson | None = None
    done: Annotated[DoneJson | None, Meta(description="The last line of a search that was not cut off.")] = (
        None
    )
    problem: Annotated[
        dict[str, Any] | None, Meta(description="The last line of a search that failed while it ran.")
    ] = None


class HistogramQuery(msgspec.Struct):
    """Which events to count, and in how many spans of time."""

    topics: Annotated[
        list[str], Meta(description="Globs, separated by commas; empty: all topics but internal ones.")
    ] = []
    since: Annotated[str, Meta(description="Events of this time or later, ISO 8601.")] = ""
    until: Annotated[str, Meta(description="Events before this time, ISO 8601.")] = ""
    buckets: Annotated[int, Meta(ge=1, le=1_000)] = 60


class BucketJson(msgspec.Struct):
    """The number of events in a span of time."""

    from_ms: int
    to_ms: Annotated[int, Meta(description="Exclusive.")]
    count: int


class HistogramJson(msgspec.Struct):
    """The reply with the histogram: the number of events in equal spans of time; no spans if there are no
    events."""

    buckets: list[BucketJson]


class FacetsRequestJson(SearchJson, forbid_unknown_fields=True):
    """A search whose matches are counted by the values of their fields."""

    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] | None = None
    fields: Annotated[
        list[str],
        Meta(description="topic, partition, key, header.NAME or a path into JSON; empty: all, up to 200."),
    ] = []
    top: Annotated[int, Meta(ge=1, le=1_000, description="Number of values per field.")] = 10


class CompareRequestJson(msgspec.Struct, forbid_unknown_fields=True):
    """Two searches whose matches are compared."""

    selection: FacetsRequestJson
    baseline: FacetsRequestJson
    fields: list[str] = []
    top: Annotated[int, Meta(ge=1, le=1_000)] = 20


class TraceQuery(msgspec.Struct):
    """The value to follow, and where."""

    value: Annotated[
        str, Meta(min_length=1, max_length=1_000, description="An id as it is written in events.")
    ]
    topics: Annotated[
        list[str], Meta(description="Globs, separated by commas; empty: all topics but internal ones.")
    ] = []
    since: Annotated[str, Meta(description="Events of this time or later, ISO 8601.")] = ""
    until: Annotated[str, Meta(description="Events before this time, ISO 8601.")] = ""
    limit: Annotated[
        int, Meta(ge=1, le=TRACED_EVENTS_MAX, description="Maximum number of events; the newest ones.")
    ] = 1_000


class TraceJson(msgspec.Struct):
    """The reply to a trace: the events that have the value, sorted by time."""

    events: list[EventJson]
    unreadable: list[UnreadableJson]
    done: DoneJson

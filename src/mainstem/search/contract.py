"""The contract of a search: requests, updates, totals and resume tokens.

Owns: what a search accepts and returns, and the encoding of resume tokens. Refuses: to search. Two classes
implement it: `local/search.py` searches the files of this machine, `cluster/search.py` any Kafka cluster. The
same tests run over both.

Order of matches: with `newest_first`, offsets fall within each partition. Between partitions, the order is by
time in units of about 8 MiB of one partition: the matches of a unit come together, and units come in the
order of their newest batch. Without `newest_first`, both orders are reversed.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from mainstem import base64url
from mainstem.contract import Event, InvalidArgument, Position

if TYPE_CHECKING:
    from mainstem.search.match.matcher import Matcher

DEFAULT_LIMIT = 100
PROGRESS_INTERVAL_S = 0.1
"""Minimum seconds between two Progress updates."""
PARTIAL_INTERVAL_S = 1.0
"""Minimum seconds between two results so far of a count."""

Reason: TypeAlias = Literal["complete", "limit", "budget"]
ValueCount: TypeAlias = tuple[str, int]


class BlockExclusion(NamedTuple):
    """A block of a partition's log, and the queries of which no event in it matches."""

    first: int
    end: int
    """Its first offset, and the one after its last."""
    matchers: frozenset[Matcher]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """A query and the range of events to search."""

    query: str = ""
    topics: Sequence[str] = ()
    """Globs of topic names. Empty: all topics but internal ones."""
    partitions: Sequence[int] | None = None
    """Partition numbers; None: all."""
    since_ms: int | None = None
    """Earliest timestamp, inclusive."""
    until_ms: int | None = None
    """Latest timestamp, exclusive."""
    limit: int | None = DEFAULT_LIMIT
    """Maximum number of matches; None: all."""
    newest_first: bool = True
    resume: str | None = None
    """Resume token of an earlier search with the same query. Topics, partitions and order are taken from
    it."""
    budget_s: float | None = None
    """Stop the search after this many seconds, with the reason `budget`. None: no limit."""
    only_count: bool = False
    """Return only the totals, no Hits."""
    readable: Callable[[str], bool] | None = field(default=None, compare=False, repr=False)
    """Whether who searches may read a topic; None: all of them. The others are no part of the search, as if
    they did not exist; one that the request names without a wildcard is refused with NotAuthorized."""


@dataclass(frozen=True, slots=True)
class Hit:
    """An update of a search: a matching event."""

    event: Event


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An update of a search: a range of a partition that could not be searched, because it is damaged, is too
    large when decompressed, cannot be fetched, or its worker died. The search continues with other ranges."""

    position: Position
    """The first offset of the range."""
    reason: str


@dataclass(slots=True)
class Totals:
    """Counts of the work of a search, so far or at its end."""

    scanned_bytes: int = 0
    """Bytes of the log, as stored, that were read and searched."""
    skipped_bytes: int = 0
    """Bytes not read, because a token filter, an index or the batch times exclude a match."""
    indexed_bytes: int = 0
    """The part of `skipped_bytes` that a full-text index excluded."""
    removed_bytes: int = 0
    """Bytes deleted (retention, delete-records, topic deletion) before the search reached them."""
    total_bytes: int | None = None
    """Bytes of the whole search. For a Kafka cluster an estimate until they are read. None: unknown."""
    events: int = 0
    """Events decoded and tested. Batches excluded by their bytes are not decoded and do not count."""
    matches: int = 0
    undecodable: int = 0
    """Number of Unreadable updates."""
    share: float = 0.0
    """Completed share, 0 to 1: by bytes, or by offsets if the bytes are unknown."""
    reached_ms: int | None = None
    """All events newer than this (older, if oldest first) are searched, judged by the times of batches."""
    elapsed_s: float = 0.0
    partitions: int = 0
    index_note: str | None = None
    """Why topics with `mainstem.search=indexed` were searched, partly or wholly, without their index."""


@dataclass(frozen=True, slots=True)
class Progress:
    """An update of a search: how far it is. At most one every 100 ms."""

    totals: Totals
    resume: str | None
    """Token with which a new search goes on from here if this one is cancelled. None: use the token of an
    earlier Progress; the matches returned since then are returned again."""


@dataclass(frozen=True, slots=True)
class Done:
    """The last update of a search."""

    reason: Reason
    totals: Totals
    resume: str | None
    """Token with which a new search goes on from here; None after `complete`."""


Update: TypeAlias = Hit | Progress | Unreadable | Done


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bar of a histogram: the number of events in an interval of time."""

    from_ms: int
    to_ms: int
    """Exclusive."""
    count: int


@dataclass(frozen=True, slots=True)
class Difference:
    """How frequent a field's value is among the selected events and among the baseline's."""

    field: str
    value: str
    selected: int
    """Number of selected events with the value."""
    selected_share: float
    baseline: int
    """Number of baseline events with the value."""
    baseline_share: float

    @property
    def lift(self) -> float:
        """Ratio of the shares; infinite if no baseline event has the value."""
        return self.selected_share / self.baseline_share if self.baseline else float("inf")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison, so far or at its end: the values whose shares differ most."""

    selected: int
    """Number of selected events counted."""
    baseline: int
    """Number of baseline events counted."""
    differences: list[Difference]
    """The largest difference of the shares first."""


@dataclass(frozen=True, slots=True)
class Facets:
    """The result of a facet search, so far or at its end: the most frequent values of fields over the
    matches."""

    events: int
    """Number of matches counted."""
    values: dict[str, list[ValueCount]] = field(default_factory=dict)
    """The values of each field with their number of events, the most frequent first."""


class Search(Protocol):
    """A search engine over one log or cluster."""

    def search(self, request: SearchRequest) -> AsyncGenerator[Update, None]:
        """Yield Hits as they are found, Progress and Unreadable updates, and Done last. Closing the generator
        cancels the search. Raises QueryError, InvalidArgument (bad resume token), any StreamError."""

    async def histogram(
        self,
        topics: Sequence[str],
        since_ms: int | None,
        until_ms: int | None,
        buckets: int,
        *,
        readable: Callable[[str], bool] | None = None,
    ) -> list[Bucket]:
        """Count the events in each of `buckets` equal intervals of time. Without events, there are no
        buckets. Counts come from batch headers: the events of a batch count as evenly spread between its
        times. `readable`: as in SearchRequest."""

    def facets(
        self, request: SearchRequest, fields: Sequence[str], top: int
    ) -> AsyncGenerator[Update | Facets, None]:
        """Search, and yield Facets instead of Hits: the `top` most frequent values of each field; some on the
        way, at most one every PARTIAL_INTERVAL_S, and the last one before Done. A field is `topic`,
        `partition`, `key`, `header.NAME` or a path into JSON. Without fields, the first 200 fields of the
        matches are counted, and values that the query names are left out. Done says whether all matches were
        counted."""

    def compare(
        self, selection: SearchRequest, baseline: SearchRequest, fields: Sequence[str] = (), top: int = 20
    ) -> AsyncGenerator[Update | Comparison, None]:
        """Search both, and yield Comparisons instead of Hits: the `top` values whose shares differ most; some
        on the way, at most one every PARTIAL_INTERVAL_S, and the last one before Done. Progress and Done have
        the totals of both. Without fields, differences that follow from the queries themselves are left
        out."""

    def prepare(self) -> None:
        """Start a worker, because a search is likely. It ends if none comes within a minute."""

    async def close(self) -> None:
        """Cancel running searches and end all workers. Idempotent."""


# ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Remaining:
    """The range of offsets of a partition that is still to be searched: from `low` to before `high`."""

    topic: str
    partition: int
    low: int
    high: int
    """Exclusive."""
    topic_id: str = ""
    """The topic's id when the search began, as `TopicInfo.id`."""


class _ResumeToken(msgspec.Struct, array_like=True):
    query_checksum: int
    newest_first: bool
    topics: list[tuple[str, str]]
    """Name and id."""
    remaining: list[tuple[int, int, int, int]]
    """Number of the topic in `topics`, partition, low and high."""


def encode_resume_token(request: SearchRequest, remaining: Sequence[Remaining]) -> str:
    """A token for `SearchRequest.resume`. `remaining`: each partition that is not finished."""
    numbers: dict[tuple[str, str], int] = {}
    rows = [
        (
            numbers.setdefault((target.topic, target.topic_id), len(numbers)),
            target.partition,
            target.low,
            target.high,
        )
        for target in remaining
    ]
    token = _ResumeToken(_checksum(request), request.newest_first, list(numbers), rows)
    packed = msgspec.msgpack.encode(token)
    return base64url.encode(zlib.compress(packed))


def decode_resume_token(request: SearchRequest) -> tuple[SearchRequest, list[Remaining]]:
    """Returns the request, in the order of its resume token, and the offsets that the token leaves to be
    searched. Raises InvalidArgument if `resume` is not a token, or is the token of another query."""
    text = request.resume or ""
    try:
        packed = base64url.decode(text)
        unpacker = zlib.decompressobj()
        token = msgspec.msgpack.decode(unpacker.decompress(packed, 16 << 20), type=_ResumeToken)
        if not all(0 <= number < len(token.topics) for number, *_ in token.remaining):
            raise ValueError("a topic that the token does not name")
    except (ValueError, zlib.error, msgspec.DecodeError):
        raise InvalidArgument("resume: this is not a token of a search") from None
    if token.query_checksum != _checksum(request):
        raise InvalidArgument("resume: this token belongs to a search with another query or other times")
    remaining = [
        Remaining(token.topics[number][0], partition, low, high, token.topics[number][1])
        for number, partition, low, high in token.remaining
    ]
    return replace(request, newest_first=token.newest_first), remaining


def _checksum(request: SearchRequest) -> int:
    return zlib.crc32(repr((request.query, request.since_ms, request.until_ms)).encode())


def topic_is_requested(name: str, globs: Sequence[str], query_globs: Sequence[str] | None) -> bool:
    """Whether a topic fits one of the request's globs (if it has any) and one of the query's own globs."""
    return (not globs or any(fnmatchcase(name, glob) for glob in globs)) and (
        query_globs is None or any(fnmatchcase(name, glob) for glob in query_globs)
    )

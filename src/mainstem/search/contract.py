"""What a search is asked and what it tells: the contract of both kinds of search.

Owns: requests, updates, the words of progress, and the token by which a search goes on later. Refuses: to
know where events lie. `local/search.py` searches the files of this machine in worker processes,
`cluster/search.py` any Kafka cluster in the same way; one body of tests says what both do alike. Doors and
the command line use it.

Order: with `newest_first`, the matches of one partition come with falling offsets. Between partitions the
order is by time as far as the units of work go (some 8 MiB of one partition each): a unit's matches come
together, and the units come by the time of their newest batch. Without it: rising, in the same way.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal, Protocol, TypeAlias

import msgspec

from mainstem.contract import Event, InvalidArgument, Position

DEFAULT_LIMIT = 100
PROGRESS_INTERVAL_S = 0.1
"""Progress is told at most so often."""

Reason: TypeAlias = Literal["complete", "limit", "budget"]
Value: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What to look for, and where."""

    query: str = ""
    topics: Sequence[str] = ()
    """Globs; none: all but internal ones."""
    partitions: Sequence[int] | None = None
    since_ms: int | None = None
    """Events with this time or later."""
    until_ms: int | None = None
    """Events before this time."""
    limit: int | None = DEFAULT_LIMIT
    """Matches at most; None: all."""
    newest_first: bool = True
    resume: str | None = None
    """Where an earlier search of the same query stopped; topics, partitions and order are then its."""
    budget_s: float | None = None
    """Stop after so many seconds."""
    only_count: bool = False
    """No Hit is wanted, the numbers alone."""


@dataclass(frozen=True, slots=True)
class Hit:
    """An event that matches."""

    event: Event


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A stretch that could not be searched: damaged, too large when decompressed, or its worker died."""

    position: Position
    """Where it begins."""
    reason: str


@dataclass(slots=True)
class Totals:
    """How far a search has come."""

    scanned_bytes: int = 0
    """Of the log (as it is stored), read and searched."""
    skipped_bytes: int = 0
    """Not read, because a token filter or the times say that nothing there can match."""
    indexed_bytes: int = 0
    """Of the skipped ones: those of which a full-text index says so."""
    removed_bytes: int = 0
    """Deleted (retention, delete-records, topic deletion) before they were reached."""
    total_bytes: int | None = None
    """To search in all: of a Kafka cluster about, until it is read. None: not known."""
    events: int = 0
    """Decoded and compared. Events of batches that were excluded by their bytes are not among them."""
    matches: int = 0
    undecodable: int = 0
    """Stretches reported as Unreadable."""
    share: float = 0.0
    """0 to 1: by bytes, or by offsets where bytes are not known."""
    reached_ms: int | None = None
    """All newer events (older, when oldest first) have been searched, as far as batch times tell."""
    elapsed_s: float = 0.0
    partitions: int = 0
    index_note: str | None = None
    """Why topics set `mainstem.search=indexed` were searched, in part or in all, without an index."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Told while it runs, at most every 100 ms."""

    totals: Totals
    resume: str | None
    """To go on from here if the search is cancelled. None: the last one holds, and what was found after it
    comes again."""


@dataclass(frozen=True, slots=True)
class Done:
    """The last update."""

    reason: Reason
    totals: Totals
    resume: str | None
    """To go on; None after `complete`."""


Update: TypeAlias = Hit | Progress | Unreadable | Done


@dataclass(frozen=True, slots=True)
class Bucket:
    """Events by time: from inclusive, to exclusive, ms."""

    from_ms: int
    to_ms: int
    count: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A value that is more, or less, frequent among the selected events than among the others."""

    field: str
    value: str
    selected: int
    selected_share: float
    baseline: int
    baseline_share: float

    @property
    def lift(self) -> float:
        """How many times as frequent; infinite when the baseline never has it."""
        return self.selected_share / self.baseline_share if self.baseline else float("inf")


@dataclass(frozen=True, slots=True)
class Facets:
    """The most frequent values of fields."""

    events: int
    """Matches that were counted."""
    values: dict[str, list[Value]] = field(default_factory=dict)


class Search(Protocol):
    """One way to search."""

    def search(self, request: SearchRequest) -> AsyncGenerator[Update, None]:
        """Hits as they are found, progress, and Done at the end. Closing it (`aclose`) cancels the work.
        Raises QueryError, InvalidArgument (resume), any StreamError."""

    async def histogram(
        self, topics: Sequence[str], since_ms: int | None, until_ms: int | None, buckets: int
    ) -> list[Bucket]:
        """How many events lie in each of so many equal spans of time; no events: no buckets. From batch
        headers: the events of a batch count as spread evenly between its times."""

    def facets(
        self, request: SearchRequest, fields: Sequence[str], top: int
    ) -> AsyncGenerator[Update | Facets, None]:
        """The `top` most frequent values of each field over the matches: as a search, but instead of its Hits
        come Facets, before Done, which says whether they are of all. A field is `topic`, `partition`,
        `key`, `header.NAME` or a path into JSON; no fields: all that the matches have, up to 200."""

    async def compare(
        self, selection: SearchRequest, baseline: SearchRequest, fields: Sequence[str] = (), top: int = 20
    ) -> list[Difference]:
        """Which values set the selected events apart from the baseline's, the largest difference first."""

    def prepare(self) -> None:
        """Somebody may search soon: get ready for a minute."""

    async def close(self) -> None:
        """End what runs. Idempotent."""


# ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Remaining:
    """What is left to search of a partition: offsets from `low` up to, not including, `high`."""

    topic: str
    partition: int
    low: int
    high: int


class _ResumeToken(msgspec.Struct, array_like=True):
    query: int
    newest_first: bool
    left: list[tuple[str, int, int, int]]


def encode_resume_token(request: SearchRequest, left: list[tuple[str, int, int, int]]) -> str:
    """What `resume` takes. `left`: topic, partition, low and high of each that is not done."""
    packed = msgspec.msgpack.encode(_ResumeToken(_mark(request), request.newest_first, left))
    return base64.urlsafe_b64encode(zlib.compress(packed)).decode().rstrip("=")


def decode_resume_token(request: SearchRequest) -> tuple[SearchRequest, list[Remaining]]:
    """The request in its old order, and what is left. InvalidArgument: no such token, or of another query."""
    text = request.resume or ""
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        unpacker = zlib.decompressobj()
        token = msgspec.msgpack.decode(unpacker.decompress(packed, 16 << 20), type=_ResumeToken)
    except (ValueError, zlib.error, msgspec.DecodeError):
        raise InvalidArgument("resume: this is no token of a search") from None
    if token.query != _mark(request):
        raise InvalidArgument("resume: this token is of a search with another query or other times")
    return replace(request, newest_first=token.newest_first), [Remaining(*row) for row in token.left]


def _mark(request: SearchRequest) -> int:
    return zlib.crc32(repr((request.query, request.since_ms, request.until_ms)).encode())


def topic_is_requested(name: str, globs: Sequence[str], demanded: Sequence[str] | None) -> bool:
    """It fits one of the request's globs (none: all do) and one of those that the query itself demands."""
    return (not globs or any(fnmatchcase(name, glob) for glob in globs)) and (
        demanded is None or any(fnmatchcase(name, glob) for glob in demanded)
    )

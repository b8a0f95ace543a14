"""What the server and its search workers say to each other.

Owns: the messages and their framing: 4 bytes of length, big-endian, then msgpack. Refuses: meaning. Both
sides are of the same version, for the server starts the workers; so there is no version in it.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

import msgspec

LENGTH = struct.Struct(">I")
MESSAGE_BYTES_MAX = 256 << 20
UNKNOWN = -2


class Unit(msgspec.Struct, array_like=True, frozen=True):
    """Some committed batches of one segment."""

    topic: str
    partition: int
    path: str
    start: int
    end: int
    """Positions in the file: batch boundaries."""
    low: int
    high: int
    """Only events with these offsets are wanted; `high` is exclusive."""


class ScanRequest(msgspec.Struct, tag="scan"):
    """Search a unit. Answered with ScanMatches and ScanDamage as they come, then ScanReply."""

    id: int
    unit: Unit
    query: str
    now_ms: int
    since_ms: int | None
    until_ms: int | None
    newest_first: bool
    limit: int
    """Stop after so many matches, at least 1."""
    max_bytes: int
    """Stop when the matches take so much."""
    output: str = "events"
    """`events`, `count` (no ScanMatches) or `fields` (value counts at the end)."""
    fields: tuple[str, ...] = ()


class UncutRange(msgspec.Struct, array_like=True, frozen=True):
    """A stretch of a segment that has no blocks yet."""

    path: str
    start: int
    end: int
    closed: bool
    """Something follows it: the last block is as full as it will be."""


class CutBlocksRequest(msgspec.Struct, tag="cut-blocks"):
    """Cut gaps into blocks. Answered with CutBlocksReply."""

    id: int
    ranges: list[UncutRange]
    block_bytes: int


class UnitTimesRequest(msgspec.Struct, tag="unit-times"):
    """Times and counts of the batches of units, from their headers. Answered with UnitTimesReply."""

    id: int
    units: list[Unit]


class CountByTimeRequest(msgspec.Struct, tag="count-by-time"):
    """Events of units by time, from their headers: `edges` of the buckets. Answered with CountByTimeReply."""

    id: int
    units: list[Unit]
    edges: list[int]


class FilterInfo(msgspec.Struct, array_like=True, frozen=True):
    """What is known of a block that has a token filter."""

    filter_path: str
    path: str
    start: int
    end: int
    first_offset: int
    next_offset: int
    min_ms: int
    max_ms: int
    events: int = 0
    """0: not known."""


class BuildFilterRequest(msgspec.Struct, tag="build-filter"):
    """Make the token filter of a block. Answered with BuildFilterReply."""

    id: int
    unit: Unit
    filter_path: str


class TestFiltersRequest(msgspec.Struct, tag="test-filters"):
    """Ask token filters (path, start and end of their blocks). Answered with TestFiltersReply."""

    id: int
    filters: list[tuple[str, int, int]]
    clauses: list[list[bytes]]


class FindFiltersRequest(msgspec.Struct, tag="find-filters"):
    """Find the token filters that there are. Answered with FiltersReply."""

    id: int
    root: str
    partitions: str


class RemoveFiltersRequest(msgspec.Struct, tag="remove-filters"):
    """Remove token filters whose data is gone. Answered with an empty FiltersReply."""

    id: int
    filter_paths: list[str]


class IndexPart(msgspec.Struct, array_like=True, frozen=True):
    """A part of the full-text index, of a stretch of a segment."""

    folder: str
    path: str
    start: int
    end: int
    unindexed: list[tuple[int, int]]
    """Stretches within it about which it says nothing."""
    fingerprint: str
    """Of its files when they were found to be whole; empty: they were not looked at yet."""


class FindPartsRequest(msgspec.Struct, tag="find-parts"):
    """To the builder: find the index parts that there are. Answered with PartsReply."""

    id: int
    root: str
    partitions: str


class CheckPartRequest(msgspec.Struct, tag="check-part"):
    """To the builder: read a part in full. Answered with PartsReply: this one, or none if it was damaged and
    has been removed."""

    id: int
    part: IndexPart


class BuildPartRequest(msgspec.Struct, tag="build-part"):
    """To the builder: make the index part of these closed blocks, which lie side by side in one segment.
    Answered with PartsReply."""

    id: int
    root: str
    blocks: list[Unit]


class RemovePartsRequest(msgspec.Struct, tag="remove-parts"):
    """To the builder: remove parts. Answered with an empty PartsReply."""

    id: int
    folders: list[str]


class QueryPartsRequest(msgspec.Struct, tag="query-parts"):
    """To a worker: which batches have a token of each clause? Answered with QueryPartsReply."""

    id: int
    parts: list[tuple[str, str]]
    """Folder and fingerprint of each."""
    clauses: list[list[str]]


class ListPartitionsRequest(msgspec.Struct, tag="list-partitions"):
    """To a worker of a cluster: which partitions are there, and what do they hold? Answered with
    ListPartitionsReply."""

    id: int
    globs: list[str]
    """Of topics; none: all but internal ones."""
    query_globs: list[str] | None
    """Globs of topics that the query itself demands."""


class LookUpOffsetsRequest(msgspec.Struct, tag="look-up-offsets"):
    """To a worker of a cluster: topic, partition and a time (ms) or a leader epoch. Answered with
    LookUpOffsetsReply."""

    id: int
    kind: str
    """`time` or `epoch`."""
    lookups: list[tuple[str, int, int]]


class CancelRequest(msgspec.Struct, tag="cancel"):
    """Stop working on this request. Its last answer still comes."""

    id: int


_Request: TypeAlias = (
    ScanRequest
    | CutBlocksRequest
    | UnitTimesRequest
    | CountByTimeRequest
    | BuildFilterRequest
    | TestFiltersRequest
    | FindFiltersRequest
    | RemoveFiltersRequest
    | CancelRequest
)
Request: TypeAlias = (
    _Request
    | ListPartitionsRequest
    | LookUpOffsetsRequest
    | QueryPartsRequest
    | FindPartsRequest
    | CheckPartRequest
    | BuildPartRequest
    | RemovePartsRequest
)

Row: TypeAlias = tuple[int, int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]
"""offset, timestamp ms, key, value, headers"""


class ScanMatches(msgspec.Struct, tag="scan-matches"):
    """Matches, in the order that was asked for."""

    id: int
    rows: list[Row]


class ScanProgress(msgspec.Struct, tag="scan-progress"):
    """How much of a ScanRequest is done, now and then."""

    id: int
    bytes: int
    skipped_bytes: int


class ScanDamage(msgspec.Struct, tag="scan-damage"):
    """A stretch from this offset on could not be searched."""

    id: int
    offset: int
    reason: str


class ScanReply(msgspec.Struct, tag="scan-reply"):
    """The end of a ScanRequest."""

    id: int
    bytes: int
    skipped_bytes: int
    """Of batches whose times cannot fit: nothing but their headers was read."""
    events: int
    matches: int
    stopped_at: int | None
    """It stopped early: this event was the last one searched, in the order asked for. None: all is done."""
    value_counts: dict[str, dict[str, int]] = {}


class BlockRange(msgspec.Struct, array_like=True, frozen=True):
    """A block: where it is, its first offset, the offset after it and its newest header time."""

    path: str
    start: int
    end: int
    first_offset: int
    next_offset: int
    time_ms: int
    closed: bool


class CutBlocksReply(msgspec.Struct, tag="cut-blocks-reply"):
    """The blocks of the gaps. What could not be cut (file gone) is left out."""

    id: int
    blocks: list[BlockRange]


class UnitTimesReply(msgspec.Struct, tag="unit-times-reply"):
    """Of each unit: least and largest header time and number of events; None: it is gone."""

    id: int
    spans: list[tuple[int, int, int] | None]


class CountByTimeReply(msgspec.Struct, tag="count-by-time-reply"):
    """Events in each bucket."""

    id: int
    counts: list[float]


class BuildFilterReply(msgspec.Struct, tag="build-filter-reply"):
    """The filter that was made; None: this block can have none."""

    id: int
    filter: FilterInfo | None


class TestFiltersReply(msgspec.Struct, tag="test-filters-reply"):
    """Of each filter MAY_MATCH, CANNOT_MATCH or UNUSABLE, as in `token_filter.py`."""

    id: int
    results: list[int]


class FiltersReply(msgspec.Struct, tag="filters-reply"):
    """Filters that were found."""

    id: int
    filters: list[FilterInfo]


class PartsReply(msgspec.Struct, tag="parts-reply"):
    """Index parts that are there."""

    id: int
    parts: list[IndexPart]


class CandidateBatch(msgspec.Struct, array_like=True, frozen=True):
    """A batch that an index part names: positions in the segment, its first offset and the one after it."""

    start: int
    end: int
    first_offset: int
    next_offset: int


class QueryPartsReply(msgspec.Struct, tag="query-parts-reply"):
    """Of each part the batches that it names, by position; None: more than are worth it, or the part is not
    what it was (then it is also among `changed`) and says nothing."""

    id: int
    candidates: list[list[CandidateBatch] | None]
    changed: list[int]


class ClusterPartition(msgspec.Struct, array_like=True, frozen=True):
    """A partition of a cluster."""

    topic: str
    topic_id: str
    """Hex digits; empty: the cluster has no ids."""
    internal: bool
    partition: int
    begin: int
    end: int
    """What is committed ends here."""
    bytes: int
    """0: not known."""
    problem: str
    """Why nothing is known of it; empty: it is."""


class ListPartitionsReply(msgspec.Struct, tag="list-partitions-reply"):
    """The partitions of a cluster."""

    id: int
    partitions: list[ClusterPartition]


class LookUpOffsetsReply(msgspec.Struct, tag="look-up-offsets-reply"):
    """For each that was asked, in order: the first offset at or after the time, and its time; or the epoch
    that was found, and its end. -1: there is none; UNKNOWN: nobody answered."""

    id: int
    results: list[tuple[int, int]]
    """(time or epoch, offset)"""


class RequestFailed(msgspec.Struct, tag="request-failed"):
    """The request could not be done."""

    id: int
    reason: str
    data_deleted: bool = False
    """The file is gone: deleted with its data."""


_Reply: TypeAlias = (
    ScanMatches
    | ScanProgress
    | ScanDamage
    | ScanReply
    | CutBlocksReply
    | UnitTimesReply
    | CountByTimeReply
    | BuildFilterReply
    | TestFiltersReply
    | FiltersReply
    | RequestFailed
)
Reply: TypeAlias = _Reply | ListPartitionsReply | LookUpOffsetsReply | QueryPartsReply | PartsReply
FINAL_REPLIES = (
    ScanReply,
    CutBlocksReply,
    UnitTimesReply,
    CountByTimeReply,
    BuildFilterReply,
    TestFiltersReply,
    FiltersReply,
    RequestFailed,
    ListPartitionsReply,
    LookUpOffsetsReply,
    QueryPartsReply,
    PartsReply,
)
"""After one of these, a request is done."""

_ENCODE = msgspec.msgpack.Encoder().encode
_REQUEST = msgspec.msgpack.Decoder(Request)
_REPLY = msgspec.msgpack.Decoder(Reply)


def frame(message: Request | Reply) -> bytes:
    """A message, ready for the pipe."""
    body = _ENCODE(message)
    return LENGTH.pack(len(body)) + body


def decode_request(body: bytes) -> Request:
    """A request from its frame's body."""
    found: Request = _REQUEST.decode(body)
    return found


def decode_reply(body: bytes) -> Reply:
    """A reply from its frame's body."""
    found: Reply = _REPLY.decode(body)
    return found

"""The messages between the server and its search workers, over pipes.

Owns: the requests and replies (those about clusters are in `cluster/messages.py`), and their frames: 4 bytes
of length, big-endian, then a message in msgpack. There is no version number, because the server starts the
workers: both sides run the same code. Each request has an id; all its replies have the same id, and one of
FINAL_REPLIES ends it. Refuses: to read or write the pipes (`workers/`).
"""

from __future__ import annotations

import struct
from typing import NamedTuple, TypeAlias

import msgspec

from mainstem.search.cluster.messages import (
    ListPartitionsReply,
    ListPartitionsRequest,
    LookUpOffsetsReply,
    LookUpOffsetsRequest,
)
from mainstem.search.facets import FieldCounts

LENGTH = struct.Struct(">I")
ROWS_A_REPLY = 100
"""Maximum number of matches in one ScanMatches, so that the server decodes little at a time."""
VALUES_A_REPLY = 1_000
"""Maximum number of values in one ValueCounts."""


class Unit(msgspec.Struct, array_like=True, frozen=True):
    """Committed batches of one segment, or of one partition of a cluster: what one request scans."""

    topic: str
    partition: int
    path: str
    """The segment's file; of a cluster, the topic's id in hex."""
    start: int
    end: int
    """Positions in the file, at batch boundaries; of a cluster, `end - start` is the estimated size."""
    low: int
    high: int
    """Only events with these offsets are searched; `high` is exclusive."""


class ScanCounts(msgspec.Struct, array_like=True, frozen=True):
    """The counts of a scan so far. It is passed on when a scan is paused, so that all replies to a request
    count from the beginning of its unit."""

    bytes: int = 0
    skipped_bytes: int = 0
    """Bytes of batches of which only the header was read, because their times or offsets cannot match."""
    events: int = 0
    matches: int = 0
    row_bytes: int = 0
    """About the memory of the matches that were returned."""
    baseline_matches: int = 0
    """Matches of the baseline of the request."""


class ScanRequest(msgspec.Struct, tag="scan"):
    """A request to search a unit. Replies: ScanMatches, ValueCounts, ScanDamage and ScanProgress during the
    scan, then ScanReply; or Paused, if the scan has taken its share of time or was asked to pause."""

    id: int
    unit: Unit
    query: str
    now_ms: int
    since_ms: int | None
    until_ms: int | None
    newest_first: bool
    limit: int
    """Stop after this many matches, at least 1."""
    max_bytes: int
    """Stop when the matches have this many bytes."""
    output: str = "events"
    """`events`, `count` (no ScanMatches) or `fields` (ValueCounts instead of ScanMatches)."""
    fields: tuple[str, ...] = ()
    baseline: str | None = None
    """With output `fields`: another query, whose matches are counted apart, in the same scan."""
    so_far: ScanCounts = ScanCounts()
    """What the scan of the unit counted before it was paused."""


class UncutRange(msgspec.Struct, array_like=True, frozen=True):
    """A range of a segment that is not divided into blocks yet."""

    path: str
    start: int
    end: int
    closed: bool
    """Whether more data follows the range, so that its last block will not grow."""


class CutBlocksRequest(msgspec.Struct, tag="cut-blocks"):
    """A request to divide ranges of segments into blocks of about `block_bytes`. Reply: CutBlocksReply."""

    id: int
    ranges: list[UncutRange]
    block_bytes: int


class UnitTimesRequest(msgspec.Struct, tag="unit-times"):
    """A request to read the times and the numbers of events of units from batch headers. Reply:
    UnitTimesReply."""

    id: int
    units: list[Unit]


class CountByTimeRequest(msgspec.Struct, tag="count-by-time"):
    """A request to count the events of units in buckets of time, from batch headers. `edges`: the times
    between which the buckets lie, ms. Reply: CountByTimeReply."""

    id: int
    units: list[Unit]
    edges: list[int]


class FilterInfo(msgspec.Struct, array_like=True, frozen=True):
    """A token filter, and the block that it belongs to."""

    filter_path: str
    path: str
    """The segment's file; of a cluster, the name of the partition's folder."""
    start: int
    end: int
    first_offset: int
    next_offset: int
    min_ms: int
    """Least time of the block's events."""
    max_ms: int
    events: int = 0
    """Number of events; 0: unknown."""


class BuildFilterRequest(msgspec.Struct, tag="build-filter"):
    """A request to build the token filter of a block. `filter_path`: the file to write; for a cluster, the
    folder for it. Reply: BuildFilterReply."""

    id: int
    unit: Unit
    filter_path: str


class TestFiltersRequest(msgspec.Struct, tag="test-filters"):
    """A request to test, by their token filters, which blocks may have a token of each clause. Reply:
    TestFiltersReply."""

    id: int
    filters: list[tuple[str, int, int]]
    """Path of the filter, start and end of its block."""
    clauses: list[list[bytes]]


class FindFiltersRequest(msgspec.Struct, tag="find-filters"):
    """A request to list the valid token filters below `root`. Reply: FiltersReply."""

    id: int
    root: str
    partitions: str
    """The folder of the log's partitions; empty for a cluster."""


class RemoveFiltersRequest(msgspec.Struct, tag="remove-filters"):
    """A request to remove these token filters. Reply: an empty FiltersReply."""

    id: int
    filter_paths: list[str]


class IndexPart(msgspec.Struct, array_like=True, frozen=True):
    """An index part: the piece of the full-text index that covers a range of a segment."""

    folder: str
    path: str
    start: int
    end: int
    unindexed: list[tuple[int, int]]
    """Ranges (start, end) between `start` and `end` that the part does not cover."""
    fingerprint: str
    """Identifies the part's files as they were when they were checked; empty: not checked yet."""


class FindPartsRequest(msgspec.Struct, tag="find-parts"):
    """A request to the index builder to list the index parts below `root`. Reply: PartsReply."""

    id: int
    root: str
    partitions: str


class CheckPartRequest(msgspec.Struct, tag="check-part"):
    """A request to the index builder to read an index part in full and check it. Reply: PartsReply with this
    part, or an empty one if the part was damaged; it is removed then."""

    id: int
    part: IndexPart


class BuildPartRequest(msgspec.Struct, tag="build-part"):
    """A request to the index builder to build the index part of these closed, adjacent blocks of one segment.
    Reply: PartsReply with the new part."""

    id: int
    root: str
    blocks: list[Unit]


class RemovePartsRequest(msgspec.Struct, tag="remove-parts"):
    """A request to the index builder to remove these index parts. Reply: an empty PartsReply."""

    id: int
    folders: list[str]


class QueryPartsRequest(msgspec.Struct, tag="query-parts"):
    """A request to find, in index parts, the batches that have a token of each clause. Reply:
    QueryPartsReply."""

    id: int
    parts: list[tuple[str, str]]
    """Folder and fingerprint of each part."""
    clauses: list[list[str]]


class PauseRequest(msgspec.Struct, tag="pause"):
    """A request to pause the request with this id, because a more urgent one waits. It has no reply of its
    own. A scan is answered with Paused soon; other requests are not paused."""

    id: int


class CancelRequest(msgspec.Struct, tag="cancel"):
    """A request to stop working on the request with this id. It has no reply of its own; the stopped request
    still gets its final reply."""

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
    | PauseRequest
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
"""Offset, timestamp (ms), key, value, headers of an event."""


class ScanMatches(msgspec.Struct, tag="scan-matches"):
    """A reply to ScanRequest, with at most ROWS_A_REPLY of its matching events, in the requested order. More
    may follow."""

    id: int
    rows: list[Row]


class ScanProgress(msgspec.Struct, tag="scan-progress"):
    """A reply during a scan: how many bytes of the unit were read and skipped so far."""

    id: int
    bytes: int
    skipped_bytes: int


class ScanDamage(msgspec.Struct, tag="scan-damage"):
    """A reply to ScanRequest: a range that begins at this offset could not be searched. The scan
    continues."""

    id: int
    offset: int
    reason: str


class ValueCounts(msgspec.Struct, tag="value-counts"):
    """A reply to ScanRequest with output `fields`: some of the values of a field, with the numbers of matches
    that have them since the last reply about the field. At most VALUES_A_REPLY, so that the server merges
    little at a time."""

    id: int
    field: str
    counts: FieldCounts
    of_baseline: bool = False


class Paused(msgspec.Struct, tag="paused"):
    """The reply to a request that is paused, in place of its final reply: the request, with the same id, with
    which any worker can go on. The replies before it count; `rest` returns no match again."""

    id: int
    rest: ScanRequest


class ScanReply(msgspec.Struct, tag="scan-reply"):
    """The final reply to a ScanRequest: what was read, how many events match, and where the scan stopped."""

    id: int
    bytes: int
    skipped_bytes: int
    """Bytes of batches of which only the header was read, because their times or offsets cannot match."""
    events: int
    matches: int
    stopped_at: int | None
    """Offset of the last event searched, if the scan stopped at a limit. None: the unit is finished."""
    baseline_matches: int = 0


class BlockRange(msgspec.Struct, array_like=True, frozen=True):
    """A block of a segment: successive batches that are searched as one unit and share a token filter."""

    path: str
    start: int
    end: int
    first_offset: int
    next_offset: int
    """The offset after its last event."""
    time_ms: int
    """Largest time in its batch headers."""
    closed: bool
    """Whether the block is complete. An open block may still grow."""


class CutBlocksReply(msgspec.Struct, tag="cut-blocks-reply"):
    """The final reply to CutBlocksRequest: the blocks of the ranges. Ranges of deleted files are left out."""

    id: int
    blocks: list[BlockRange]


class TimeSpan(NamedTuple):
    """The least and the largest time of some events, and their number. (0, -1, 0): no event has a time."""

    min_ms: int
    max_ms: int
    events: int


class UnitTimesReply(msgspec.Struct, tag="unit-times-reply"):
    """The final reply to UnitTimesRequest: the times of each unit; None: its data was deleted."""

    id: int
    spans: list[TimeSpan | None]


class CountByTimeReply(msgspec.Struct, tag="count-by-time-reply"):
    """The final reply to CountByTimeRequest: the number of events in each bucket. The events of a batch that
    spans several buckets count as evenly spread over its time."""

    id: int
    counts: list[float]


class BuildFilterReply(msgspec.Struct, tag="build-filter-reply"):
    """The final reply to BuildFilterRequest: the filter that was built; None: this block can have none."""

    id: int
    filter: FilterInfo | None


class TestFiltersReply(msgspec.Struct, tag="test-filters-reply"):
    """The final reply to TestFiltersRequest: for each filter MAY_MATCH, CANNOT_MATCH or UNUSABLE
    (`blocks/token_filter.py`)."""

    id: int
    results: list[int]


class FiltersReply(msgspec.Struct, tag="filters-reply"):
    """The final reply to FindFiltersRequest and RemoveFiltersRequest: valid token filters."""

    id: int
    filters: list[FilterInfo]


class PartsReply(msgspec.Struct, tag="parts-reply"):
    """The final reply to the requests to find, check, build and remove index parts: valid index parts."""

    id: int
    parts: list[IndexPart]


class CandidateBatch(msgspec.Struct, array_like=True, frozen=True):
    """A batch that may match, according to an index part."""

    start: int
    end: int
    """Positions in the segment."""
    first_offset: int
    next_offset: int
    """The offset after its last event."""


class QueryPartsReply(msgspec.Struct, tag="query-parts-reply"):
    """The final reply to QueryPartsRequest: the batches of each index part that may match, by position."""

    id: int
    candidates: list[list[CandidateBatch] | None]
    """By part. None: the part is of no use, because too many batches may match, or it is in `changed`."""
    changed: list[int]
    """Indexes of the parts whose files are not those that were checked."""


class FailureReply(msgspec.Struct, tag="request-failed"):
    """The final reply to a request that failed."""

    id: int
    reason: str
    data_deleted: bool = False
    """Whether the request failed because its data was deleted in the meantime."""


_Reply: TypeAlias = (
    ScanMatches
    | ScanProgress
    | ScanDamage
    | ValueCounts
    | Paused
    | ScanReply
    | CutBlocksReply
    | UnitTimesReply
    | CountByTimeReply
    | BuildFilterReply
    | TestFiltersReply
    | FiltersReply
    | FailureReply
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
    FailureReply,
    ListPartitionsReply,
    LookUpOffsetsReply,
    QueryPartsReply,
    PartsReply,
)
"""The final replies: exactly one of them ends each request."""

_ENCODE = msgspec.msgpack.Encoder().encode
_REQUEST = msgspec.msgpack.Decoder(Request)
_REPLY = msgspec.msgpack.Decoder(Reply)


def frame(message: Request | Reply) -> bytes:
    """The bytes that carry a message through a pipe: its length and its body."""
    body = _ENCODE(message)
    return LENGTH.pack(len(body)) + body


def decode_request(body: bytes) -> Request:
    """The request in a frame's body."""
    request: Request = _REQUEST.decode(body)
    return request


def decode_reply(body: bytes) -> Reply:
    """The reply in a frame's body."""
    reply: Reply = _REPLY.decode(body)
    return reply

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


class Scan(msgspec.Struct, tag="scan"):
    """Search a unit. Answered with Found and Damaged as they come, then Scanned."""

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
    want: str = "events"
    """`events`, `count` (no Found) or `fields` (a Tally at the end)."""
    fields: tuple[str, ...] = ()


class Gap(msgspec.Struct, array_like=True, frozen=True):
    """A stretch of a segment that has no blocks yet."""

    path: str
    start: int
    end: int
    closed: bool
    """Something follows it: the last block is as full as it will be."""


class Plan(msgspec.Struct, tag="plan"):
    """Cut gaps into blocks. Answered with Planned."""

    id: int
    gaps: list[Gap]
    block_bytes: int


class Times(msgspec.Struct, tag="times"):
    """Times and counts of the batches of units, from their headers. Answered with Spans."""

    id: int
    units: list[Unit]


class Count(msgspec.Struct, tag="count"):
    """Events of units by time, from their headers: `edges` of the buckets. Answered with Counted."""

    id: int
    units: list[Unit]
    edges: list[int]


class Head(msgspec.Struct, array_like=True, frozen=True):
    """What is known of a block that has a token filter."""

    sidecar: str
    path: str
    start: int
    end: int
    first_offset: int
    next_offset: int
    least_ms: int
    most_ms: int
    events: int = 0
    """0: not known."""


class Build(msgspec.Struct, tag="build"):
    """Make the token filter of a block. Answered with Built."""

    id: int
    unit: Unit
    sidecar: str


class Sift(msgspec.Struct, tag="sift"):
    """Ask token filters (path, start and end of their blocks). Answered with Sifted."""

    id: int
    filters: list[tuple[str, int, int]]
    clauses: list[list[bytes]]


class Restore(msgspec.Struct, tag="restore"):
    """Find the token filters that there are. Answered with Restored."""

    id: int
    root: str
    partitions: str


class Remove(msgspec.Struct, tag="remove"):
    """Remove token filters whose data is gone. Answered with Restored of none."""

    id: int
    sidecars: list[str]


class IndexPart(msgspec.Struct, array_like=True, frozen=True):
    """A part of the full-text index, of a stretch of a segment."""

    folder: str
    path: str
    start: int
    end: int
    holes: list[tuple[int, int]]
    """Stretches within it about which it says nothing."""
    fingerprint: str
    """Of its files when they were found to be whole; empty: they were not looked at yet."""


class FindParts(msgspec.Struct, tag="find-parts"):
    """To the builder: find the index parts that there are. Answered with Parts."""

    id: int
    root: str
    partitions: str


class CheckPart(msgspec.Struct, tag="check-part"):
    """To the builder: read a part in full. Answered with Parts: this one, or none if it was damaged and has
    been removed."""

    id: int
    part: IndexPart


class BuildPart(msgspec.Struct, tag="build-part"):
    """To the builder: make the index part of these closed blocks, which lie side by side in one segment.
    Answered with Parts."""

    id: int
    root: str
    blocks: list[Unit]


class DropParts(msgspec.Struct, tag="drop-parts"):
    """To the builder: remove parts. Answered with Parts of none."""

    id: int
    folders: list[str]


class Ask(msgspec.Struct, tag="ask"):
    """To a worker: which batches have a token of each clause? Answered with Asked."""

    id: int
    parts: list[tuple[str, str]]
    """Folder and fingerprint of each."""
    clauses: list[list[str]]


class Survey(msgspec.Struct, tag="survey"):
    """To a worker of a cluster: which partitions are there, and what do they hold? Answered with Surveyed."""

    id: int
    globs: list[str]
    """Of topics; none: all but internal ones."""
    demanded: list[str] | None
    """Globs of topics that the query itself demands."""


class Offsets(msgspec.Struct, tag="offsets"):
    """To a worker of a cluster: topic, partition and a time (ms) or a leader epoch. Answered with Located."""

    id: int
    kind: str
    """`time` or `epoch`."""
    asked: list[tuple[str, int, int]]


class Cancel(msgspec.Struct, tag="cancel"):
    """Stop working on this request. Its last answer still comes."""

    id: int


_Request: TypeAlias = Scan | Plan | Times | Count | Build | Sift | Restore | Remove | Cancel
Request: TypeAlias = _Request | Survey | Offsets | Ask | FindParts | CheckPart | BuildPart | DropParts

Row: TypeAlias = tuple[int, int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]
"""offset, timestamp ms, key, value, headers"""


class Found(msgspec.Struct, tag="found"):
    """Matches, in the order that was asked for."""

    id: int
    rows: list[Row]


class Reached(msgspec.Struct, tag="reached"):
    """How much of a Scan is done, now and then."""

    id: int
    bytes: int
    skipped_bytes: int


class Damaged(msgspec.Struct, tag="damaged"):
    """A stretch from this offset on could not be searched."""

    id: int
    offset: int
    reason: str


class Scanned(msgspec.Struct, tag="scanned"):
    """The end of a Scan."""

    id: int
    bytes: int
    skipped_bytes: int
    """Of batches whose times cannot fit: nothing but their headers was read."""
    events: int
    matches: int
    stopped_at: int | None
    """It stopped early: this event was the last one searched, in the order asked for. None: all is done."""
    tally: dict[str, dict[str, int]] = {}


class Cut(msgspec.Struct, array_like=True, frozen=True):
    """A block: where it is, its first offset, the offset after it and its newest header time."""

    path: str
    start: int
    end: int
    first_offset: int
    next_offset: int
    time_ms: int
    closed: bool


class Planned(msgspec.Struct, tag="planned"):
    """The blocks of the gaps. What could not be cut (file gone) is left out."""

    id: int
    cuts: list[Cut]


class Spans(msgspec.Struct, tag="spans"):
    """Of each unit: least and largest header time and number of events; None: it is gone."""

    id: int
    spans: list[tuple[int, int, int] | None]


class Counted(msgspec.Struct, tag="counted"):
    """Events in each bucket."""

    id: int
    counts: list[float]


class Built(msgspec.Struct, tag="built"):
    """The filter that was made; None: this block can have none."""

    id: int
    head: Head | None


class Sifted(msgspec.Struct, tag="sifted"):
    """Of each filter KEEP, EXCLUDE or USELESS, as in `sidecar.py`."""

    id: int
    verdicts: list[int]


class Restored(msgspec.Struct, tag="restored"):
    """Filters that were found."""

    id: int
    heads: list[Head]


class Parts(msgspec.Struct, tag="parts"):
    """Index parts that are there."""

    id: int
    parts: list[IndexPart]


class Named(msgspec.Struct, array_like=True, frozen=True):
    """A batch that an index part names: positions in the segment, its first offset and the one after it."""

    start: int
    end: int
    first_offset: int
    next_offset: int


class Asked(msgspec.Struct, tag="asked"):
    """Of each part the batches that it names, by position; None: more than are worth it, or the part is not
    what it was (then it is also among `touched`) and says nothing."""

    id: int
    named: list[list[Named] | None]
    touched: list[int]


class Held(msgspec.Struct, array_like=True, frozen=True):
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


class Surveyed(msgspec.Struct, tag="surveyed"):
    """The partitions of a cluster."""

    id: int
    held: list[Held]


class Located(msgspec.Struct, tag="located"):
    """For each that was asked, in order: the first offset at or after the time, and its time; or the epoch
    that was found, and its end. -1: there is none; UNKNOWN: nobody answered."""

    id: int
    found: list[tuple[int, int]]
    """(time or epoch, offset)"""


class Failed(msgspec.Struct, tag="failed"):
    """The request could not be done."""

    id: int
    reason: str
    removed: bool = False
    """The file is gone: deleted with its data."""


_Reply: TypeAlias = (
    Found | Reached | Damaged | Scanned | Planned | Spans | Counted | Built | Sifted | Restored | Failed
)
Reply: TypeAlias = _Reply | Surveyed | Located | Asked | Parts
LAST = (Scanned, Planned, Spans, Counted, Built, Sifted, Restored, Failed, Surveyed, Located, Asked, Parts)
"""After one of these, a request is done."""

_ENCODE = msgspec.msgpack.Encoder().encode
_REQUEST = msgspec.msgpack.Decoder(Request)
_REPLY = msgspec.msgpack.Decoder(Reply)


def frame(message: Request | Reply) -> bytes:
    """A message, ready for the pipe."""
    body = _ENCODE(message)
    return LENGTH.pack(len(body)) + body


def read_request(body: bytes) -> Request:
    """A request from its frame's body."""
    found: Request = _REQUEST.decode(body)
    return found


def read_reply(body: bytes) -> Reply:
    """A reply from its frame's body."""
    found: Reply = _REPLY.decode(body)
    return found

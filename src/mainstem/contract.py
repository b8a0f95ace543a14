"""The contract between the engines and everything that uses them: doors other than Kafka, the tools, the
Python API.

Owns: the words (Kafka's), the types and the errors. Refuses: any import of an engine, a log or a wire. Two
engines implement it, `engines/embedded/` (this machine) and `engines/kafka/` (any Kafka cluster); one body
of tests, tests/engines/test_contract.py, says what they must do alike.

Times are milliseconds since 1970, UTC. An *event* is a record as its user sees it. Offsets are those of the
next event to be read: a position of 7 means that 0 to 6 were read. Every call raises StreamError, whose
message is for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

# ----------------------------------------------------------------------------------------------------------
# errors


class StreamError(Exception):
    """Anything that an engine refuses or cannot do. The message says what and where in one line."""

    results: Sequence[Position | StreamError] = ()
    """Of a `publish` that failed: what became of each event, in order."""


class NotReachable(StreamError):
    """No server answers, or it stopped answering. Trying again later may help."""


class UnknownTopic(StreamError):
    """There is no such topic, or no such partition of it."""


class TopicExists(StreamError):
    """There is a topic of this name already."""


class UnknownGroup(StreamError):
    """There is no such consumer group."""


class GroupInUse(StreamError):
    """The group has members: its positions are theirs, and it cannot be deleted."""


class PositionOutOfRange(StreamError):
    """Before the first event that is kept, or after the end."""


class EventTooLarge(StreamError):
    """Larger than the topic's `max.message.bytes`."""


class InvalidArgument(StreamError):
    """A name, a number or a setting that the server does not take."""


class NotAllowed(StreamError):
    """The server wants credentials, or these may not do this."""


# ----------------------------------------------------------------------------------------------------------
# events

Headers: TypeAlias = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to publish."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    timestamp_ms: int | None = None
    """None: the time of publishing."""
    partition: int | None = None
    """None: by the key (murmur2, as Java's client does, so that all clients agree); without a key, any."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event that is in the stream."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """-1: it has none."""
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the stream."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a read gave, oldest first within each partition."""

    events: Sequence[Event] = ()
    unreadable: Sequence[Position] = ()
    """Where stretches of damage begin that could not be decoded. Reading goes on behind them."""

    def __bool__(self) -> bool:
        return bool(self.events or self.unreadable)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a partition holds: offsets from `begin` up to, not including, `end`."""

    begin: int
    end: int


class Reader(Protocol):
    """Reads several partitions from given positions, with no group: nobody else notices."""

    async def read(self, *, max_events: int = 1_000, wait_ms: int = 1_000) -> ReadResult:
        """The next events, at most `max_events`; waits up to `wait_ms` for the first. Nothing came: empty.

        Raises OffsetOutOfRange when retention has removed the position; `seek` to go on."""

    def positions(self) -> Sequence[Position]:
        """Where each partition stands, sorted."""

    def seek(self, position: Position) -> None:
        """Go on reading this partition elsewhere. It must be one of the partitions given at the start."""

    async def close(self) -> None:
        """Release what it holds. Idempotent."""


class Member(Protocol):
    """Reads as a member of a consumer group: the partitions are shared among the members."""

    async def read(self, *, max_events: int = 1_000, wait_ms: int = 1_000) -> ReadResult:
        """As `Reader.read`, from the partitions that this member has now."""

    async def commit(self) -> None:
        """Remember for the group all that `read` has returned as done."""

    async def close(self) -> None:
        """Leave the group, without a commit. Idempotent."""


class EventLog(Protocol):
    """Events in and out."""

    async def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Position]:
        """Append; returns when all are durable as the server means it (acks=all), with the place of each,
        in order.

        Idempotent: a retry inside never doubles an event. When events fail, the error of the first is
        raised after all have ended; its `results` tell what became of each. Events of one partition keep
        their order, also over calls that are made before the first has returned. UnknownTopic (also when
        the server does not create topics by itself), EventTooLarge, NotReachable."""

    async def partitions(self, topic: str) -> int:
        """How many it has. UnknownTopic."""

    async def bounds(self, topic: str, partition: int) -> Bounds:
        """The first offset that is kept and the end (the high watermark)."""

    async def offset_for_time(self, topic: str, partition: int, time_ms: int) -> int | None:
        """Offset of the first event with a timestamp of `time_ms` or later; None if there is none."""

    async def reader(self, start: Sequence[Position]) -> Reader:
        """Read these partitions from these positions on."""

    async def join(
        self, group: str, topics: Sequence[str], *, start: Literal["earliest", "latest"]
    ) -> Member:
        """Read as a member of `group`; `start` is for partitions of which the group has no position yet."""


# -----------------------------------------------------------------------------------------------------------
# admin


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """One partition of a topic."""

    partition: int
    begin: int
    end: int
    leader: int
    """Broker id; -1: none at the moment."""
    replicas: tuple[int, ...] = ()
    in_sync: tuple[int, ...] = ()
    bytes: int | None = None
    """Of its files, one replica; None: the server does not tell."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a topic, as it is in force."""

    name: str
    value: str | None
    is_default: bool
    read_only: bool = False
    doc: str = ""
    """What it means; empty: the server does not tell, as for all that follow."""
    default: str | None = None
    type: str = ""
    """In Kafka's words: boolean, string, int, long, double, list."""
    valid: str = ""
    """Which values are taken, for people."""


@dataclass(frozen=True, slots=True)
class TopicSummary:
    """A topic in a list."""

    name: str
    partitions: int
    events: int
    """Offsets from the first to the end, over all partitions."""
    internal: bool = False
    written: int = 0
    """The ends of all partitions together: it grows by one with each event, and retention does not lessen
    it."""
    bytes: int | None = None
    """Of the files of all partitions, one replica; None: the server does not tell."""


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic in full."""

    name: str
    id: str
    """UUID as Kafka prints it (base64url); empty: the server has no topic ids."""
    internal: bool
    partitions: tuple[PartitionInfo, ...]
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """A member of a group."""

    id: str
    client_id: str
    host: str
    instance_id: str | None
    assigned: tuple[tuple[str, int], ...]
    """(topic, partition), sorted."""


@dataclass(frozen=True, slots=True)
class GroupPosition:
    """How far a group has read a partition. All partitions of a topic are there if the group reads one of
    them."""

    topic: str
    partition: int
    offset: int | None
    """None: it has committed nothing here yet."""
    end: int
    lag: int | None
    """Offsets between position and end. None without a position: where it will start is for its members to
    say."""
    lag_ms: int | None
    """How long the next unread event has waited: since its arrival (embedded), else since its own time,
    which is what a Kafka cluster tells. 0: nothing to read. None: not known."""


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """A group in a list."""

    name: str
    state: str
    """In Kafka's words: Empty, PreparingRebalance, CompletingRebalance, Stable, Dead."""


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A group in full."""

    name: str
    state: str
    assignor: str
    members: tuple[MemberInfo, ...]
    positions: tuple[GroupPosition, ...]


@dataclass(frozen=True, slots=True)
class Broker:
    """One server of the cluster."""

    id: int
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """The cluster (of one, for mainstem)."""

    id: str
    controller: int
    brokers: tuple[Broker, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the stream takes and gives events."""

    ok: bool
    problems: tuple[str, ...] = ()


NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


class Admin(Protocol):
    """Topics, settings, groups and positions."""

    async def topics(self, *, internal: bool = False) -> list[TopicSummary]:
        """Sorted by name; the internal ones too, if asked."""

    async def topic(self, name: str) -> TopicInfo:
        """One topic in full. UnknownTopic."""

    async def create_topic(
        self, name: str, *, partitions: int | None = None, settings: Mapping[str, str] = NO_SETTINGS
    ) -> None:
        """Make a topic; `partitions` None: as many as the server gives by default. TopicExists,
        InvalidArgument."""

    async def add_partitions(self, name: str, total: int) -> None:
        """Raise the number of partitions to `total`. UnknownTopic, InvalidArgument (it can only grow)."""

    async def alter_topic(self, name: str, settings: Mapping[str, str | None]) -> None:
        """Set these settings, None: back to the default. The others stay. UnknownTopic, InvalidArgument."""

    async def delete_topic(self, name: str) -> None:
        """With all its events. UnknownTopic."""

    async def delete_records(self, topic: str, partition: int, before: int) -> int:
        """Delete events before this offset (-1: all there are); the new first offset. OffsetOutOfRange."""

    async def groups(self) -> list[GroupSummary]:
        """Sorted by name."""

    async def group(self, name: str) -> GroupInfo:
        """One group in full, with its lag. UnknownGroup."""

    async def set_positions(self, group: str, positions: Sequence[Position]) -> None:
        """Set how far a group without members has read; a new group is made by it. GroupInUse."""

    async def delete_group(self, name: str) -> None:
        """With its positions. UnknownGroup, GroupInUse."""

    async def cluster(self) -> ClusterInfo:
        """Who serves."""

    async def health(self) -> Health:
        """Never raises: what is wrong stands in it."""


class Engine(EventLog, Admin, Protocol):
    """Both, as the engines implement it."""

    async def close(self) -> None:
        """Finish what is on its way and release everything. Idempotent."""

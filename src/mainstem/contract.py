"""The contract between the engines and their users: the doors, the tools and the Python API.

Owns: the types, the errors and the protocols, in Kafka's words. Refuses: imports of an engine, the log or a
wire protocol. Two engines implement it: `engines/embedded/` for the log of this machine, `engines/kafka/` for
any Kafka cluster. One set of tests, tests/engines/test_contract.py, runs against both.

Times are milliseconds since 1970, UTC. An *event* is a record as its user sees it. A position is the offset
of the next event to read: position 7 means that events 0 to 6 were read. Any call may raise StreamError; its
message is for people.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import msgspec

from mainstem.member_hooks import NO_NOTES as NO_NOTES
from mainstem.member_hooks import AssignedPartition as AssignedPartition
from mainstem.member_hooks import MemberHooks as MemberHooks
from mainstem.member_hooks import TopicPartition as TopicPartition
from mainstem.stream_errors import EventTooLarge as EventTooLarge
from mainstem.stream_errors import GroupInUse as GroupInUse
from mainstem.stream_errors import InvalidArgument as InvalidArgument
from mainstem.stream_errors import NoSuchToken as NoSuchToken
from mainstem.stream_errors import NoSuchUser as NoSuchUser
from mainstem.stream_errors import NotAllowed as NotAllowed
from mainstem.stream_errors import NotAuthorized as NotAuthorized
from mainstem.stream_errors import NotReachable as NotReachable
from mainstem.stream_errors import PositionOutOfRange as PositionOutOfRange
from mainstem.stream_errors import RelayLost as RelayLost
from mainstem.stream_errors import StreamError as StreamError
from mainstem.stream_errors import TopicExists as TopicExists
from mainstem.stream_errors import UnknownGroup as UnknownGroup
from mainstem.stream_errors import UnknownTopic as UnknownTopic
from mainstem.stream_errors import no_partition as no_partition

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
    """None: the time of publishing. `publish` refuses a negative one with InvalidArgument, and the Kafka
    engine 0, too."""
    partition: int | None = None
    """None: chosen by the key with murmur2, as Java's client does, so that all clients choose the same; any
    partition for an event without a key."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """A published event. A Struct, because it is made 9 times as fast as a dataclass, and the garbage
    collector does not look at it: a read makes millions."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """-1: the event has no time."""
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """An offset in a partition."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a read returned: the events of each partition in the order of their offsets."""

    events: Sequence[Event] = ()
    unreadable: Sequence[Position] = ()
    """The starts of damaged ranges that could not be decoded. Reading continues after them."""

    def __bool__(self) -> bool:
        return bool(self.events or self.unreadable)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The offsets that a partition holds: from `begin` up to, but not including, `end`."""

    begin: int
    end: int


class Reader(Protocol):
    """Reads partitions from given positions, without a consumer group."""

    async def read(self, *, max_events: int = 1_000, wait_ms: int = 1_000) -> ReadResult:
        """Return the next events, at most `max_events`. Waits up to `wait_ms` for the first one; the result
        is empty if none arrives.

        PositionOutOfRange: retention has removed the event at a position. `seek` to continue."""

    def positions(self) -> Sequence[Position]:
        """The position in each partition, sorted."""

    def seek(self, position: Position) -> None:
        """Continue reading a partition at `position`. It must be one of the reader's partitions."""

    async def close(self) -> None:
        """Release the reader's resources. Idempotent."""


class Member(Protocol):
    """Reads as a member of a consumer group, whose members share the partitions."""

    async def read(self, *, max_events: int = 1_000, wait_ms: int = 1_000) -> ReadResult:
        """See `Reader.read`. Reads the partitions that are assigned to this member."""

    async def commit(
        self, positions: Sequence[Position] | None = None, notes: Mapping[TopicPartition, str] = NO_NOTES
    ) -> None:
        """Commit these positions, each with its partition's notes, which a later owner of the partition gets
        with it; None: those after all events that `read` has returned, without notes.

        Notes are text, of at most 4,000 bytes unless the server is set to a lower limit. InvalidArgument:
        they are too long. StreamError: partitions were reassigned."""

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Have `read` return no events of these partitions. The membership and the positions stay. Those that
        the member does not have are ignored; a partition that it is assigned again is not paused."""

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """End `pause` for these partitions."""

    async def close(self) -> None:
        """Leave the group without a commit. Idempotent."""


class EventLog(Protocol):
    """Publishes and reads events."""

    async def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Position]:
        """Append events. Returns their positions, in order, when the server has acknowledged all of them
        with acks=all.

        Idempotent: a retry inside the call never duplicates an event. If events fail, the call waits for the
        others and raises the error of the first one that failed; its `results` have the result of each event.
        Events of one partition keep their order, also across calls made before the first one has returned.
        Without events it raises what it would raise for any, as far as that is known without asking a
        cluster, and creates nothing.
        UnknownTopic (also if the server does not create topics automatically), EventTooLarge, NotReachable.
        """

    async def partitions(self, topic: str) -> int:
        """The number of partitions. UnknownTopic."""

    async def topic_id(self, topic: str) -> str:
        """The topic's id, as `TopicInfo.id`. UnknownTopic."""

    async def bounds(self, topic: str, partition: int) -> Bounds:
        """The partition's first offset and its end, the high watermark. It counts every event that a producer
        knows of already, whatever its acks, unless the disk fails or stalls. UnknownTopic."""

    async def offset_for_time(self, topic: str, partition: int, time_ms: int) -> int | None:
        """The offset of the first event with a timestamp of `time_ms` or later; None if there is none."""

    async def reader(self, start: Sequence[Position]) -> Reader:
        """A reader of these partitions, starting at these positions."""

    async def join(
        self,
        group: str,
        topics: Sequence[str],
        *,
        start: Literal["earliest", "latest"],
        hooks: MemberHooks | None = None,
    ) -> Member:
        """Join `group` as a member. `start` applies to partitions in which the group has no position.

        With `hooks`, a member has the partitions of the same numbers of all the topics, so that each topic is
        shared evenly. The group of a Kafka cluster is subscribed to the first topic only, then: partitions
        with numbers that the first topic lacks are no member's, and the cluster forgets positions in the
        other topics when they were not committed for `offsets.retention.minutes`."""


# -----------------------------------------------------------------------------------------------------------
# admin


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """A partition of a topic."""

    partition: int
    begin: int
    end: int
    leader: int
    """Broker id; -1: the partition has no leader now."""
    replicas: tuple[int, ...] = ()
    in_sync: tuple[int, ...] = ()
    bytes: int | None = None
    """Size of the files of one replica; None if the server does not provide it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a topic with the value in effect."""

    name: str
    value: str | None
    is_default: bool
    read_only: bool = False
    doc: str = ""
    """What the setting means. Empty if the server does not provide it; so are the fields below."""
    default: str | None = None
    type: str = ""
    """One of Kafka's types: boolean, string, int, long, double, list."""
    valid: str = ""
    """The accepted values, as text for people."""


@dataclass(frozen=True, slots=True)
class TopicSummary:
    """A topic in the list of topics: its counts, without partitions and settings."""

    name: str
    partitions: int
    events: int
    """Number of offsets between begin and end, over all partitions."""
    internal: bool = False
    written: int = 0
    """Sum of the ends of all partitions. It grows by one with each event; retention does not reduce it."""
    bytes: int | None = None
    """Size of the files of all partitions, one replica; None if the server does not provide it."""
    id: str = ""
    """As `TopicInfo.id`."""


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic with its partitions and settings."""

    name: str
    id: str
    """UUID as Kafka prints it (base64url); empty if the server has no topic ids."""
    internal: bool
    partitions: tuple[PartitionInfo, ...]
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """A member of a consumer group."""

    id: str
    client_id: str
    host: str
    instance_id: str | None
    assigned: tuple[tuple[str, int], ...]
    """(topic, partition), sorted."""
    undecoded_bytes: int = 0
    """Size of an assignment that is not Kafka's, so that `assigned` is empty; 0: there is none."""


@dataclass(frozen=True, slots=True)
class GroupPosition:
    """A group's position in a partition. If a group reads one partition of a topic, it has one for each."""

    topic: str
    partition: int
    offset: int | None
    """None: the group has committed nothing in this partition."""
    end: int
    lag: int | None
    """Number of offsets between the position and the end. None without a position, because the members
    decide where they start."""
    lag_ms: int | None
    """How long the next unread event has waited: since its arrival in the embedded engine, since its
    timestamp in a Kafka cluster, which does not provide the arrival. 0: nothing to read. None: not known."""


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """A group in the list of groups."""

    name: str
    state: str
    """One of Kafka's states: Empty, PreparingRebalance, CompletingRebalance, Stable, Dead."""
    protocol_type: str = ""
    """See `GroupInfo`."""


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A consumer group with its members and positions."""

    name: str
    state: str
    assignor: str
    members: tuple[MemberInfo, ...]
    positions: tuple[GroupPosition, ...]
    protocol_type: str = "consumer"
    """What the members agree on: consumer; share (a share group); connect, sr (a schema registry) and others.
    Empty for a group that has positions only."""


@dataclass(frozen=True, slots=True)
class Broker:
    """A server of the cluster."""

    id: int
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """The cluster. A mainstem server is a cluster of one broker."""

    id: str
    controller: int
    """Broker id; -1: the cluster has no controller now."""
    brokers: tuple[Broker, ...]


class DamagedOffsets(NamedTuple):
    """Offsets of one partition that are lost: reading them fails, and reading continues after them."""

    topic: str
    partition: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Health:
    """The result of a health check: whether the engine can write and read events, and its problems if not."""

    ok: bool
    problems: tuple[str, ...] = ()
    damaged: tuple[DamagedOffsets, ...] = ()
    """Offsets that are known to be lost; all others can be read."""


NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


class Admin(Protocol):
    """Manages topics, settings, groups and positions."""

    async def topics(self, *, internal: bool = False) -> list[TopicSummary]:
        """All topics, sorted by name; internal topics only if asked for."""

    async def topic(self, name: str) -> TopicInfo:
        """A topic with its partitions and settings. UnknownTopic."""

    async def create_topic(
        self, name: str, *, partitions: int | None = None, settings: Mapping[str, str] = NO_SETTINGS
    ) -> None:
        """Create a topic. `partitions` None: the server's default. TopicExists, InvalidArgument."""

    async def add_partitions(self, name: str, total: int) -> None:
        """Increase the number of partitions to `total`. UnknownTopic, InvalidArgument (not an increase)."""

    async def alter_topic(self, name: str, settings: Mapping[str, str | None]) -> None:
        """Change these settings and keep the others. None resets a setting to its default. UnknownTopic,
        InvalidArgument."""

    async def delete_topic(self, name: str) -> None:
        """Delete a topic and its events. UnknownTopic."""

    async def delete_records(self, topic: str, partition: int, before: int) -> int:
        """Delete the events before an offset (-1: all events). Returns the new first offset.
        PositionOutOfRange."""

    async def groups(self) -> list[GroupSummary]:
        """All consumer groups, sorted by name."""

    async def group(self, name: str) -> GroupInfo:
        """A group with its members, positions and lag. UnknownGroup."""

    async def set_positions(self, group: str, positions: Sequence[Position]) -> None:
        """Set positions of a group without members. Creates the group if it does not exist. GroupInUse."""

    async def delete_group(self, name: str) -> None:
        """Delete a group and its positions. UnknownGroup, GroupInUse."""

    async def cluster(self) -> ClusterInfo:
        """The cluster and its brokers."""

    async def health(self) -> Health:
        """Check whether the engine can write and read events. Never raises: an engine that cannot is a result
        that lists its problems."""


class Engine(EventLog, Admin, Protocol):
    """What every engine implements."""

    async def close(self) -> None:
        """Finish the calls in progress and release all resources. Idempotent."""


# -----------------------------------------------------------------------------------------------------------
# capabilities that not every engine has; a user checks for one with isinstance


class PartitionFiles(NamedTuple):
    """The files of a partition, as they were when `partition_files` returned."""

    folder: str
    """Relative to the data folder. No two topics ever have the same one."""
    begin: int
    end: int
    """The high watermark."""
    segments: int
    size_bytes: int
    acknowledged_end: int
    """After `end` if events there were acknowledged and are lost; else 0."""


ByteRange: TypeAlias = tuple[str, int, int]
"""(file, start, end) of some bytes in the file of a segment."""


@runtime_checkable
class HasFiles(Protocol):
    """An engine whose log is files on this machine."""

    def partition_files(self, topic: str, partition: int) -> PartitionFiles:
        """The files of a partition as they are now. UnknownTopic."""

    async def byte_ranges(
        self, topic: str, partition: int, from_offset: int, to_offset: int
    ) -> list[ByteRange]:
        """Where the batches with these offsets are, up to the high watermark. `to_offset` is exclusive."""


@runtime_checkable
class PreviewsSettings(Protocol):
    """An engine that can say what retention would delete under other settings."""

    async def preview_settings(self, name: str, settings: Mapping[str, str | None]) -> list[Bounds]:
        """The bounds of each partition after retention under these settings (None: the default). Changes
        nothing. UnknownTopic, InvalidArgument."""


@runtime_checkable
class ReportsMetrics(Protocol):
    """An engine, or a search, that has metrics of its own."""

    def metric_values(self) -> Mapping[str, float]:
        """The values of metrics without labels, by metric name."""


class TopicCatalog(Protocol):
    """The part of every engine that finds the partitions and offsets of a search."""

    async def topics(self, *, internal: bool = False) -> list[TopicSummary]:
        """See `Admin.topics`."""

    async def bounds(self, topic: str, partition: int) -> Bounds:
        """See `EventLog.bounds`."""

    async def offset_for_time(self, topic: str, partition: int, time_ms: int) -> int | None:
        """See `EventLog.offset_for_time`."""


class HasIndexedTopics(TopicCatalog, Protocol):
    """An engine whose topics may have a full-text index."""

    async def indexed_topics(self) -> dict[str, str]:
        """The topics with `mainstem.search=indexed`: topic id (hexadecimal) by name."""


class SearchableLog(HasIndexedTopics, HasFiles, Protocol):
    """An engine whose files the search of this machine reads. `topics` returns the same TopicSummary object
    until something in the topic changes, so that a caller can compare by identity."""

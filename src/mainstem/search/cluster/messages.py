"""The messages between the server and its search workers that concern Kafka clusters only.

Owns: listing partitions, and looking up offsets. `search/ipc.py` has all other messages, and their frames.
Refuses: units and scans, which are the same for a cluster as for this machine.
"""

from __future__ import annotations

import msgspec

UNKNOWN = -2
"""In the result of a look-up, in place of time or epoch and of the offset: no broker answered."""


class ListPartitionsRequest(msgspec.Struct, tag="list-partitions"):
    """A request to a worker of a cluster to list the partitions of topics. Reply: ListPartitionsReply."""

    id: int
    globs: list[str]
    """Globs of topic names; empty: all topics but internal ones."""
    query_globs: list[str] | None
    """Globs of topic names that the query requires; None: it requires none."""


class LookUpOffsetsRequest(msgspec.Struct, tag="look-up-offsets"):
    """A request to a worker of a cluster to look up offsets by time, or the ends of leader epochs. Reply:
    LookUpOffsetsReply."""

    id: int
    kind: str
    """`time` or `epoch`."""
    lookups: list[tuple[str, int, int]]
    """Topic, partition, and the time (ms) or the epoch."""


class ClusterPartition(msgspec.Struct, array_like=True, frozen=True):
    """A partition of a cluster, and its committed events."""

    topic: str
    topic_id: str
    """The topic's id in hex; empty: the cluster has no topic ids."""
    internal: bool
    partition: int
    begin: int
    end: int
    """The last stable offset: events before it are committed."""
    bytes: int
    """Size of the partition on its leader; 0: unknown."""
    problem: str
    """Why the partition's offsets are unknown; empty: they are known."""


class ListPartitionsReply(msgspec.Struct, tag="list-partitions-reply"):
    """The final reply to ListPartitionsRequest: the partitions of the requested topics."""

    id: int
    partitions: list[ClusterPartition]


class LookUpOffsetsReply(msgspec.Struct, tag="look-up-offsets-reply"):
    """The final reply to LookUpOffsetsRequest: the result of each look-up, in order."""

    id: int
    results: list[tuple[int, int]]
    """The time and the offset of the first event at the requested time or later; or the epoch and its end
    offset. Offset -1: there is none. UNKNOWN: no broker answered."""

"""The names of files and folders in the data folder (FORMAT.md, part "The folder").

Refuses: to touch the disk.
"""

from __future__ import annotations

import re
from uuid import UUID

LOCK = ".lock"
META = "meta.properties"
JOURNAL = "journal"
PARTITIONS = "partitions"
QUARANTINE = "quarantine"
ROUTED = "routed"
"""The indexes of routed queues, a folder for each namespace: derived from the log."""
DELAYS = "delays"
"""The folder of delay runs, which are of one life of the server."""
BALLAST = "ballast"
BALLAST_BYTES = 1 << 20
"""Size of the file that a start on a full disk removes, to have room for what it writes: the checkpoint, and
what it cuts off and keeps."""
SECURE = "secure"
"""The folder of `serve --secure`: keys, certificates, the first password; in no backup."""
PUSH = "push"
"""The folder of the keys by which tokens of push requests are signed; in no backup."""
CLUSTER_FILTERS = "search-cluster"
"""The folder of the token filters of a Kafka cluster, in the folder of a console in front of it."""
SEARCH_CACHES = ("search", "search-index", CLUSTER_FILTERS)
"""Folders of what search builds again: token filters and indexes of this log, and `CLUSTER_FILTERS`; in no
backup."""
DELETED_SUFFIX = ".deleted"
STATE_TOPIC = UUID(int=1)
"""The state log of the coordinator is partition 0 of this topic id."""
QUEUE_STATE_TOPIC = UUID(int=2)
"""The state log of queues is partition 0 of this topic id."""
CARRIED_TOPIC = UUID(int=3)
"""The topic of copies of pinned events. A backup copies it last: what was deleted from another
topic meanwhile has its copy there."""
AUDIT_TOPIC = UUID(int=4)
"""The topic of audit events."""
STATE_FOLDERS = {STATE_TOPIC: "state", QUEUE_STATE_TOPIC: "state-queues"}
"""The topic ids of the state logs, and the folder with the snapshots of each, in the order in which they are
read and copied. Topics have random ids of version 4: none of them has one of these."""

_PARTITION = re.compile(r"([0-9a-f]{32})-(0|[1-9][0-9]{0,9})(\.deleted)?")
_SEGMENT = re.compile(r"([0-9]{20})\.log")
_JOURNAL_FILE = re.compile(r"([0-9]{20})\.jnl")


def partition_name(topic_id: UUID, index: int) -> str:
    """Name of a partition's folder in `partitions/`."""
    return f"{topic_id.hex}-{index}"


def partition_folder(topic_id: UUID, index: int) -> str:
    """Path of a partition's folder."""
    return f"{PARTITIONS}/{topic_id.hex}-{index}"


def parse_partition(name: str) -> tuple[UUID, int, bool] | None:
    """(topic id, partition index, whether it is being deleted) of a name in `partitions/`; None for any other
    name."""
    match = _PARTITION.fullmatch(name)
    return (UUID(hex=match[1]), int(match[2]), match[3] is not None) if match else None


def segment_name(base_offset: int) -> str:
    """Name of a segment's log file."""
    return f"{base_offset:020}.log"


def parse_segment(name: str) -> int | None:
    """Base offset of a segment's log file; None for any other name."""
    match = _SEGMENT.fullmatch(name)
    return int(match[1]) if match else None


def journal_file_path(number: int) -> str:
    """Path of a journal file. The number does not order the files: the seq in their headers does."""
    return f"{JOURNAL}/{number:020}.jnl"


def parse_journal_file(name: str) -> int | None:
    """Number of a journal file's name in `journal/`; None for any other name."""
    match = _JOURNAL_FILE.fullmatch(name)
    return int(match[1]) if match else None


def delay_run_path(run_id: int) -> str:
    """Path of a run of waiting events."""
    return f"{DELAYS}/{run_id:016x}.run"

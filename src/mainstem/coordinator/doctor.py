"""Reads the state logs and their snapshots without a server, for `mainstem doctor` and backups.

Owns: reading the snapshot folders and the files of the state logs, checking every record, and the topic names
that result. Refuses: writing, and raising an error: what cannot be read becomes a finding.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import closing
from typing import Any, Literal, cast
from uuid import UUID

from mainstem.clock import Clock
from mainstem.coordinator.access.acls import Acls
from mainstem.coordinator.access.users import Users
from mainstem.coordinator.queues.index_examination import routed_findings
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.runtime import snapshot
from mainstem.coordinator.runtime.records import RecordCodec, StateDamaged, StateTooNew
from mainstem.coordinator.runtime.state_log import QUEUE_LOG, STATE_LOG, STATE_LOGS, StateLogKind
from mainstem.coordinator.state_machines import StateMachines
from mainstem.coordinator.topics.topics import Topics
from mainstem.coordinator.topics.types import TopicCreated, TopicDeleted
from mainstem.log import paths
from mainstem.log.disk.contract import Disk
from mainstem.log.errors import LogError
from mainstem.log.offline.doctor import Key, ReadOnlyDisk, ReadOnlyFile
from mainstem.log.offline.doctor_scan import Finding
from mainstem.log.offline.inspect import InspectedBatch, inspect
from mainstem.log.storage import record_batch
from mainstem.settings import Settings


class OfflineStateLog:
    """One state log, as far as it can be read from the files."""

    def __init__(
        self,
        disk: ReadOnlyDisk,
        kind: StateLogKind,
        apply: Callable[[Any], None],
        reset: Callable[[], None],
    ) -> None:
        """Read it. `apply` gets each record, `reset` is called before a snapshot is applied."""
        self.findings: list[Finding] = []
        self.records = 0
        """Number of records that were read and could be decoded."""
        self._disk = disk
        self._kind = kind
        self._apply_record = apply
        self._reset = reset
        self._codec = RecordCodec(StateMachines.record_types(kind))
        self.first_needed_offset, has_snapshot = self._read_snapshots()
        """Offset of the log from which records are needed, because the snapshot does not have them."""
        self.redundant_snapshots: list[str] = []
        """Paths of damaged snapshots that a start does not need."""
        if self._read_log(self.first_needed_offset, has_snapshot):
            self.redundant_snapshots = [
                finding.path for finding in self.findings if finding.path.startswith(f"{kind.folder}/")
            ]

    def _apply(self, data: bytes | memoryview, location: str) -> None:
        record = self._codec.decode(data, location)
        self.records += 1
        self._apply_record(record)

    def _read_snapshots(self) -> tuple[int, bool]:
        """Apply the newest snapshot that is not damaged, and check the older ones. Returns the offset from
        which the log is needed, and whether there was such a snapshot."""
        offsets = snapshot.offsets(cast(Disk, self._disk), self._kind.folder)
        for offset in offsets:
            path = snapshot.path_of(offset, self._kind.folder)
            self._reset()
            try:
                for record in snapshot.read(cast(Disk, self._disk), path, offset):
                    self._apply(record, f"in {path}")
            except (StateDamaged, StateTooNew, OSError, KeyError, ValueError) as error:
                is_oldest = offset == offsets[-1]
                then = "there is no older snapshot" if is_oldest else "the next start uses an older snapshot"
                self.findings.append(Finding("damage" if is_oldest else "derived", path, str(error), then))
                continue
            self._check_older([older for older in offsets if older < offset])
            return offset, True
        self._reset()
        return 0, False

    def _check_older(self, offsets: list[int]) -> None:
        for offset in offsets:
            path = snapshot.path_of(offset, self._kind.folder)
            try:
                for record in snapshot.read(cast(Disk, self._disk), path, offset):
                    self._codec.decode(record, f"in {path}")
            except (StateDamaged, StateTooNew, OSError) as error:
                self.findings.append(Finding("derived", path, str(error), "a newer snapshot is whole"))

    def _read_log(self, start: int, has_snapshot: bool) -> bool:
        """Apply the records from `start` on. False if earlier records are needed and the log does not have
        them any more."""
        key = self._kind.key
        folder = paths.partition_folder(*key)
        bases = [base for name in self._disk.list(folder) if (base := paths.parse_segment(name)) is not None]
        if bases and bases[0] > start and not has_snapshot:
            then = f"the server refuses to start: restore the folder {self._kind.folder}/ from a backup"
            what = f"no snapshot is whole and the log starts at offset {bases[0]}"
            self.findings.append(Finding("damage", folder, what, then, *key))
            return False
        for base in bases:
            path = f"{folder}/{paths.segment_name(base)}"
            try:
                with closing(self._disk.open(path)) as file:
                    for item in inspect(f"{self._disk.root}/{path}"):
                        if (
                            isinstance(item, InspectedBatch)
                            and item.crc_ok
                            and item.header.next_offset > start
                        ):
                            self._read_batch(file, item, start)
            except (LogError, OSError) as error:
                then = "what this record says is not known; the server refuses to start on it"
                self.findings.append(Finding("damage", path, str(error), then, *key))
        return True

    def _read_batch(self, file: ReadOnlyFile, item: InspectedBatch, start: int) -> None:
        data = file.pread(item.header.total_bytes, item.position)
        for record in record_batch.decode(data):
            if record.offset >= start:
                try:
                    self._apply(record.value or b"", f"at offset {record.offset} of the {self._kind.title}")
                except (KeyError, ValueError) as error:
                    then = f"an earlier record of the {self._kind.title} is lost"
                    what = f"the record at offset {record.offset} does not follow from those before: {error}"
                    self.findings.append(Finding("damage", file.path, what, then, *self._kind.key))


class OfflineState:
    """The coordinator's state, as far as it can be read from the files."""

    def __init__(self, disk: ReadOnlyDisk) -> None:
        self._names: dict[UUID, str] = {}
        self._topics = Topics(Settings(), random.Random(0))
        self._users = Users()
        self._acls = Acls()
        self._subscriptions = Subscriptions(cast(Clock, None), random.Random(0))  # its clock is for requests
        self._logs = {
            STATE_LOG.key: OfflineStateLog(disk, STATE_LOG, self._apply, self._forget),
            QUEUE_LOG.key: OfflineStateLog(disk, QUEUE_LOG, self._apply_of_queues, self._subscriptions.reset),
        }
        self.findings = [finding for state in self._logs.values() for finding in state.findings]
        self.findings += routed_findings(disk, self._subscriptions.topology)
        self.records = sum(state.records for state in self._logs.values())
        """Number of records that were read and could be decoded."""
        self.redundant_snapshots = [
            path for state in self._logs.values() for path in state.redundant_snapshots
        ]
        """Paths of damaged snapshots that a start does not need."""

    def needs(self, key: Key, offset: int) -> bool:
        """Whether a start needs the record at `offset` of the partition `key`: that of a state log, which no
        snapshot has."""
        return key in self._logs and offset >= self._logs[key].first_needed_offset

    def topic_name(self, topic_id: UUID) -> str | None:
        """The name of the topic with this id, also if it is being deleted; None if no topic has the id."""
        for kind in STATE_LOGS:
            if topic_id == kind.topic_id:
                return f"({kind.title})"
        return self._names.get(topic_id)

    def status(self, key: Key) -> Literal["live", "deleted", "unknown"]:
        """Whether the partition belongs to a topic that exists (live), was deleted, or is not in the
        state."""
        if key in self._logs:
            return "live"
        topic = self._topics.by_id(key[0])
        if topic is not None and key[1] >= topic.partitions:
            return "unknown"
        return self._topics.status(key[0])

    def topic_count(self) -> int:
        """The number of topics."""
        return len(self._topics.all())

    def subscription_count(self) -> int:
        """The number of subscriptions."""
        return len(self._subscriptions.all())

    def indexed_topics(self) -> list[str]:
        """The names of topics with `mainstem.search=indexed`, sorted."""
        return sorted(
            topic.name for topic in self._topics.all() if topic.config.get("mainstem.search") == "indexed"
        )

    def user_count(self) -> int:
        """The number of users."""
        return len(self._users.names())

    def acl_count(self) -> int:
        """The number of access control entries."""
        return len(self._acls)

    def _forget(self) -> None:
        for machine in (self._topics, self._users, self._acls):
            machine.reset()

    def _apply(self, record: Any) -> None:
        if isinstance(record, TopicCreated | TopicDeleted):
            self._names[record.id] = record.name
        for machine in (self._topics, self._users, self._acls):
            if isinstance(record, machine.RECORDS):
                machine.apply(record)

    def _apply_of_queues(self, record: Any) -> None:
        if isinstance(record, Subscriptions.RECORDS):
            self._subscriptions.apply(record)

"""The log: all partitions of one data folder.

Owns: opening and recovering the folder, the partitions by topic id, deleting a topic's files, settings of
topics, and the clean stop. Refuses: topic names and protocols.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal
from uuid import UUID

from mainstem.clock import Clock
from mainstem.log import paths
from mainstem.log.commit.checkpointer import Checkpointer
from mainstem.log.commit.contract import PartitionKey
from mainstem.log.commit.journal import Journal
from mainstem.log.commit.page_cache_commit import PageCacheCommitter
from mainstem.log.config import LogConfig, PartitionConfig
from mainstem.log.disk.contract import Disk
from mainstem.log.disk.nonblocking_read import LogContext
from mainstem.log.errors import LogError
from mainstem.log.partition.partition import Partition
from mainstem.log.partition.recovered_state import RecoveredState
from mainstem.log.recovery import meta
from mainstem.log.recovery.report import RecoveryReport
from mainstem.log.recovery.startup import STATE_LOGS, Startup
from mainstem.promise import Promise, gather

_UNLINKS_PER_TURN = 8

log = logging.getLogger(__name__)


class Log:
    """The log of one data folder. `open` creates it; it accepts appends after `recover`."""

    def __init__(
        self, disk: Disk, clock: Clock, rng: random.Random, config: LogConfig, startup: Startup
    ) -> None:
        self._disk = disk
        self._clock = clock
        self._config = config
        self._startup: Startup | None = startup
        self.cluster_id = startup.meta.cluster_id
        """base64url of a random UUID, made when the folder was created."""
        self.folder_id = startup.meta.folder_id
        """Made when the folder was created; no client is given it."""
        self._meta = startup.meta
        self._checkpointer = Checkpointer(disk, clock, config)
        self._committer: Journal | PageCacheCommitter
        if config.durability == "os":
            self._committer = PageCacheCommitter(clock, self._checkpointer)
        else:
            self._committer = Journal(
                disk, clock, rng, config, startup.meta.folder_id, self._checkpointer, self.partitions
            )
        self._context = LogContext(disk, clock, config)
        self._topics: dict[UUID, dict[int, Partition]] = {}
        self._deletions: dict[UUID, list[Promise[None]]] = {}
        """For each deleted topic, one promise per partition: done when neither journal nor checkpoint refers
        to the partition."""
        self._deleted_folders: dict[UUID, list[str]] = {}
        """For each deleted topic, the folders that its partitions had; they may be removed already. No folder
        is searched for: a start adds the partition of every folder of a live topic, and removes those of
        deleted ones."""
        self._closing: Promise[None] | None = None
        recovered = startup.recover_state_logs()
        self.state, self.queue_state = (
            self._add_partition(key, PartitionConfig(), recovered[key]) for key in STATE_LOGS
        )

    @classmethod
    def open(cls, disk: Disk, clock: Clock, rng: random.Random, config: LogConfig) -> Log:
        """Lock the folder and recover the state logs, which can then be read, but not yet appended to.
        Blocks.

        LogFolderError: it is not a folder of this format, or the disk fails. LogFolderLocked: another server
        uses it.
        """
        return cls(disk, clock, rng, config, Startup(disk, rng, config, clock.wall_ms()))

    def recover(self, status: Callable[[UUID], Literal["live", "deleted", "unknown"]]) -> RecoveryReport:
        """Recover all other partitions; then the log can be appended to. `status` returns what the
        coordinator's state says of a topic id. Blocks. LogFolderError: the disk fails; nothing is lost, so a
        later start may succeed."""
        startup = self._startup
        assert startup is not None, "a log is recovered once"
        states = startup.recover_partitions(status)
        checkpoint, rows, next_seq, next_group = startup.finish()
        self._startup = None
        self._checkpointer.start(checkpoint, rows, startup.report.fenced)
        self._committer.start(next_seq, next_group)
        for key, state in states.items():
            self._add_partition(key, PartitionConfig(), state)
        self._record_sealed_segments()
        for note in startup.report.notes:
            log.warning("%s", note)
        log.info("opened the log: %s", startup.report.summary())
        return startup.report

    def _record_sealed_segments(self) -> None:
        """Let the next checkpoint know the sealed segments of partitions that have looked through theirs and
        miss nothing."""
        for partition in self.partitions():
            key = (partition.topic_id, partition.index)
            row = self._checkpointer.rows.get(key)
            if row is not None and row.sealed is None and partition.fence_reason is None:
                sealed = partition.segments.sealed_before_committed_end()
                self._checkpointer.rows[key] = replace(row, sealed=sealed)

    def damaged_offsets(self) -> list[tuple[Partition, int, int]]:
        """The offsets (partition, first, next) that are known to be lost."""
        return [
            (partition, first, following)
            for partition in self.partitions()
            for first, following in partition.segments.damaged_offsets()
        ]

    def _add_partition(self, key: PartitionKey, config: PartitionConfig, state: RecoveredState) -> Partition:
        partition = Partition(self._context, self._committer, *key, config, state)
        self._topics.setdefault(key[0], {})[key[1]] = partition
        if self._committer.read_only is not None:
            partition.fence(self._committer.read_only)
        return partition

    def partition(self, topic_id: UUID, index: int, config: PartitionConfig | None = None) -> Partition:
        """The partition. A new one is created on disk at its first append. `config`, if given, applies from
        now on."""
        partition = self._topics.get(topic_id, {}).get(index)
        if partition is None:
            assert self._startup is None, "partitions are created only after recovery"
            state = RecoveredState(epoch=self._meta.epoch_floor)
            return self._add_partition((topic_id, index), config or PartitionConfig(), state)
        if config is not None:
            partition.config = config
        return partition

    @property
    def state_logs(self) -> tuple[Partition, ...]:
        """The partitions in which the coordinator's state is kept: `state` and `queue_state`."""
        return self.state, self.queue_state

    def partitions(self) -> Iterable[Partition]:
        """All partitions, the state logs first."""
        return [partition for topic in self._topics.values() for partition in topic.values()]

    def set_config(self, topic_id: UUID, config: PartitionConfig) -> None:
        """Apply `config` to all partitions of the topic from now on."""
        for partition in self._topics.get(topic_id, {}).values():
            partition.config = config

    @property
    def read_only(self) -> str | None:
        """Why the whole log rejects writes at the moment; None if it accepts them. It tries again by
        itself."""
        return self._committer.read_only

    @property
    def pending_bytes(self) -> int:
        """Bytes appended but not yet durable. Doors limit them while the disk stalls."""
        return self._committer.pending_bytes

    def commit_now_if_idle(self) -> None:
        """Start the commit of the pending appends at once, unless other appends are likely to join it. Called
        when a request has been appended and waits for its commit."""
        self._committer.commit_now_if_idle()

    def total_bytes(self) -> int:
        """Bytes of all segments of all partitions."""
        return sum(partition.size_bytes() for partition in self.partitions())

    def adopt(self) -> None:
        """Record that a copied data folder is an original from now on, because its start has raised the
        leader epochs. Blocks. OSError."""
        self._meta = meta.adopt(self._disk, self._meta)

    def checkpoint(self) -> Promise[None]:
        """Make a checkpoint. When it is done, everything committed is durable in the segments, without the
        journal."""
        return self._checkpointer.request()

    # Deleting a topic. Its tombstone is committed, so a start after a crash continues the deletion.

    def delete_topic(self, topic_id: UUID) -> Promise[None]:
        """Delete all partitions of the topic. Done when nothing on disk refers to it. It may be called again
        if it failed."""
        assert topic_id not in paths.STATE_FOLDERS, "a state log is never deleted"
        partitions = self._topics.pop(topic_id, {})
        # Both include those of earlier attempts: journal and checkpoint may still refer to them.
        forgotten = self._deletions.setdefault(topic_id, [])
        deleted = self._deleted_folders.setdefault(topic_id, [])
        for partition in partitions.values():
            partition.delete()
            forgotten.append(self._committer.forget_partition(partition).map(_releasing(partition)))
            deleted.append(partition.folder)
        out: Promise[None] = Promise()
        try:
            folders = self._mark_deleted(deleted)
        except OSError as error:
            return Promise.failed(error)

        def unlinked(promise: Promise[None]) -> None:
            if promise.error is not None:
                out.fail(promise.error)
            else:
                self._deleted_folders.pop(topic_id, None)
                gather(forgotten).then(lambda promises: all_forgotten(promises.result()))

        def all_forgotten(promises: list[Promise[None]]) -> None:
            self._deletions.pop(topic_id, None)
            _first_error(promises, out)

        self._unlink_folders(folders, unlinked)
        return out

    def _mark_deleted(self, folders: list[str]) -> list[str]:
        """Rename the folders. Returns the new names, also of those renamed before, without removed ones."""
        renamed = []
        for folder in folders:
            target = folder + paths.DELETED_SUFFIX
            if self._disk.exists(folder):
                self._disk.rename(folder, target)
            elif not self._disk.exists(target):
                continue
            renamed.append(target)
        return renamed

    def _unlink_folders(
        self,
        folders: list[str],
        callback: Callable[[Promise[None]], None],
        names: list[str] | None = None,
    ) -> None:
        """Unlink some files in each turn of the loop: unlinking a large one takes a while. `names`: the files
        of the last folder that are still there; None: not listed yet."""
        try:
            if folders:
                remaining = names or self._disk.list(folders[-1])
                for name in remaining[-_UNLINKS_PER_TURN:]:
                    self._disk.unlink(f"{folders[-1]}/{name}")
                del remaining[-_UNLINKS_PER_TURN:]
                if not remaining:
                    self._disk.remove_folder(folders.pop())
                self._clock.call_soon(lambda: self._unlink_folders(folders, callback, remaining))
                return
        except OSError as error:
            callback(Promise.failed(error))
            return
        self._disk.sync([], [paths.PARTITIONS], background=True).then(callback)

    # Stopping.

    def close(self) -> Promise[None]:
        """Commit all appends, make everything durable, record that the stop was clean, and unlock the folder.
        The caller appends nothing after this call. Always resolves: if the disk fails, the next start
        recovers."""
        if self._closing is None:
            self._closing = Promise()
            self._committer.drain().then(lambda _: self._close_partitions())
        return self._closing

    def _close_partitions(self) -> None:
        for partition in self.partitions():
            try:
                partition.close()
            except (OSError, LogError) as error:
                log.warning("closing partition %s failed: %s", partition.folder, error)
        if self._startup is not None or self.read_only is not None:
            self._finish_close()
            return

        def stored(promise: Promise[None]) -> None:
            if promise.error is not None:
                log.warning(
                    "the last checkpoint failed: not a clean stop, the next start will recover: %s",
                    promise.error,
                )
            self._finish_close()

        self._checkpointer.request_final().then(stored)

    def _finish_close(self) -> None:
        self._committer.stop()
        self._disk.close()
        assert self._closing is not None, "only close() ends here"
        self._closing.resolve(None)


def _releasing(partition: Partition) -> Callable[[None], None]:
    return lambda _: partition.release()


def _first_error(promises: list[Promise[None]], out: Promise[None]) -> None:
    errors = [promise.error for promise in promises if promise.error is not None]
    if errors:
        out.fail(errors[0])
    else:
        out.resolve(None)

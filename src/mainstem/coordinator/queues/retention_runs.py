"""The runs of retention over all partitions of a node, and what they wait for.

Owns: the timer, the division among turns of the event loop, and which state of subscriptions counts. What
they pin is taken from the state in memory, which may be newer than what is durable: a power cut takes back an
acknowledgement that was not answered yet, and its event with it if the segment is deleted by then. So a run
takes what is pinned, waits until that state is durable, and deletes nothing that was pinned before or is
pinned after the wait. Refuses: to delete while the state of subscriptions is not loaded, for then nothing is
known of pins; to decide what the settings of a topic allow (`log.partition.retention`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from mainstem.clock import Clock, Timer
from mainstem.coordinator.queues.retention import QueueRetention
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.log.errors import LogError, PartitionDeleted
from mainstem.log.log import Log
from mainstem.log.partition.partition import Partition
from mainstem.log.partition.retention import LogStartLimit
from mainstem.promise import Promise, gather

PARTITIONS_PER_TURN = 50
"""Partitions that retention checks in one turn of the loop."""

log = logging.getLogger(__name__)


class RetentionRuns:
    """Retention of one node."""

    def __init__(
        self, opened: Log, clock: Clock, pins: QueueRetention, queue_runtime: Runtime, interval_s: float
    ) -> None:
        self.before: Callable[[Partition], Promise[None]] | None = None
        """Finds out what routed queues need of a partition, and carries over what subscriptions pin there,
        before retention runs. Never fails."""
        self.on_run: list[Callable[[], object]] = []
        """Called after each run over all partitions."""
        self._log = opened
        self._clock = clock
        self._pins = pins
        self._queue_runtime = queue_runtime
        self._interval_s = interval_s
        self._timer: Timer | None = None
        self._closed = False

    def start(self) -> None:
        """Run in intervals from now on."""
        if not self._closed:
            self._timer = self._clock.call_later(self._interval_s, self._run_scheduled)

    def close(self) -> None:
        """End: what runs goes on to the end of its turn."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _run_scheduled(self) -> None:
        self.enforce().then(lambda _: self.start())

    def enforce(self) -> Promise[int]:
        """Delete the segments of all topics that retention allows to delete, some partitions in each turn of
        the loop. The value is the number of bytes deleted: 0 while the state of subscriptions is not
        loaded."""
        if self._queue_runtime.fenced is not None and not self._closed:
            log.warning(
                "retention does not run, for what subscriptions pin is not known: %s",
                self._queue_runtime.fenced,
            )
            return Promise.resolved(0)
        partitions = [
            partition for partition in self._log.partitions() if partition not in self._log.state_logs
        ]
        deleted_bytes: Promise[int] = Promise()
        self._enforce_of(partitions, 0, deleted_bytes)
        return deleted_bytes.map(self._after)

    def _after(self, deleted_bytes: int) -> int:
        for callback in () if self._closed else self.on_run:
            callback()
        return deleted_bytes

    def preview_limit(self, partition: Partition, share: float = 1.0) -> LogStartLimit:
        """What retention keeps of a partition beside what the settings keep. `share`: as if subscriptions
        pinned events for this share of the time only."""
        return partial(self._pins.preview_limit, share, partition)

    def _enforce_of(
        self, partitions: Sequence[Partition], bytes_so_far: int, deleted_bytes: Promise[int]
    ) -> None:
        if not partitions or self._closed:
            deleted_bytes.resolve(bytes_so_far)
            return
        this_turn, next_turns = partitions[:PARTITIONS_PER_TURN], partitions[PARTITIONS_PER_TURN:]

        def on_turn_done(results: Promise[list[Promise[int]]]) -> None:
            total = bytes_so_far
            total += sum(result.result() for result in results.result() if result.error is None)
            self._clock.call_soon(lambda: self._enforce_of(next_turns, total, deleted_bytes))

        gather([self._enforce_one(partition) for partition in this_turn]).then(on_turn_done)

    def _enforce_one(self, partition: Partition) -> Promise[int]:
        try:
            if self.before is not None and self._pins.has_needs(partition):
                deleted = self.before(partition).chain(lambda _: self._delete(partition))
            else:
                deleted = self._delete(partition)
        except (LogError, OSError) as error:
            deleted = Promise.failed(error)
        deleted.then(lambda done: self._log_error(partition, done.error))
        return deleted

    def _delete(self, partition: Partition) -> Promise[int]:
        limit = self._pins.limit(partition, partition.log_start_offset, partition.high_watermark)

        def enforce(_: None) -> Promise[int]:
            self._pins.forget(partition)
            return partition.enforce_retention(limit)

        # Durable then: the state of which `limit` has just taken what is pinned.
        return self._queue_runtime.read(None).chain(enforce)

    @staticmethod
    def _log_error(partition: Partition, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, PartitionDeleted):
            log.warning(
                "retention of %s-%d failed; the next run tries again: %s",
                partition.topic_id, partition.index, error,
            )  # fmt: skip

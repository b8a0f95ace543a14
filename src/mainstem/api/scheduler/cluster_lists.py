"""The work of one subscriber of lists on a Kafka cluster.

A list that fails is tried once more, after the first delay of `Retry`; if it fails again, its events are
handled one by one, so that one bad event does not keep the others. An event that was tried before, or is a
suspect, is alone in its list.

Owns: how a list is collected, and what its failure means. Refuses: everything else, which `cluster_work` has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from mainstem.api.handler import Failed, Handled
from mainstem.api.list_work import LIST_BYTES_MAX
from mainstem.api.scheduler.cluster_work import ClusterWork
from mainstem.api.scheduler.key_lanes import LaneEvent


class ClusterListWork(ClusterWork):
    """The work of one subscriber that gets lists."""

    _alone_next: LaneEvent | None = None
    """An event that was taken and is to be alone in the next list."""

    async def _work(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        lanes = self._lanes
        while True:
            batch: list[LaneEvent] = []
            self._running[task] = batch
            try:
                await self._collect(batch)
                if batch:
                    ends = await self._handle(batch)
                    lanes.end_list(ends)
                    self._poke.set()
            except asyncio.CancelledError:
                self._give_back_list(batch)
                is_stop = self._is_stopping or not any(entry.ledger.is_closed for entry in batch)
                if is_stop:
                    raise
                task.uncancel()
            finally:
                del self._running[task]
            self._finished += len(batch)

    def _give_back_list(self, batch: Sequence[LaneEvent]) -> None:
        # What was dropped ends as if it were done: nothing of its partition is committed any more.
        self._lanes.end_list(
            [(entry, None if self._is_dropped(entry) else 1) for entry in batch], counts=False
        )

    async def _collect(self, batch: list[LaneEvent]) -> None:
        """Wait for events until the list is full, or until `max_wait` after its first one."""
        loop, lanes, wall_ms = asyncio.get_running_loop(), self._lanes, self._clock.wall_ms
        size, end_s = 0, 0.0
        while len(batch) < (self._options.batch or 1) and size < LIST_BYTES_MAX:
            taken, self._alone_next = self._alone_next, None
            if taken is not None and taken.ledger.is_closed:
                self._give_back_list((taken,))
                continue
            if taken is None and batch:
                taken = lanes.take_behind(batch[-1])
            if taken is None:
                taken = lanes.take(wall_ms())
            if taken is not None:
                is_alone = taken.deaths > 0 or taken.attempt > 1
                if is_alone and batch:
                    self._alone_next = taken
                    return
                batch.append(taken)
                size += len(taken.event.value or b"")
                end_s = end_s or loop.time() + self._options.max_wait
                if is_alone:
                    return
            elif not batch:
                await self._rest()
            elif loop.time() >= end_s or any(entry.ledger.is_closed for entry in batch):
                return
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(end_s):
                        await self._rest()

    async def _handle(self, batch: Sequence[LaneEvent]) -> list[tuple[LaneEvent, int | None]]:
        """Handle a list. Returns when each of its events is to run again; None: it is done."""
        due: dict[LaneEvent, int | None] = {}
        present = []
        for entry in batch:
            if (entry.deaths or entry.event.headers) and await self._is_disposed_of(entry):
                due[entry] = None
            else:
                present.append(entry)
        failed, failure = await self._try(present, due)
        if len(failed) > 1 and failure is not None and failure.delay_ms is None:
            await asyncio.sleep(self._options.retry.initial_delay)
            failed, failure = await self._try(failed, due)
            if len(failed) > 1 and failure is not None and failure.delay_ms is None:
                singly, failed = failed, []
                await self._try_singly(singly, due)
        await self._settle(failed, failure, due)
        return [(entry, due[entry]) for entry in batch]

    async def _try(
        self, entries: Sequence[LaneEvent], due: dict[LaneEvent, int | None]
    ) -> tuple[list[LaneEvent], Failed | None]:
        """Handle a list. Returns those of its events that failed, and why; `due` has all others."""
        if not entries:
            return [], None
        outcomes = await self._call.run_list(
            [entry.event for entry in entries], [entry.attempt for entry in entries]
        )
        failed: list[LaneEvent] = []
        failure: Failed | None = None
        for entry, outcome in zip(entries, outcomes, strict=True):
            if isinstance(outcome, Failed):
                failed.append(entry)
                failure = outcome
            elif isinstance(outcome, Handled):
                due[entry] = None
                self.counts.done += 1
            else:
                due[entry] = None if self._is_dropped(entry) else await self._due_after(entry, outcome)
        return failed, failure

    async def _try_singly(self, entries: Sequence[LaneEvent], due: dict[LaneEvent, int | None]) -> None:
        """Handle events one by one. Those behind one that fails, in its key, wait for it."""
        waiting: set[bytes] = set()
        for entry in entries:
            if entry.key in waiting:
                due[entry] = 1
                continue
            failed, failure = await self._try([entry], due)
            await self._settle(failed, failure, due)
            if due[entry] is not None and entry.key is not None:
                waiting.add(entry.key)

    async def _settle(
        self, entries: Sequence[LaneEvent], failure: Failed | None, due: dict[LaneEvent, int | None]
    ) -> None:
        for entry in entries:
            assert failure is not None
            due[entry] = None if self._is_dropped(entry) else await self._due_after(entry, failure)

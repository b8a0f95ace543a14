"""The relay: publishes the rows of an outbox's table, each exactly once, and deletes them as they are in
the log.

    select the first rows → mark their topics open → publish → delete the rows and move the marks

Rows are taken as they are in the table, never by "later than the last id": ids are drawn before commits, so
a low id may become visible after a higher one. Each batch ends in one transaction that deletes its rows and
moves the marks. A relay that begins where another one was killed recalls what is in the log behind the
marks (`recall.py`), deletes those rows, and publishes the others.

**Order.** Rows are published by id. Events with one key are in the order of their commits if the transactions
that add them wait for each other, as those do that update one row of the key first.

**What this survives.** The death of the process at any point, of the database and of the server. It does
not survive two things: deleting events behind the marks from the topic, and a database that is restored to
an older state, which gives ids again; such a database needs a source with another name.

Owns: the loop, the marks, the pauses after errors. Refuses: SQL (`contract.OutboxStore`), and the encoding of
values.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mainstem.api.reading import topic_bounds
from mainstem.clock import BlockingClock
from mainstem.contract import (
    EventLog,
    EventTooLarge,
    InvalidArgument,
    NewEvent,
    NotAllowed,
    Position,
    RelayLost,
    StreamError,
    UnknownTopic,
)
from mainstem.outbox.contract import REFUSED_CHARS_MAX, OutboxRow, OutboxStore, TopicMark
from mainstem.outbox.recall import recall
from mainstem.outbox.row_format import checked_source, event_of_row

BATCH_EVENTS = 1_000
"""Rows that are published together, at most."""
POLL_S_MIN, POLL_S_MAX = 0.05, 1.0
"""How often the table is read without being woken: the wait doubles while there is nothing."""
RETRY_S_MIN, RETRY_S_MAX = 0.1, 10.0
"""Waits after an error of a topic or of the database."""
SETTLE_S = 2.0
"""What a killed relay has sent may arrive for this time."""
IDLE_MARK_S = 1.0
"""A topic that the outbox has not published to for this time has its mark closed."""
STOP_S = 5.0
"""How long a cancelled relay finishes its batch."""

REFUSALS = (EventTooLarge, InvalidArgument)
"""Errors of an event that no later attempt can publish."""
HARMLESS = (*REFUSALS, UnknownTopic, NotAllowed)
"""Errors after which the event is not in the log for certain."""

T = TypeVar("T")

_log = logging.getLogger("mainstem.outbox")


@dataclass(slots=True)
class _TopicPause:
    """A topic that waits after an error."""

    until: float
    delay_s: float
    is_uncertain: bool = False
    """Whether events of rows may be in the log, so that they must be recalled first."""


@dataclass(slots=True)
class _BatchOutcome:
    """What a batch came to."""

    done: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)


class Relay:
    """Publishes the rows of one outbox. `source` names it in the log; `settle_s`: seconds that what a killed
    relay has sent may take to arrive."""

    def __init__(
        self,
        source: str,
        store: OutboxStore,
        *,
        batch_events: int = BATCH_EVENTS,
        settle_s: float = SETTLE_S,
    ) -> None:
        self.source = checked_source(source)
        self.name = f"outbox {source}"
        self.is_active = False
        """Whether this relay has the lock, and so is the one that publishes."""
        self.published = 0
        """Events that this relay has published."""
        self.recalled = 0
        """Events that an earlier relay had published without deleting their rows."""
        self.refused = 0
        """Events that the log never accepts; their rows stay, with the reason."""
        self.last_error = ""
        """The last error, also if its cause is over; empty: there was none."""
        self._failure: Exception = StreamError("")
        self._store = store
        self._batch_events = batch_events
        self._settle_s = settle_s
        self._clock = BlockingClock()
        self._marks: dict[str, TopicMark] = {}
        self._used: dict[str, float] = {}
        """Topic with an open mark -> when it was last published to."""
        self._unsettled: set[str] = set()
        """Topics that were published to, and whose rows are not deleted yet."""
        self._pauses: dict[str, _TopicPause] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look for rows now: a transaction has committed some. From any thread, at any time."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing to wake
                self._loop.call_soon_threadsafe(self._woken.set)

    async def run(self, log: EventLog) -> None:
        """Publish to `log` until cancelled. While another relay of the outbox runs, wait to take over from
        it. Errors are logged, and tried again; a cancelled relay finishes its batch first, for up to
        STOP_S."""
        delay_s = RETRY_S_MIN
        while True:
            try:
                async with self._turn() as is_ours:
                    if is_ours:
                        delay_s = RETRY_S_MIN
                        await self._work(log, until_empty=False)
            except Exception as error:
                self._report(error)
                delay_s = min(2 * delay_s, RETRY_S_MAX)
                await self._wait(delay_s)
            else:
                await self._wait(POLL_S_MAX)

    async def drain(self, log: EventLog, *, timeout_s: float = 10.0) -> int:
        """Publish all rows that are in the table now, and return their number, for scripts and tests.
        RelayLost: another relay has the lock for `timeout_s`, or the connection is lost. StreamError: the
        log fails."""
        before = self.published + self.recalled
        deadline = self._clock.monotonic() + timeout_s
        while True:
            async with self._turn() as is_ours:
                if is_ours:
                    await self._work(log, until_empty=True)
                    return self.published + self.recalled - before
            if self._clock.monotonic() > deadline:
                raise RelayLost(f"{self.name}: another relay of it runs")
            await self._wait(POLL_S_MIN)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[bool]:
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        try:
            self.is_active = await self._unbroken(self._store.begin())
            yield self.is_active
            if self.is_active:
                await self._close_marks(idle_s=0.0)
        except asyncio.CancelledError:
            if self.is_active:
                with contextlib.suppress(StreamError):
                    await self._close_marks(idle_s=0.0)
            raise
        finally:
            self.is_active = False
            self._pauses.clear()
            await self._unbroken(self._store.end())

    async def _work(self, log: EventLog, *, until_empty: bool) -> None:
        await self._begin(log)
        poll_s = POLL_S_MIN
        while True:
            self._woken.clear()
            await self._recall_uncertain(log)
            rows = await self._store.pending(self._batch_events, without=self._waiting_topics())
            if rows:
                await self._unbroken(self._relay(log, rows))
                poll_s = POLL_S_MIN
            if until_empty and self._pauses:
                raise self._failure
            if rows:
                continue
            if until_empty:
                return
            await self._close_marks(idle_s=IDLE_MARK_S)
            poll_s = POLL_S_MIN if await self._wait(poll_s) else min(2 * poll_s, POLL_S_MAX)

    async def _begin(self, log: EventLog) -> None:
        """Take over from the relay before: delete the rows whose events it has published."""
        self._marks = {mark.topic: mark for mark in await self._store.marks()}
        self._used.clear()
        self._unsettled.clear()
        opened = [mark for mark in self._marks.values() if mark.is_open]
        pending = set(await self._store.pending_topics()) if opened else set()
        if pending.intersection(mark.topic for mark in opened):
            await asyncio.sleep(self._settle_s)
        for mark in opened:
            if mark.topic in pending:
                await self._recall(log, mark)
            else:
                self._used[mark.topic] = 0.0  # to be closed: no row is left that it is about

    async def _recall(self, log: EventLog, mark: TopicMark) -> None:
        try:
            ids, ends = await recall(log, self.source, mark)
        except UnknownTopic:  # deleted: nothing of it is in the log
            ids, ends = set(), []
        mark.offsets, mark.topic_id, mark.is_open = ends, "", False
        self._used.pop(mark.topic, None)
        self.recalled += await self._unbroken(self._store.finish(ids, {}, [mark]))

    async def _recall_uncertain(self, log: EventLog) -> None:
        """Recall the topics whose last publish may have reached the log, when their pause is over."""
        now = self._clock.monotonic()
        due = [topic for topic, pause in self._pauses.items() if pause.is_uncertain and pause.until <= now]
        for topic in due:
            pause = self._pauses[topic]
            try:
                await self._recall(log, self._marks[topic])
            except RelayLost:
                raise
            except StreamError as error:
                self._report(error)
                self._pause_topic(topic, is_uncertain=True)
            else:
                pause.is_uncertain = False

    def _waiting_topics(self) -> list[str]:
        now = self._clock.monotonic()
        return [topic for topic, pause in self._pauses.items() if pause.until > now or pause.is_uncertain]

    def _pause_topic(self, topic: str, *, is_uncertain: bool) -> None:
        before = self._pauses.get(topic)
        delay_s = RETRY_S_MIN if before is None else min(2 * before.delay_s, RETRY_S_MAX)
        if is_uncertain:
            delay_s = max(delay_s, self._settle_s)
        self._pauses[topic] = _TopicPause(self._clock.monotonic() + delay_s, delay_s, is_uncertain)

    async def _relay(self, log: EventLog, rows: Sequence[OutboxRow]) -> None:
        """Publish these rows, and delete those that are in the log then."""
        by_topic: dict[str, list[OutboxRow]] = {}
        for row in rows:
            by_topic.setdefault(row.topic, []).append(row)
        await self._open_marks(log, by_topic)
        self._unsettled.update(by_topic)
        outcome = _BatchOutcome()
        await asyncio.gather(
            *(
                self._publish(log, topic, topic_rows, outcome)
                for topic, topic_rows in by_topic.items()
                if self._is_open(topic)
            )
        )
        marks = [self._marks[topic] for topic in by_topic if topic in self._marks]
        await self._store.finish(outcome.done, outcome.refused, marks)
        self._unsettled.difference_update(by_topic)
        self.published += len(outcome.done)
        self.refused += len(outcome.refused)

    def _is_open(self, topic: str) -> bool:
        return topic in self._marks and self._marks[topic].is_open

    async def _open_marks(self, log: EventLog, topics: dict[str, list[OutboxRow]]) -> None:
        """Write where the topics end, before anything is published to them."""
        opened = []
        for topic in topics:
            if self._is_open(topic):
                continue
            try:
                ends = [bounds.end for bounds in await topic_bounds(log, topic)]
                mark = TopicMark(topic, await log.topic_id(topic), ends, is_open=True)
            except UnknownTopic:  # it may be created when it is published to
                mark = TopicMark(topic, "", [], is_open=True)
            except StreamError as error:
                self._report(error)
                self._pause_topic(topic, is_uncertain=False)
                continue
            opened.append(mark)
        if opened:
            await self._store.finish((), {}, opened)
            self._marks.update((mark.topic, mark) for mark in opened)

    async def _publish(
        self, log: EventLog, topic: str, rows: Sequence[OutboxRow], outcome: _BatchOutcome
    ) -> None:
        events: list[NewEvent] = [event_of_row(row, self.source) for row in rows]
        results: Sequence[object]
        try:
            results = await log.publish(topic, events)
        except StreamError as error:
            results = error.results if len(error.results) == len(rows) else [error] * len(rows)
            if not isinstance(error, REFUSALS):
                self._report(error)
        failure: object = None
        is_uncertain = False
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, Position):
                outcome.done.append(row.id)
            elif isinstance(result, REFUSALS):
                outcome.refused[row.id] = str(result)[:REFUSED_CHARS_MAX]
                _log.error("%s: row %d is refused: %s", self.name, row.id, result)
            else:
                failure = result
                is_uncertain = is_uncertain or not isinstance(result, HARMLESS)
        if not is_uncertain:  # else an event that is in the log may be before those that are known to be
            self._marks[topic].move(result for result in results if isinstance(result, Position))
        self._used[topic] = self._clock.monotonic()
        if failure is None:
            self._pauses.pop(topic, None)
        else:
            self._pause_topic(topic, is_uncertain=is_uncertain)

    async def _close_marks(self, *, idle_s: float) -> None:
        """Close the marks of topics that were not published to for `idle_s`: a relay that takes over has
        nothing to recall there, however much others publish to them."""
        before = self._clock.monotonic() - idle_s
        closed = []
        for topic, used in list(self._used.items()):
            pause = self._pauses.get(topic)
            is_uncertain = topic in self._unsettled or (pause is not None and pause.is_uncertain)
            if used <= before and not is_uncertain:
                mark = self._marks[topic]
                closed.append(TopicMark(topic, mark.topic_id, mark.offsets))
        if closed:
            await self._unbroken(self._store.finish((), {}, closed))
        for mark in closed:
            self._marks[mark.topic] = mark
            del self._used[mark.topic]

    def _report(self, error: Exception) -> None:
        """Log an error, once while it lasts."""
        text = str(error) or repr(error)
        self._failure = error
        if text != self.last_error:
            self.last_error = text
            expected = isinstance(error, StreamError)
            _log.warning("%s: %s", self.name, text, exc_info=None if expected else error)

    async def _wait(self, seconds: float) -> bool:
        """Wait to be woken, for `seconds` at most. Returns whether it was."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        return True

    async def _unbroken(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which a cancellation ends only after STOP_S: the connection is in use, and
        what is published should be deleted as well."""
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task}, timeout=STOP_S)
            task.cancel()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await task
            raise

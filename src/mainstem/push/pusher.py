"""Pushes the events of one subscription: pulls them, sends each to the endpoint, settles it by the answer.

Owns: how many requests are under way, their deadlines, the order of a key, and what an answer means: a status
of 200 to 299 acknowledges, anything else is a failure of the event. Refuses: to lease more events than it
sends at once, so that an endpoint that hangs has no events but those that it was sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeAlias

from mainstem.clock import Clock
from mainstem.contract import Event, NotReachable, StreamError
from mainstem.pubsub.stored_subscription import stored_of
from mainstem.push.client import PushAnswer, PushClient, PushRequest
from mainstem.push.errors import PushFailed
from mainstem.push.limits import PushLimits
from mainstem.push.payload import make_request
from mainstem.push.pubsub_payload import make_pubsub_request, service_account_of
from mainstem.push.push_stats import PushStats
from mainstem.push.retry_after import retry_after_s
from mainstem.push.tokens import PushTokens
from mainstem.push.waiting import wait_until
from mainstem.push.window import PAUSE_S_MIN, PushWindow
from mainstem.queue_contract import (
    Ack,
    Delivery,
    Extend,
    Nack,
    NoSuchSubscription,
    Outcome,
    PushReport,
    Queues,
)
from mainstem.queues.push_settings import PushSettings
from mainstem.queues.settings import SubscriptionSettings
from mainstem.turns import next_turn

CONSUMER = "push"
"""The name of the consumer that has the events that are sent."""
PULL_WAIT_MS = 60_000
BYTES_MAX = 8 << 20
"""Bytes of events that are under way to one endpoint; then no further one is pulled."""
SHARE_WAIT_S = 0.2
"""How long to wait before asking again for a share of what all subscriptions have together."""
LOCK_MARGIN_MS = 5_000
"""A lock is longer than the deadline of the request, so that the answer can be recorded."""
RETRY_S = 0.5
RETRY_S_MAX = 10.0

log = logging.getLogger(__name__)

KeyPlace: TypeAlias = tuple[str, int, bytes]
"""Topic, partition and key."""


class SubscriptionPusher:
    """Pushes while it runs. `settings.push` is not None."""

    def __init__(
        self,
        queues: Queues,
        name: str,
        settings: SubscriptionSettings,
        client: PushClient,
        limits: PushLimits,
        clock: Clock,
        tokens: PushTokens,
    ) -> None:
        assert settings.push is not None
        self._queues = queues
        self._name = name
        self._client = client
        self._limits = limits
        self._clock = clock
        self._tokens = tokens
        self._settings = settings
        self._push = settings.push
        self._window = PushWindow(self._push.concurrency)
        self._stats = PushStats(clock.monotonic())
        self._paused_until_s = 0.0
        self._deferred_until_s = 0.0
        """As an endpoint has asked with Retry-After: another request that succeeds does not end this."""
        self._retry_s = RETRY_S
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests = 0
        self._in_flight = 0
        """Events that were pulled and are not settled."""
        self._bytes = 0
        self._keys: dict[KeyPlace, deque[Delivery]] = {}
        """In key order: what follows the event of a key that is under way."""
        self._progress = asyncio.Event()
        self._stopping = asyncio.Event()
        self._pulling = asyncio.get_running_loop().create_task(self._run())
        self._pulling.add_done_callback(self._on_end)

    def configure(self, settings: SubscriptionSettings) -> None:
        """Push as these settings say from now on; requests that are under way go on as they are."""
        assert settings.push is not None
        if settings.push.endpoint != self._push.endpoint:
            self._window = PushWindow(settings.push.concurrency)
            self._paused_until_s = self._deferred_until_s = 0.0
        self._settings, self._push = settings, settings.push
        self._window.maximum = self._push.concurrency
        self._progress.set()

    def report(self) -> PushReport:
        """How it goes."""
        now_s, stats = self._clock.monotonic(), self._stats
        left_s = self._pause_end_s - now_s
        return PushReport(
            in_flight=self._requests,
            window=self._window.size,
            delivered=stats.delivered,
            failed=stats.failed,
            delivered_per_s=stats.delivered_rate.per_s(now_s),
            failed_per_s=stats.failed_rate.per_s(now_s),
            latency_ms=stats.latency_ms,
            last_error=stats.last_error,
            last_error_ms=stats.last_error_ms,
            paused_until_ms=self._clock.wall_ms() + int(left_s * 1000) if left_s > 0 else None,
            pull_failures=stats.pull_failures,
            pull_error=stats.pull_error,
        )

    @property
    def _pause_end_s(self) -> float:
        return max(self._paused_until_s, self._deferred_until_s)

    def stop(self) -> None:
        """Pull no more, from now on."""
        self._stopping.set()
        self._progress.set()
        self._pulling.cancel()

    async def close(self, drain_s: float) -> None:
        """Stop; give requests that are under way `drain_s` to be answered, and give back the events of the
        others. Does not raise."""
        self.stop()
        await asyncio.wait({self._pulling})
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=drain_s)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _on_end(self, pulling: asyncio.Task[None]) -> None:
        if not pulling.cancelled() and (error := pulling.exception()) is not None:
            log.error("pushing subscription %s ended: %r", self._name, error, exc_info=error)

    # --- pulling ------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Pull and send until `stop`, whatever fails: also after an error that is a bug of this program."""
        while not self._stopping.is_set():
            try:
                await self._pull_and_send()
            except NoSuchSubscription:
                return  # `close` follows
            except StreamError as error:
                self._on_pull_failure(str(error), None)
            except Exception as error:
                self._on_pull_failure(f"an unexpected error: {type(error).__name__}", error)
            if not self._stopping.is_set():
                await wait_until(self._stopping, self._clock, self._retry_s)
                self._retry_s = min(2 * self._retry_s, RETRY_S_MAX)

    def _on_pull_failure(self, problem: str, unexpected: Exception | None) -> None:
        level = logging.WARNING if unexpected is None else logging.ERROR
        text = "subscription %s cannot be pulled to be pushed; trying again in %g s: %s"
        log.log(level, text, self._name, self._retry_s, problem, exc_info=unexpected)
        self._stats.pull_failed(problem)

    async def _pull_and_send(self) -> None:
        while not self._stopping.is_set():
            self._progress.clear()
            room = self._window.size - self._in_flight
            room_bytes = BYTES_MAX - self._bytes
            pause_s = self._pause_end_s - self._clock.monotonic()
            if room <= 0 or room_bytes <= 0:
                await self._progress.wait()
                continue
            room = min(room, self._limits.events_for(self._in_flight))
            room_bytes = min(room_bytes, self._limits.bytes_for(self._in_flight))
            if not room or not room_bytes:
                await wait_until(self._progress, self._clock, SHARE_WAIT_S)
            elif pause_s > 0:
                await wait_until(self._progress, self._clock, pause_s)
            else:
                deliveries = await self._pull(room, room_bytes)
                for delivery in deliveries:
                    self._start(delivery)
                self._stats.pull_error = None
                self._retry_s = RETRY_S

    async def _pull(self, room: int, room_bytes: int) -> Sequence[Delivery]:
        return await self._queues.pull(
            self._name,
            CONSUMER,
            max_events=room,
            wait_ms=PULL_WAIT_MS,
            max_bytes=room_bytes,
            lock_ms=self._push.deadline_ms + LOCK_MARGIN_MS,
        )

    # --- sending ------------------------------------------------------------------------------------------

    def _start(self, delivery: Delivery) -> None:
        self._in_flight += 1
        self._bytes += _size(delivery.event)
        self._limits.take(_size(delivery.event))
        event = delivery.event
        if self._settings.in_key_order and event.key is not None:
            place = event.topic, event.partition, event.key
            if place in self._keys:
                self._keys[place].append(delivery)
                return
            self._keys[place] = deque((delivery,))
            work = self._send_in_order(place)
        else:
            work = self._send(delivery)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_sent)

    def _on_sent(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("pushing an event of subscription %s failed: %r", self._name, error, exc_info=error)

    async def _send_in_order(self, place: KeyPlace) -> None:
        """Send the events of a key one after the other. When one comes back, the engine takes those after it
        back, too, and delivers all of them again: so from then on each has to prove that it is leased."""
        following = self._keys[place]
        is_certain = True
        try:
            while following:
                delivery = following[0]
                if await self._is_leased(delivery, is_certain=is_certain):
                    is_certain &= await self._send_and_settle(delivery)
                following.popleft()
                self._end(delivery)
        finally:
            del self._keys[place]
            for delivery in following:
                self._end(delivery)
            if len(following) > 1:  # it was cancelled, and only the first one is given back by itself
                with suppress(StreamError):
                    untried = [Nack(delivery.token, delivered=False) for delivery in list(following)[1:]]
                    await self._queues.settle(self._name, untried)

    async def _is_leased(self, delivery: Delivery, *, is_certain: bool) -> bool:
        """Whether an event is still leased, for as long as its request may take. `is_certain`: unless its
        lock is over, it is."""
        lock_ms = self._push.deadline_ms + LOCK_MARGIN_MS
        if is_certain and delivery.deadline_ms - self._clock.wall_ms() >= self._push.deadline_ms:
            return True
        return await self._settle(delivery, Extend(delivery.token, lock_ms)) == "done"

    async def _send(self, delivery: Delivery) -> None:
        try:
            await self._send_and_settle(delivery)
        finally:
            self._end(delivery)

    def _end(self, delivery: Delivery) -> None:
        self._in_flight -= 1
        self._bytes -= _size(delivery.event)
        self._limits.release(_size(delivery.event))
        self._progress.set()

    async def _send_and_settle(self, delivery: Delivery) -> bool:
        """Whether the event is acknowledged."""
        outcome: Outcome = Nack(delivery.token, counts=False)
        self._requests += 1
        try:
            outcome = await self._outcome_of(delivery)
        except asyncio.CancelledError:
            with suppress(StreamError):
                await self._queues.settle(self._name, [outcome])
            raise
        finally:
            self._requests -= 1
        return await self._settle(delivery, outcome) in ("done", "late") and isinstance(outcome, Ack)

    async def _outcome_of(self, delivery: Delivery) -> Outcome:
        """Send an event. The outcome is what the answer means."""
        push, sent_in, begin_s = self._push, self._window.round, self._clock.monotonic()
        was_sent = True
        try:
            request = await self._request(push, delivery)
            async with asyncio.timeout(push.deadline_ms / 1000):
                answer = await self._client.send(request)
        except TimeoutError:
            problem = f"no answer within {push.deadline_ms / 1000:g} s"
        except PushFailed as error:
            problem, was_sent = str(error), error.was_sent
        except Exception as error:  # the event is given back at once, and not when its lock is over
            log.error("pushing an event of subscription %s failed", self._name, exc_info=error)
            problem = f"an unexpected error: {type(error).__name__}"
        else:
            now_s = self._clock.monotonic()
            self._stats.answered(now_s - begin_s)
            if answer.is_success:
                self._stats.succeeded(now_s)
                self._window.succeeded()
                self._paused_until_s = 0.0
                return Ack(delivery.token)
            problem = f"status {answer.status}"
            if 300 <= answer.status < 400:
                problem += ": redirects are not followed"
            self._defer(answer)
        self._on_failure(f"{push.shown_endpoint}: {problem}", sent_in)
        if was_sent:
            return Nack(delivery.token, reason=problem)
        return Nack(delivery.token, delivered=False)

    async def _request(self, push: PushSettings, delivery: Delivery) -> PushRequest:
        """The request for an event. PushFailed: there is no token for it."""
        if push.payload in ("pubsub-wrapped", "pubsub-unwrapped"):
            stored = stored_of(self._settings)
            email = service_account_of(stored)
            token = await self._token(push, email)
            return make_pubsub_request(self._name, stored, push, delivery, token)
        token = await self._token(push, "")
        return await make_request(
            self._name, push, delivery, self._clock.wall_ms(), lambda: next_turn(self._clock), token
        )

    async def _token(self, push: PushSettings, email: str) -> str:
        return await self._tokens.token(self._name, push.token_audience, email) if push.token_audience else ""

    def _defer(self, answer: PushAnswer) -> None:
        """Send nothing for as long as the endpoint asks."""
        wait_s = retry_after_s(answer.retry_after, self._clock.wall_ms())
        if wait_s is not None and wait_s > 0:
            self._deferred_until_s = max(self._deferred_until_s, self._clock.monotonic() + wait_s)

    def _on_failure(self, problem: str, sent_in: int) -> None:
        now_s = self._clock.monotonic()
        if not self._stats.failed_rate.per_s(now_s):
            log.warning("pushing subscription %s fails: %s", self._name, problem)
        self._stats.failed_with(problem, now_s, self._clock.wall_ms())
        self._window.failed(sent_in)
        if self._window.pause_s >= PAUSE_S_MIN:
            self._paused_until_s = now_s + self._window.pause_s

    async def _settle(self, delivery: Delivery, outcome: Outcome) -> str:
        """The verdict on an outcome. It is repeated while the server cannot record it, until the lock is
        over: then the event is delivered again."""
        retry_s = RETRY_S
        while True:
            try:
                return (await self._queues.settle(self._name, [outcome]))[0]
            except NotReachable:
                if self._stopping.is_set() or self._clock.wall_ms() >= delivery.deadline_ms:
                    return "stale"
            except StreamError as error:
                log.warning("subscription %s: the answer to a push is lost: %s", self._name, error)
                return "stale"
            await wait_until(self._stopping, self._clock, retry_s)
            retry_s = min(2 * retry_s, RETRY_S_MAX)


def _size(event: Event) -> int:
    """Bytes of key, value and headers."""
    headers = sum(len(name) + len(content or b"") for name, content in event.headers)
    return len(event.key or b"") + len(event.value or b"") + headers

"""How much one turn of the event loop does when very much is due at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest

from mainstem.contract import NewEvent
from mainstem.coordinator.queues import release_turns, view_changes
from mainstem.coordinator.queues.records import EventsAcked, EventsReleased, ViewRecord
from mainstem.coordinator.queues.views import SubscriptionView, SubscriptionViews
from mainstem.engines.embedded.queues import service
from mainstem.queue_contract import Delivery, Nack
from mainstem.queues.runs import count_positions
from tests.engines.queue_server import SimulatedServer, depth, simulated

EVENTS = 3_000


class WorkOfTurns:
    """Counts positions by the call of the clock in which something happened to them."""

    def __init__(self, server: SimulatedServer) -> None:
        self.server = server
        self.turn = 0
        self.work: dict[int, int] = {}

    def note(self, positions: int) -> None:
        self.work[self.turn] = self.work.get(self.turn, 0) + positions

    def counting(self) -> Any:
        """While it is entered, each call of the clock is another turn."""
        clock = self.server.clock

        def wrapped(name: str) -> Callable[..., Any]:
            function = getattr(clock, name)

            def call(*args: Any) -> Any:
                *before, work = args

                def noted() -> None:
                    self.turn += 1
                    work()

                return function(*before, noted)

            return call

        patches: dict[str, Any] = {name: wrapped(name) for name in ("call_soon", "call_later")}
        return patch.multiple(clock, **patches)

    @property
    def most(self) -> int:
        return max(self.work.values(), default=0)


@pytest.fixture(autouse=True)
def small_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "WAKES_OF_TURN", 100)
    for name, module in (("RELEASED_OF_TURN", release_turns), ("RELEASED_OF_TURN", service)):
        monkeypatch.setattr(module, name, 100)


async def receive(server: SimulatedServer, count: int = EVENTS) -> list[Delivery]:
    for start in range(0, count, 1_000):
        values = [NewEvent(b"%d" % number) for number in range(start, start + 1_000)]
        await server.drive(server.engine.publish("t", values))
    deliveries: list[Delivery] = []
    while len(deliveries) < count:
        deliveries += await server.pull(count=50)
    return deliveries


def counting_records(work: WorkOfTurns, kind: type[ViewRecord]) -> Any:
    change = SubscriptionViews._change

    def counted(views: SubscriptionViews, view: SubscriptionView, record: ViewRecord) -> None:
        if isinstance(record, kind):
            work.note(count_positions(record.runs))  # type: ignore[attr-defined]
        change(views, view, record)

    return patch.object(SubscriptionViews, "_change", counted)


def test_what_is_due_at_once_is_woken_in_parts() -> None:
    async def test(server: SimulatedServer) -> None:
        deliveries = await receive(server)
        delayed = [Nack(delivery.token, 2_000) for delivery in deliveries]
        await server.drive(server.engine.settle("s", delayed))
        assert (await depth(server)).waiting == EVENTS
        work = WorkOfTurns(server)
        (view,) = server.node.subscriptions.views.all()
        wake = type(view.sequence)._wake_due

        def counted(sequence: Any, now_ms: int, max_entries: int | None) -> list[int]:
            woken = wake(sequence, now_ms, max_entries)
            work.note(len(woken))
            return woken

        with patch.object(type(view.sequence), "_wake_due", counted), work.counting():
            await server.pass_time(3)
        assert sum(work.work.values()) == EVENTS
        assert work.most <= 100
        assert (await depth(server)).ready == EVENTS

    simulated(test)


def test_a_pull_wakes_no_more_than_it_needs() -> None:
    async def test(server: SimulatedServer) -> None:
        deliveries = await receive(server, 1_000)
        outcomes = [Nack(delivery.token, 2_000) for delivery in deliveries]
        await server.drive(server.engine.settle("s", outcomes))
        (view,) = server.node.subscriptions.views.all()
        service_of_queues = server.engine._queue_service
        with patch.object(service_of_queues, "_on_timer", lambda: None):
            server.clock.advance(3)
            assert len(await server.pull(count=150)) == 150
        assert view.sequence.counts().ready == 50

    simulated(test)


def test_locks_that_expire_at_once_are_given_back_in_parts() -> None:
    async def test(server: SimulatedServer) -> None:
        await receive(server)
        work = WorkOfTurns(server)
        with counting_records(work, EventsReleased), work.counting():
            await server.pass_time(4)
        assert sum(work.work.values()) == EVENTS
        assert work.most <= 100 + 50, "a lease may pass the limit"
        info = await server.drive(server.engine.subscription("s"))
        assert (info.depth.ready, info.failed) == (EVENTS, EVENTS)

    simulated(test, lock_ms=2_000)


def test_a_consumer_that_is_there_no_more_gives_back_in_parts() -> None:
    async def test(server: SimulatedServer) -> None:
        await receive(server)
        work = WorkOfTurns(server)
        with counting_records(work, EventsReleased), work.counting():
            detached = server.node.subscriptions.detach("c", counts=True)
            await server.pass_time(1)
        assert detached.result() == EVENTS
        assert work.most <= 100 + 50
        assert (await depth(server)).ready == EVENTS

    simulated(test)


def test_a_purge_of_very_many_events_goes_by_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: SimulatedServer) -> None:
        monkeypatch.setattr(view_changes, "PURGED_PAGES", 1)
        view = await view_with_pages(server, 12)
        work = WorkOfTurns(server)
        with counting_records(work, EventsAcked), work.counting():
            assert await server.drive(server.engine.purge("s")) == 12 * 4_096
        assert sum(work.work.values()) == 12 * 4_096
        assert work.most <= 4_096
        assert view.sequence.counts().outstanding == 0

    simulated(test)


async def view_with_pages(server: SimulatedServer, pages: int) -> SubscriptionView:
    """The view of a partition with this number of pages, all leased."""
    for _ in range(pages):
        await server.drive(server.engine.publish("t", [NewEvent(b"")] * 4_096))
    (view,) = server.node.subscriptions.views.all()
    view.sequence.scan(pages * 4_096)
    while await server.drive(server.node.subscriptions.acquire(view, "c", 4_096)) is not None:
        pass
    return view

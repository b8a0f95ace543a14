"""The audit trail: equal events are counted, nothing waits or fails, memory is bounded, losses are shown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from mainstem.access_contract import (
    AccessDecision,
    Acl,
    Operation,
    PatternType,
    Permission,
    Principal,
    Requester,
    Resource,
    ResourceType,
)
from mainstem.audit import trail as trail_module
from mainstem.audit.events import TEXT_CHARACTERS_MAX, AuditEvent
from mainstem.audit.trail import REPEATED_S, RETRY_S, AuditSinkError, AuditTrail
from tests.support.clock import SimClock

ALICE = Requester(principal=Principal("User", "alice"), host="10.0.0.7", client_id="billing")
ORDERS = Resource(ResourceType.TOPIC, "orders")
DENIED = AccessDecision(False, reason="no entry matches")


class MemorySink:
    """Keeps what it is given, unless it is broken."""

    name = "memory"

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self.is_broken = self.is_closed = False

    async def write(self, batch: Sequence[AuditEvent]) -> None:
        await asyncio.sleep(0)
        if self.is_broken:
            raise AuditSinkError("it is broken")
        self.events += batch

    def close(self) -> None:
        self.is_closed = True


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def audited(test: Callable[[AuditTrail, MemorySink, SimClock], Awaitable[None]]) -> None:
    async def run() -> None:
        clock, sink = SimClock(), MemorySink()
        trail = AuditTrail(clock, [sink])
        await test(trail, sink, clock)
        await trail.close()
        assert sink.is_closed

    asyncio.run(run())


def test_a_denial_says_who_what_and_why() -> None:
    async def test(trail: AuditTrail, sink: MemorySink, clock: SimClock) -> None:
        trail.decided(ALICE, Operation.READ, ORDERS, DENIED)
        await turns()
        assert sink.events == [
            AuditEvent(
                time="2013-01-01T00:00:00.000Z",
                principal="User:alice",
                host="10.0.0.7",
                client_id="billing",
                action="read",
                resource_type="topic",
                resource="orders",
                outcome="denied",
                reason="no entry matches",
            )
        ]

    audited(test)


def test_the_rule_that_decided_is_written_out() -> None:
    async def test(trail: AuditTrail, sink: MemorySink, clock: SimClock) -> None:
        everybody = Principal("User", "*")
        acl = Acl(
            ResourceType.TOPIC, "ord", PatternType.PREFIXED, everybody, "*", Operation.ALL, Permission.ALLOW
        )
        trail.decided(ALICE, Operation.DELETE, ORDERS, AccessDecision(True, acl))
        await turns()
        assert [(event.outcome, event.rule) for event in sink.events] == [
            ("allowed", "ALLOW User:* to ALL TOPIC ord* from *")
        ]

    audited(test)


def test_equal_events_are_counted_and_different_ones_are_not() -> None:
    async def test(trail: AuditTrail, sink: MemorySink, clock: SimClock) -> None:
        for _ in range(1_000):
            trail.decided(ALICE, Operation.READ, ORDERS, DENIED)
        trail.decided(ALICE, Operation.WRITE, ORDERS, DENIED)
        await turns()
        clock.advance(REPEATED_S)
        await turns()
        assert [(event.action, event.count) for event in sink.events] == [
            ("read", 1),
            ("write", 1),
            ("read", 999),
        ]
        trail.decided(ALICE, Operation.READ, ORDERS, DENIED)
        await turns()
        assert sink.events[-1].count == 1, "a new time of counting begins with an event"
        assert trail.total_count == 1_002

    audited(test)


def test_what_is_counted_is_written_at_the_end() -> None:
    sinks = []

    async def test(trail: AuditTrail, sink: MemorySink, clock: SimClock) -> None:
        sinks.append(sink)
        trail.decided(ALICE, Operation.READ, ORDERS, DENIED)
        trail.decided(ALICE, Operation.READ, ORDERS, DENIED)

    audited(test)
    assert [event.count for event in sinks[0].events] == [1, 1]


def test_events_wait_for_a_broken_sink_in_order(caplog: pytest.LogCaptureFixture) -> None:
    async def test(trail: AuditTrail, sink: MemorySink, clock: SimClock) -> None:
        sink.is_broken = True
        for number in range(3):
            trail.logged_in(f"User:u{number}", "::1", allowed=True, mechanism="PLAIN", door="kafka")
            await turns()
            clock.advance(RETRY_S)
            await turns()
        assert sink.events == []
        sink.is_broken = False
        clock.advance(RETRY_S)
        await turns()
        assert [event.principal for event in sink.events] == ["User:u0", "User:u1", "User:u2"]

    audited(test)
    assert [record.getMessage() for record in caplog.records] == [
        "audit events wait: memory cannot be written: it is broken"
    ]


def test_lost_events_become_one_that_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail_module, "WAITING_MAX", 5)

    async def test(trail: AuditTrail, sink: MemorySink, clock: SimClock) -> None:
        sink.is_broken = True
        for number in range(12):
            trail.acted("User:alice", "::1", "export", "done", {"events": number})
        await turns()
        assert trail.lost_count == 7
        sink.is_broken = False
        clock.advance(RETRY_S)
        await turns()
        assert [(event.outcome, event.count) for event in sink.events] == [("lost", 7), *[("done", 1)] * 5]
        assert [event.details.get("events") for event in sink.events[1:]] == [0, 1, 2, 3, 4]

    audited(test)


def test_many_different_events_are_not_all_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail_module, "REPEATED_MAX", 2)

    async def test(trail: AuditTrail, sink: MemorySink, clock: SimClock) -> None:
        for _ in range(2):
            for number in range(4):
                topic = Resource(ResourceType.TOPIC, f"t{number}")
                trail.decided(ALICE, Operation.READ, topic, DENIED)
        await turns()
        assert [event.resource for event in sink.events] == ["t0", "t1", "t2", "t3", "t2", "t3"]

    audited(test)


def test_a_text_of_a_client_is_bounded() -> None:
    async def test(trail: AuditTrail, sink: MemorySink, clock: SimClock) -> None:
        trail.logged_in("x" * 100_000, "::1", allowed=False, mechanism="PLAIN", door="kafka")
        trail.acted("User:alice", "::1", "search", "done", {"query": "y" * 100_000})
        await turns()
        assert len(sink.events[0].principal) == TEXT_CHARACTERS_MAX
        assert len(str(sink.events[1].details["query"])) == TEXT_CHARACTERS_MAX

    audited(test)


def test_a_sink_that_stays_broken_does_not_keep_the_server_from_ending() -> None:
    async def run() -> None:
        sink = MemorySink()
        trail = AuditTrail(SimClock(), [sink])
        sink.is_broken = True
        trail.decided(ALICE, Operation.READ, ORDERS, DENIED)
        await turns()
        await asyncio.wait_for(trail.close(), 5)
        trail.decided(ALICE, Operation.WRITE, ORDERS, DENIED)

    asyncio.run(run())

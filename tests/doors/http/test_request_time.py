"""The time of one request among many that take turns, and in all its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mainstem.access_contract import Principal, Requester
from mainstem.doors.http.request_time import RequestTime
from mainstem.doors.http.throttling import ThrottledClient
from mainstem.quota_contract import NoQuotas, QuotaKey
from tests.support.clock import SimClock


class Cpu:
    """CPU time that passes when a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    async def work(self, *steps_s: float) -> str:
        for step_s in steps_s:
            self.now_s += step_s
            await asyncio.sleep(0)
        return "done"


def test_requests_that_take_turns_count_their_own_steps() -> None:
    cpu = Cpu()
    short, long = RequestTime(cpu), RequestTime(cpu)

    async def both() -> list[str]:
        return list(
            await asyncio.gather(
                short.measured(cpu.work(1, 1)), long.measured(cpu.work(10, 10, 10)), cpu.work(500)
            )
        )

    assert asyncio.run(both()) == ["done"] * 3
    assert (short.take_s(), long.take_s()) == (2, 30)
    assert (short.take_s(), long.take_s()) == (0, 0)


def test_tasks_of_a_request_count_once_each() -> None:
    cpu = Cpu()
    time = RequestTime(cpu)

    async def request() -> str:
        cpu.now_s += 1
        task = asyncio.ensure_future(time.measured(cpu.work(10, 10)))
        others = asyncio.ensure_future(cpu.work(500, 500))
        await others
        return await time.measured(task)  # as it awaits itself, this counts once

    assert asyncio.run(time.measured(request())) == "done"
    assert time.take_s() == 21


def test_errors_and_cancellation_pass_through() -> None:
    cpu = Cpu()
    time = RequestTime(cpu)

    async def ends() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cpu.now_s += 7
            raise ValueError("cancelled") from None

    async def test() -> None:
        started = asyncio.ensure_future(time.measured(ends()))
        await asyncio.sleep(0)
        before_its_first_step = asyncio.ensure_future(time.measured(ends()))
        for task in (started, before_its_first_step):
            task.cancel()
        await asyncio.wait((started, before_its_first_step))
        assert before_its_first_step.cancelled()
        with pytest.raises(ValueError, match="cancelled"):
            started.result()

    asyncio.run(test())
    assert time.take_s() == 7


class CountingQuotas(NoQuotas):
    """What was charged; each charge is more than there is room for."""

    def __init__(self) -> None:
        self.charged: list[tuple[QuotaKey, float]] = []

    def charge(self, key: QuotaKey, user: str, client_id: str, amount: float) -> int:
        self.charged.append((key, amount))
        return 250


def test_a_long_response_is_charged_as_it_is_made_and_slowed_down() -> None:
    cpu, quotas, log = Cpu(), CountingQuotas(), list[object]()

    class CpuClock(SimClock):
        def cpu(self) -> float:
            return cpu.now_s

    async def pause(seconds: float) -> None:
        log.append(seconds)

    async def send(message: Any) -> None:
        cpu.now_s += 0.125
        log.append(message["body"])

    async def parts() -> AsyncIterator[bytes]:
        for part in (b"a", b"b"):
            cpu.now_s += 1
            yield part

    async def test() -> None:
        requester = Requester(principal=Principal("User", "alice"), roles=frozenset(), host="10.0.0.1")
        client = ThrottledClient(quotas, (QuotaKey.FETCH, QuotaKey.REQUEST), requester, CpuClock(), pause)
        counted = client.sent_to(send)
        async for part in client.time.measured_parts(parts()):
            await counted({"type": "http.response.body", "body": part, "more_body": True})
        client.charge_time()

    asyncio.run(test())
    assert log == [b"a", 0.25, b"b"]
    time, size = QuotaKey.REQUEST, QuotaKey.FETCH
    assert quotas.charged == [(time, 100.0), (size, 1), (time, 112.5), (size, 1), (time, 12.5)]

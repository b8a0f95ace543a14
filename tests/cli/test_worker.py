"""`Worker`: what becomes of each event, how it stops, and what it does when the server does not respond."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mainstem.cli import worker as worker_module
from mainstem.cli.worker import Worker, WorkPlan
from mainstem.contract import InvalidArgument, NotReachable, StreamError
from mainstem.http_api.deliveries import AckJson, DeliveryJson, ExtendJson, NackJson, RejectJson
from mainstem.http_api.events import EventJson


def delivery(number: int) -> DeliveryJson:
    event = EventJson("t", 0, number, None, None, None, None, [], 0)
    return DeliveryJson(event, f"token-{number}", 1, "", 0)


class ScriptedSource:
    """Delivers events 0, 1, … and records what was answered. `errors` are raised by the next pulls."""

    def __init__(self, events: int) -> None:
        self.waiting = [delivery(number) for number in range(events)]
        self.answers: list[tuple[Any, ...]] = []
        self.undelivered: list[str] = []
        self.errors: list[StreamError] = []
        self.ack_errors: list[StreamError] = []
        self.rooms: list[int] = []
        self.extended: list[list[str]] = []
        self.extend_verdict = "done"
        self.ack_verdict = "done"
        self.done_events: set[int] = set()
        self.pulls_left = 0
        """Pulls that were cancelled."""

    async def pull(self, name: str, consumer: str, max_events: int, wait_ms: int) -> Sequence[DeliveryJson]:
        self.rooms.append(max_events)
        if self.errors:
            raise self.errors.pop(0)
        if not self.waiting:
            try:
                await asyncio.sleep(wait_ms / 1000)
            except asyncio.CancelledError:
                self.pulls_left += 1
                raise
        taken, self.waiting = self.waiting[:max_events], self.waiting[max_events:]
        return taken

    async def ack(self, name: str, body: AckJson) -> Sequence[str]:
        if self.ack_errors:
            raise self.ack_errors.pop(0)
        self.answers.append(("ack", *body.tokens))
        return [self.ack_verdict]

    async def nack(self, name: str, body: NackJson) -> Sequence[str]:
        self.answers.append(("nack", *body.tokens, body.delay_ms, body.counts))
        self.undelivered += [] if body.delivered else body.tokens
        return ["done"]

    async def reject(self, name: str, body: RejectJson) -> Sequence[str]:
        self.answers.append(("reject", *body.tokens, body.reason))
        return ["done"]

    async def extend(self, name: str, body: ExtendJson) -> Sequence[str]:
        self.extended.append(list(body.tokens))
        return [self.extend_verdict for _ in body.tokens]

    async def is_done(self, name: str, topic: str, partition: int, offset: int) -> bool:
        return offset in self.done_events


class Bench:
    """A worker over a scripted source, whose jobs return the exit code of `codes` by offset."""

    def __init__(self, events: int, **plan: Any) -> None:
        self.source = ScriptedSource(events)
        self.codes: dict[int, int | OSError] = {}
        self.lines: list[str] = []
        self.release = asyncio.Event()
        self.release.set()
        self.running = self.running_max = 0
        defaults: dict[str, Any] = {"lock_ms": 30_000, "until_empty": True}
        fields: dict[str, Any] = defaults | plan
        self.worker = Worker(
            self.source,
            WorkPlan(subscription="s", consumer="w", **fields),
            self._job,
            self.lines.append,
        )

    async def _job(self, delivery: DeliveryJson) -> int:
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        await asyncio.sleep(0)
        await self.release.wait()
        self.running -= 1
        code = self.codes.get(delivery.event.offset, 0)
        if isinstance(code, OSError):
            raise code
        return code

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LAST_PULL_WAIT_MS", 20)
    monkeypatch.setattr(worker_module, "RETRY_S_FIRST", 0.01)


def test_each_exit_code_settles_its_event() -> None:
    async def run() -> None:
        bench = Bench(6, retry_delay_ms=5_000)
        bench.codes = {1: 65, 2: 75, 3: 1, 4: -9, 5: OSError("no memory")}
        await bench.worker.run()
        assert bench.source.answers == [
            ("ack", "token-0"),
            ("reject", "token-1", "w: exit code 65"),
            ("nack", "token-2", 5_000, True),
            ("nack", "token-3", None, True),
            ("nack", "token-4", None, True),
            ("nack", "token-5", None, True),
        ]
        assert bench.lines == [
            "t/0/1 (attempt 1): exit code 65, rejected",
            "t/0/2 (attempt 1): exit code 75, failed",
            "t/0/3 (attempt 1): exit code 1, failed",
            "t/0/4 (attempt 1): signal 9, failed",
            "t/0/5 (attempt 1): the command cannot be started: no memory; failed",
        ]
        counts = bench.worker.counts
        assert (counts.acknowledged, counts.failed, counts.rejected, counts.given_back) == (1, 4, 1, 0)

    asyncio.run(run())


def test_it_has_no_more_events_than_jobs() -> None:
    async def run() -> None:
        bench = Bench(20, jobs=3)
        await bench.worker.run()
        assert bench.running_max == 3
        assert max(bench.source.rooms) == 3
        assert len(bench.source.answers) == 20

    asyncio.run(run())


def test_it_ends_after_the_count() -> None:
    async def run() -> None:
        bench = Bench(20, jobs=4, count=6, until_empty=False)
        await bench.worker.run()
        assert (bench.worker.counts.acknowledged, len(bench.source.waiting)) == (6, 14)

    asyncio.run(run())


def test_a_stop_waits_for_the_jobs_and_leaves_the_pull() -> None:
    async def run() -> None:
        bench = Bench(1, jobs=2, until_empty=False)
        bench.release.clear()
        working = asyncio.ensure_future(bench.worker.run())
        await bench.until(lambda: bench.running == 1 and len(bench.source.rooms) == 2)
        bench.worker.stop()
        await bench.until(lambda: bench.source.pulls_left == 1)
        assert not working.done()
        bench.release.set()
        await working
        assert bench.source.answers == [("ack", "token-0")]

    asyncio.run(run())


def test_what_arrives_while_it_stops_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        bench = Bench(1, until_empty=False)
        pull = bench.source.pull

        async def pull_and_stop(*arguments: Any) -> Sequence[DeliveryJson]:
            deliveries = await pull(*arguments)
            bench.worker.stop()
            return deliveries

        monkeypatch.setattr(bench.source, "pull", pull_and_stop)
        await bench.worker.run()
        assert bench.source.answers == [("nack", "token-0", None, False)]
        assert (bench.worker.counts.given_back, bench.running_max) == (1, 0)
        assert len(bench.source.undelivered) == 1, "there was no command, and so no attempt"

    asyncio.run(run())


def test_jobs_that_an_abort_ends_are_no_failures() -> None:
    async def run() -> None:
        bench = Bench(2, jobs=2, until_empty=False)
        bench.codes = {0: -15}
        bench.release.clear()
        working = asyncio.ensure_future(bench.worker.run())
        await bench.until(lambda: bench.running == 2)
        bench.worker.abort()
        bench.release.set()
        await working
        assert sorted(bench.source.answers) == [("ack", "token-1"), ("nack", "token-0", None, False)]

    asyncio.run(run())


def test_leases_are_extended_while_jobs_run() -> None:
    async def run() -> None:
        bench = Bench(2, jobs=2, lock_ms=60)
        bench.release.clear()
        working = asyncio.ensure_future(bench.worker.run())
        await bench.until(lambda: len(bench.source.extended) >= 3)
        assert sorted(bench.source.extended[-1]) == ["token-0", "token-1"]
        bench.source.extend_verdict = "stale"
        await bench.until(lambda: len(bench.lines) == 2)
        count = len(bench.source.extended)
        await asyncio.sleep(0.1)
        assert len(bench.source.extended) == count
        bench.source.ack_verdict = "stale"
        bench.release.set()
        await working
        assert bench.lines[0] == "t/0/0: its lease is over, and it may be delivered again"
        assert "t/0/0 (attempt 1): done, but its lease was over, and it may be delivered again" in bench.lines
        assert bench.worker.counts.acknowledged == 0

    asyncio.run(run())


def test_a_server_that_does_not_respond_is_waited_for() -> None:
    async def run() -> None:
        bench = Bench(2)
        bench.source.errors = [NotReachable("gone"), NotReachable("gone")]
        bench.source.ack_errors = [NotReachable("away")]
        await bench.worker.run()
        assert bench.source.answers == [("ack", "token-0"), ("ack", "token-1")]
        assert bench.lines == [
            "gone; trying again",
            "the server responds again",
            "away; trying again",
            "the server responds again",
        ]

    asyncio.run(run())


def test_a_stopping_worker_gives_up_on_a_server_that_does_not_respond() -> None:
    async def run() -> None:
        bench = Bench(1, until_empty=False, lock_ms=1)
        bench.release.clear()
        bench.source.ack_errors = [NotReachable("gone")] * 9
        working = asyncio.ensure_future(bench.worker.run())
        await bench.until(lambda: bench.running == 1)
        bench.worker.stop()
        bench.release.set()
        with pytest.raises(NotReachable, match="gone"):
            await working
        assert len(bench.source.ack_errors) == 6

    asyncio.run(run())


def test_a_stopping_worker_tries_to_settle_while_the_lock_lasts() -> None:
    async def run() -> None:
        bench = Bench(1, until_empty=False)
        bench.release.clear()
        bench.source.ack_errors = [NotReachable("gone")] * 5
        working = asyncio.ensure_future(bench.worker.run())
        await bench.until(lambda: bench.running == 1)
        bench.worker.stop()
        bench.release.set()
        await working
        assert bench.worker.counts.acknowledged == 1

    asyncio.run(run())


def test_an_answer_that_was_recorded_and_not_returned_is_counted() -> None:
    async def run() -> None:
        bench = Bench(2)
        bench.source.ack_errors = [NotReachable("killed")]
        bench.source.ack_verdict = "stale"
        bench.source.done_events = {0}
        await bench.worker.run()
        assert bench.worker.counts.acknowledged == 1
        over = "done, but its lease was over, and it may be delivered again"
        assert [line for line in bench.lines if over in line] == [f"t/0/1 (attempt 1): {over}"]

    asyncio.run(run())


def test_a_job_that_runs_is_not_run_again_but_has_the_new_lease() -> None:
    async def run() -> None:
        bench = Bench(1, jobs=2, lock_ms=60)
        bench.release.clear()
        working = asyncio.ensure_future(bench.worker.run())
        await bench.until(lambda: bench.running == 1)
        bench.source.extend_verdict = "stale"
        await bench.until(lambda: len(bench.lines) == 1)
        again = delivery(0)
        again.token = "token-of-the-restarted-server"
        bench.source.waiting.append(again)
        await bench.until(lambda: bench.source.waiting == [])
        bench.source.extend_verdict = "done"
        await bench.until(lambda: bench.source.extended[-1] == [again.token])
        bench.worker.stop()
        bench.release.set()
        await working
        assert (bench.running_max, bench.worker.counts.acknowledged) == (1, 1)
        assert bench.source.answers == [("ack", again.token)]

    asyncio.run(run())


def test_a_job_whose_acknowledgement_was_lost_is_acknowledged_without_another_run() -> None:
    async def run() -> None:
        bench = Bench(1)
        runs = 0
        job = bench.worker._run_job

        async def counted(delivered: DeliveryJson) -> int:
            nonlocal runs
            runs += 1
            bench.source.waiting.append(delivery(0))
            return await job(delivered)

        bench.worker._run_job = counted
        bench.source.ack_errors = [NotReachable("killed")]
        verdicts = iter(["stale", "done"])
        ack = bench.source.ack

        async def answer(name: str, body: AckJson) -> Sequence[str]:
            await ack(name, body)
            return [next(verdicts)]

        bench.source.ack = answer  # type: ignore[method-assign]
        await bench.worker.run()
        assert (runs, bench.worker.counts.acknowledged) == (1, 1)

    asyncio.run(run())


def test_a_refusal_ends_the_worker_when_its_jobs_have_ended() -> None:
    async def run() -> None:
        bench = Bench(3, jobs=3, until_empty=False)
        bench.source.ack_errors = [InvalidArgument("no")]
        with pytest.raises(InvalidArgument, match="no"):
            await bench.worker.run()
        assert sorted(bench.source.answers) == [("ack", "token-1"), ("ack", "token-2")]
        bench = Bench(0, until_empty=False)
        bench.source.errors = [StreamError("deleted")]
        with pytest.raises(StreamError, match="deleted"):
            await bench.worker.run()

    asyncio.run(run())

"""Calls that cross over to a node's thread: results, errors and cancellation, and an end within a bounded
time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from mainstem.api.node_thread import NodeThread
from mainstem.contract import NotReachable, UnknownTopic


@pytest.fixture
def thread() -> Iterator[NodeThread]:
    running = NodeThread("test", asyncio.new_event_loop)
    yield running
    running.stop(5.0)


def test_the_work_runs_in_the_thread_and_its_result_comes_back(thread: NodeThread) -> None:
    async def work() -> str:
        return threading.current_thread().name

    async def nested() -> str:
        return await thread.call(work)  # of the thread itself: no crossing

    async def main() -> None:
        assert await thread.call(work) == "test"
        assert await thread.call(nested) == "test"

    asyncio.run(main())
    assert thread.call_now(work) == "test"


def test_errors_come_back_with_their_type(thread: NodeThread) -> None:
    async def fail() -> None:
        raise UnknownTopic("topic a: there is no such topic")

    with pytest.raises(UnknownTopic, match="topic a"):
        asyncio.run(thread.call(fail))
    with pytest.raises(UnknownTopic, match="topic a"):
        thread.call_now(fail)


def test_cancelling_a_call_cancels_its_work_and_waits_for_it(thread: NodeThread) -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            seen.append("began")
            await asyncio.sleep(60)
        finally:
            seen.append("ended")

    async def main() -> None:
        call = asyncio.create_task(thread.call(work))
        while not seen:
            await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert seen == ["began", "ended"]

    asyncio.run(main())


def test_the_result_of_a_cancelled_call_is_handed_to_on_lost(thread: NodeThread) -> None:
    began, may_end = threading.Event(), threading.Event()
    lost: list[int] = []

    async def work() -> int:
        began.set()
        may_end.wait(10)  # blocks the thread: the work ends before it can be cancelled
        return 7

    async def main() -> None:
        call = asyncio.create_task(thread.call(work, lost.append))
        await asyncio.to_thread(began.wait)
        call.cancel()
        await asyncio.sleep(0)
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    assert lost == [7]


def test_a_call_without_a_loop_has_a_timeout_that_cancels_its_work(thread: NodeThread) -> None:
    ended = threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        thread.call_now(work, 0.01)
    assert ended.wait(10)

    async def wait_for_itself() -> None:
        thread.call_now(work)

    with pytest.raises(RuntimeError, match="cannot wait for itself"):
        thread.call_now(wait_for_itself)


def test_many_calls_of_several_loops_at_once(thread: NodeThread) -> None:
    async def add(number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    async def main() -> None:
        results = await asyncio.gather(*(thread.call(lambda number=i: add(number)) for i in range(200)))  # type: ignore[misc]
        assert results == [i + 1 for i in range(200)]

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(4)]
    for caller in threads:
        caller.start()
    for caller in threads:
        caller.join()
    assert not thread.crossings


def test_calls_in_progress_and_later_ones_end_with_not_reachable_when_the_thread_stops() -> None:
    thread = NodeThread("test", asyncio.new_event_loop)

    async def work() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        call = asyncio.create_task(thread.call(work))
        while not thread.crossings:
            await asyncio.sleep(0.001)
        assert await asyncio.to_thread(thread.stop, 5.0) == []
        with pytest.raises(NotReachable, match="was closed"):
            await call
        with pytest.raises(NotReachable, match="was closed"):
            await thread.call(work)

    asyncio.run(main())
    with pytest.raises(NotReachable, match="was closed"):
        thread.call_now(work)
    assert thread.stop(5.0) == []


def test_a_stop_says_what_does_not_end_and_does_not_wait_for_it() -> None:
    thread = NodeThread("test", asyncio.new_event_loop)
    over = threading.Event()

    async def stubborn_work() -> None:
        while not over.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                continue

    async def start() -> None:
        task = asyncio.create_task(stubborn_work())
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        thread.stubborn = task  # type: ignore[attr-defined]

    thread.call_now(start)
    (stack,) = thread.stop(0.05)
    assert "stubborn_work" in stack
    over.set()


def test_a_caller_whose_loop_is_closed_does_no_harm(thread: NodeThread) -> None:
    may_end = threading.Event()

    async def work() -> int:
        while not may_end.is_set():
            await asyncio.sleep(0.001)
        return 1

    loop = asyncio.new_event_loop()
    call = loop.create_task(thread.call(work))
    loop.run_until_complete(asyncio.sleep(0.01))
    call._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    may_end.set()

    async def nothing() -> None: ...

    thread.call_now(nothing)
    del call

"""The stream without await: the same words, a thread of its own, and Ctrl-C."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import msgspec
import pytest

import mainstem
from mainstem.api.blocking import LoopThread
from mainstem.api.requests import Replies


class Parcel(msgspec.Struct, frozen=True):
    """What the topics of these tests have."""

    id: int


@pytest.fixture(scope="module")
def blocking() -> Iterator[mainstem.BlockingStream]:
    with mainstem.open(":memory:").sync as stream:
        yield stream


def test_publish_read_and_last(blocking: mainstem.BlockingStream) -> None:
    position = blocking.publish("sync-plain", {"id": 1}, key="ann", headers={"a": "b"})
    assert (position.topic, position.offset) == ("sync-plain", 0)
    assert (
        blocking.publish_many("sync-plain", [{"id": 2}, {"id": 3}], key=lambda value: str(value["id"])) == 2
    )
    events = list(blocking.read("sync-plain"))
    assert [(event.key, event.value["id"]) for event in events] == [("ann", 1), ("2", 2), ("3", 3)]
    assert [event.value["id"] for event in blocking.last("sync-plain", 2)] == [2, 3]
    assert [event.value["id"] for event in blocking.read("sync-plain", where="id:2")] == [2]
    assert [hit.value["id"] for hit in blocking.search("id:2", topics=["sync-plain"])] == [2]


def test_topics_with_a_model(blocking: mainstem.BlockingStream) -> None:
    parcels = blocking.topic("sync-model", Parcel, key=lambda parcel: str(parcel.id))
    parcels.publish(Parcel(1))
    parcels.publish_many([Parcel(2), Parcel(3)])
    assert [event.value for event in parcels.read()] == [Parcel(1), Parcel(2), Parcel(3)]
    assert parcels.last()[0].value == Parcel(3)
    with pytest.raises(mainstem.RequestTimeout):
        parcels.request(Parcel(4), Parcel, timeout=0.05)


def test_iteration_may_end_before_the_events_do(blocking: mainstem.BlockingStream) -> None:
    blocking.publish_many("sync-part", range(1_500))
    reading = blocking.read("sync-part", follow=True)
    assert [next(reading).value for _ in range(3)] == [0, 1, 2]
    reading.close()
    for event in blocking.read("sync-part"):
        assert event.value == 0
        break


def test_errors_come_through(blocking: mainstem.BlockingStream) -> None:
    with pytest.raises(mainstem.UnknownTopic):
        list(blocking.read("sync-none"))
    with pytest.raises(mainstem.InvalidArgument, match="query: "):
        list(blocking.search("a:("))
    with pytest.raises(mainstem.NoSuchSubscription):
        blocking.redrive("sync-none", group="g", dry_run=True)


def test_outside_of_with_there_is_an_error() -> None:
    before = threading.active_count()
    stream = mainstem.open(":memory:").sync
    with pytest.raises(RuntimeError, match=r"inside `with stream\.sync as s:`"):
        stream.publish("a", 1)
    with stream:
        stream.publish("a", 1)
        reading = stream.read("a", follow=True)
        next(reading)
    with pytest.raises(RuntimeError):
        stream.last("a")
    reading.close()  # after the stream: there is nothing left to end
    assert threading.active_count() <= before


def test_a_failed_connection_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(mainstem.NotReachable), mainstem.connect("127.0.0.1:1").sync:
        raise AssertionError
    assert threading.active_count() <= before


def test_several_threads_share_a_stream(blocking: mainstem.BlockingStream) -> None:
    threads = [
        threading.Thread(target=lambda number=number: blocking.publish("sync-threads", number))
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(event.value for event in blocking.read("sync-threads")) == list(range(20))


PROGRAM = """
import mainstem
with mainstem.open(":memory:").sync as stream:
    stream.publish("a", 1)
    for event in stream.read("a", follow=True):
        print("ready", flush=True)
"""


def test_ctrl_c_ends_a_program_that_waits() -> None:
    """The wait is for an event that never comes; the log is closed before the program ends."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        os.kill(child.pid, signal.SIGINT)
        _, errors = child.communicate(timeout=20)
    assert errors.decode().strip().splitlines()[-1] == "KeyboardInterrupt", errors.decode()
    assert child.returncode == -signal.SIGINT


@pytest.mark.parametrize("had_it", [True, False], ids=["the loop has it", "the loop has it not"])
def test_an_interrupt_while_a_call_is_handed_to_the_loop_ends_the_call(
    monkeypatch: pytest.MonkeyPatch, had_it: bool
) -> None:
    thread = LoopThread()
    thread.start()
    loop = thread._loop
    assert loop is not None
    hand_over = loop.call_soon_threadsafe

    def interrupted(start: Callable[[], object]) -> None:
        monkeypatch.undo()
        if had_it:
            hand_over(start)
        raise KeyboardInterrupt

    async def endless() -> None:
        await asyncio.Event().wait()

    work = endless()
    try:
        monkeypatch.setattr(loop, "call_soon_threadsafe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            thread.call(work)
        assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED
    finally:
        thread.stop()


def test_a_reply_is_waited_for(blocking: mainstem.BlockingStream) -> None:
    """Replies are sent as a subscriber does it, by another thread."""
    blocking.publish("sync-requests", Parcel(0))
    engine = blocking.backend.engine

    def answer() -> None:
        for event in blocking.read("sync-requests", follow=True):
            if event.headers:
                blocking.call(Replies(engine).send_reply(event.raw, {"id": event.value["id"] + 1}))
                return

    thread = threading.Thread(target=answer)
    thread.start()
    assert blocking.topic("sync-requests", Parcel).request(Parcel(5), Parcel) == Parcel(6)
    thread.join()


FORKING = """
import os, mainstem
with mainstem.open(":memory:").sync as stream:
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        print(stream.publish("a", 1).offset, flush=True)
    else:
        try: stream.publish("a", 1)
        except mainstem.NotReachable as error: print(error, flush=True)
if not child:
    with mainstem.open(":memory:").sync as own:
        print(own.publish("a", 1).offset, flush=True)
"""


@pytest.mark.slow
def test_a_process_that_was_forked_since_has_to_open_its_own() -> None:
    """The child leaves the stream of its parent as it is."""
    text = subprocess.check_output([sys.executable, "-W", "ignore", "-c", FORKING], text=True, timeout=60)
    refused, *offsets = text.splitlines()
    assert "was opened before it was forked; open it in the new process" in refused
    assert offsets == ["0", "0"]

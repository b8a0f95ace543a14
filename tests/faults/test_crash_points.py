"""One script of all that changes the disk, cut off or failing at each of its calls, on the simulated disk.

The script: a topic, events, a roll, positions, producer ids, a snapshot of the coordinator, a checkpoint,
retention, a deletion, and the topic anew. What was acknowledged is judged after the next start, by the same
rules as the random lives of a node (tests/coordinator/test_crashes.py), which also make a crash in the middle
of that start now and then.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from typing import Literal
from unittest import mock

import pytest

from tests.coordinator.seeds import small
from tests.coordinator.test_crashes import CoordinatorRun
from tests.support.simdisk import PowerCut, SimDisk

EVERY = 10
"""The default suite takes each tenth call, from another first one for each fault; the slow suite takes
all."""
SEED = 4


class CrashScript(CoordinatorRun):
    """One run of a fixed script, with a fault at one of its disk calls."""

    def play(self) -> None:
        """Run the whole script, unless a fault ends it."""
        for act in (
            *(self.create, self.wait, self.append, self.append, self.commit, self.producer, self.configure),
            *(self.append, self.wait, self.append, self.checkpoint, self.append, self.snapshot, self.wait),
            *(self.commit, self.retention, self.wait, self.delete, self.wait, self.create, self.append),
        ):
            act()
            self.clock.advance(0.03)

    def checkpoint(self) -> None:
        """Make the journal needless for what is committed."""
        self.node.log.checkpoint()

    def retention(self) -> None:
        """Let retention remove everything: all events are too old by now."""
        topic = self.node.topics.get("a")
        if topic is not None:
            self.node.partition(topic, 0).enforce_retention()

    def through(self, fault: Callable[[SimDisk], None], crash: Literal["power", "kill"]) -> int:
        """Run the script with this fault, crash, start, and judge. Returns the number of calls it made."""
        self.disk.make_folder("")
        self.start()
        before = self.disk.calls
        fault(self.disk)
        try:
            self.play()
        except PowerCut:
            pass
        calls = self.disk.calls - before
        self.crash = crash
        self.start()
        self.finish()
        return calls


@pytest.fixture(autouse=True)
def one_small_topic() -> Iterator[None]:
    """Use one topic and small files."""
    logging.disable()
    with small(), mock.patch("tests.coordinator.test_crashes.NAMES", ("a",)):
        yield
    logging.disable(logging.NOTSET)


def sweep(
    fault: Callable[[SimDisk, int], None], crash: Literal["power", "kill"], first: int, every: int
) -> int:
    """The fault at each call of the script; how many runs that was."""
    calls = CrashScript(SEED, "disk").through(lambda _: None, crash)
    assert calls > 60, "the script does too little"
    numbers = range(1 + first % every, calls + 1, every)
    for number in numbers:
        try:
            CrashScript(SEED, "disk").through(lambda disk, number=number: fault(disk, number), crash)  # type: ignore[misc]
        except Exception as error:
            raise AssertionError(f"call {number} of {calls}, {crash}: {error}") from error
    return len(numbers)


def cut(disk: SimDisk, number: int) -> None:
    """All stops before this call."""
    disk.cut_at = disk.calls + number


def failing(code: int, count: int) -> Callable[[SimDisk, int], None]:
    """This call fails, a write after some of its bytes; and those after it, up to `count`."""

    def fault(disk: SimDisk, number: int) -> None:
        disk.fail = dict.fromkeys(range(disk.calls + number, disk.calls + number + count), code)

    return fault


FAULTS = {
    "stops": cut,
    "EIO": failing(errno.EIO, 1),
    "ENOSPC": failing(errno.ENOSPC, 1),
    "three EIO": failing(errno.EIO, 3),
}


@pytest.mark.parametrize("crash", ["power", "kill"])
@pytest.mark.parametrize("name", FAULTS)
def test_any_call_of_the_script_may_be_the_last_or_fail(name: str, crash: Literal["power", "kill"]) -> None:
    first = [*FAULTS].index(name) + (crash == "kill")
    assert sweep(FAULTS[name], crash, first, EVERY)


@pytest.mark.slow
@pytest.mark.parametrize("crash", ["power", "kill"])
@pytest.mark.parametrize("name", FAULTS)
def test_every_call_of_the_script_may_be_the_last_or_fail(name: str, crash: Literal["power", "kill"]) -> None:
    assert sweep(FAULTS[name], crash, 0, 1) > 60

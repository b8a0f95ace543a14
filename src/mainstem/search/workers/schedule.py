"""The order in which the jobs of all searches get workers.

Owns: which job is next, which running job is to pause for it, and the account of what each search has used.
Refuses: processes, pipes and clocks (`pool.py`): time comes in as seconds that a job has used.

A search whose jobs have used less than INTERACTIVE_S is interactive, whatever it is: a user waits for the
first matches of a wide scan as for those of a rare word. Beyond that it is long. Interactive searches come
first; but while long ones wait, these get LONG_SHARE of the time. Searches of a kind share the workers
equally, by weighted fair queueing with equal weights: a search has a virtual time, which rises with what it
uses, and the least is next. A newcomer begins at the virtual time of its kind, which rises as that of a
search with exactly its share would; so neither newcomers nor old searches starve. The jobs of one search keep
their order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Job = TypeVar("Job")

INTERACTIVE_S = 0.5
"""Seconds of workers that a search uses before it is long."""
LONG_SHARE = 0.25
"""The least share of the workers' time for long searches while they wait."""
LONG_TURN_S = 0.25
"""Long searches get what is due to them in turns of about this many seconds."""
PAUSE_MARGIN_S = 0.05
"""An interactive job pauses for a search that has used less by this many seconds."""


@dataclass(slots=True, eq=False)
class JobGroup(Generic[Job]):
    """The jobs of one search, and the time that they have used."""

    used_s: float = 0.0
    virtual_s: float = 0.0
    """See above; only meaningful in comparison with other searches of the kind."""
    waiting: deque[Job] = field(default_factory=deque)
    running: int = 0
    """Number of jobs that have a worker."""

    @property
    def is_interactive(self) -> bool:
        """Whether the search has used so little that it comes before long ones."""
        return self.used_s < INTERACTIVE_S


class _FairQueue(Generic[Job]):
    """The searches of one kind that have jobs, waiting or running."""

    def __init__(self) -> None:
        self.groups: list[JobGroup[Job]] = []
        self._virtual_s = 0.0

    @property
    def waits(self) -> bool:
        """Whether a job waits."""
        return any(group.waiting for group in self.groups)

    def update(self, group: JobGroup[Job]) -> None:
        """Let the group in if it has jobs and is new, and out if it has none."""
        is_here, has_jobs = group in self.groups, bool(group.waiting or group.running)
        if has_jobs and not is_here:
            group.virtual_s = max(group.virtual_s, self._virtual_s)
            self.groups.append(group)
        elif is_here and not has_jobs:
            self.groups.remove(group)

    def charge(self, group: JobGroup[Job], used_s: float) -> None:
        group.virtual_s += used_s
        self._virtual_s += used_s / max(1, len(self.groups))

    def first(self) -> JobGroup[Job]:
        """The group whose job is next: that with the least virtual time."""
        return min((group for group in self.groups if group.waiting), key=lambda group: group.virtual_s)

    def pop(self) -> Job:
        group = self.first()
        group.running += 1
        # Behind its equals, if several workers are free.
        self.groups.remove(group)
        self.groups.append(group)
        return group.waiting.popleft()


class Schedule(Generic[Job]):
    """The waiting jobs of all searches, and their order."""

    def __init__(self) -> None:
        self._interactive: _FairQueue[Job] = _FairQueue()
        self._long: _FairQueue[Job] = _FairQueue()
        self._due_to_long_s = 0.0

    def __len__(self) -> int:
        return sum(len(group.waiting) for group in self._interactive.groups + self._long.groups)

    def add(self, job: Job, group: JobGroup[Job], *, first: bool = False) -> None:
        """Let a job wait: as the last of its group, or as the first, to go on after a pause."""
        if first:
            group.waiting.appendleft(job)
        else:
            group.waiting.append(job)
        self._queue_of(group).update(group)

    def remove(self, job: Job, group: JobGroup[Job]) -> None:
        """Remove a job that is waiting."""
        group.waiting.remove(job)
        self._queue_of(group).update(group)

    def pop(self) -> Job:
        """Take the next job, which gets a worker now; `release` it afterwards. One must be waiting."""
        if self._interactive.waits and not self._is_turn_of_long():
            return self._interactive.pop()
        return self._long.pop()

    def release(self, group: JobGroup[Job], used_s: float) -> None:
        """Account for the seconds that a job of the group has had a worker, which it has no longer."""
        group.running -= 1
        assert group.running >= 0, "a job has a worker once"
        queue = self._queue_of(group)
        if queue is self._long:
            self._due_to_long_s = max(0.0, self._due_to_long_s - used_s)
        elif self._long.waits:
            self._due_to_long_s += used_s * LONG_SHARE / (1 - LONG_SHARE)
        queue.charge(group, used_s)
        group.used_s += used_s
        if queue is not self._queue_of(group):
            queue.groups.remove(group)
            queue, group.virtual_s = self._long, 0.0  # the kinds have virtual times of their own
        queue.update(group)

    def _is_turn_of_long(self) -> bool:
        return self._due_to_long_s >= LONG_TURN_S and self._long.waits

    def to_pause(self, running: Iterable[tuple[Job, JobGroup[Job], float]]) -> Job | None:
        """The running job that is to pause for the next one. None: none is. `running`: jobs, their groups,
        and the seconds since they got their workers."""
        if not self._interactive.waits or self._is_turn_of_long():
            return None
        first = self._interactive.first()
        candidates = [
            (not group.is_interactive, group.virtual_s + ran_s, ran_s, job)
            for job, group, ran_s in running
            if group is not first
        ]
        if not candidates:
            return None
        is_long, virtual_s, _, job = max(candidates, key=lambda candidate: candidate[:3])
        return job if is_long or virtual_s > first.virtual_s + PAUSE_MARGIN_S else None

    def drain(self) -> list[Job]:
        """Take all waiting jobs. They get no worker."""
        jobs: list[Job] = []
        for group in self._interactive.groups + self._long.groups:
            jobs += group.waiting
            group.waiting.clear()
            self._queue_of(group).update(group)
        return jobs

    def _queue_of(self, group: JobGroup[Job]) -> _FairQueue[Job]:
        return self._interactive if group.is_interactive else self._long

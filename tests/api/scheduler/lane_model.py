"""A log, a group's commits, and a subscriber that runs, crashes and comes back, for tests of the pure part.

It checks after each step what the scheduler promises: no two events of a key at once, the order in each key,
commits that never pass an event that is not done, and after a crash no more repeats than allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mainstem.api.scheduler.key_lanes import KeyLanes, LaneEvent
from mainstem.api.scheduler.notes import CommitNotes, decode_notes, encode_notes
from mainstem.api.scheduler.partition_ledger import DEATHS_MAX, LedgerCommit, PartitionLedger
from mainstem.contract import Event

KEY = ("orders", 0)


def events_of(keys: Sequence[bytes | None], offset_step: int = 1) -> list[Event]:
    return [
        Event(*KEY, index * offset_step, 1_000 + index, key, b"%d" % index) for index, key in enumerate(keys)
    ]


@dataclass
class LaneModel:
    """One partition, and the processes that have it one after another."""

    log: list[Event]
    workers: int = 4
    now_ms: int = 1_000_000
    committed: tuple[int | None, str] = (None, "")
    done: set[int] = field(default_factory=set)
    given_up: set[int] = field(default_factory=set)
    runs: dict[int, int] = field(default_factory=dict)
    """Offset -> how often a handler was called for it."""
    may_repeat: set[int] = field(default_factory=set)
    """Done, and not in a commit that is durable."""
    killers: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A process is assigned the partition."""
        position, text = self.committed
        notes = None if position is None else decode_notes(text, position)
        if notes is not None:
            self._check_done(position or 0, notes)
        self.ledger = PartitionLedger(KEY, position, notes)
        self.lanes = KeyLanes()
        self.next_index = next(
            (index for index, event in enumerate(self.log) if event.offset >= (position or 0)), len(self.log)
        )
        self.running: list[LaneEvent] = []
        self.pending: list[LedgerCommit] = []

    # --- steps ----------------------------------------------------------------------------------------------

    def read(self, count: int) -> None:
        batch = self.log[self.next_index : self.next_index + count]
        self.next_index += len(batch)
        self.lanes.add(batch, self.ledger, lambda lane_event: None)

    def take(self) -> LaneEvent | None:
        if len(self.running) >= self.workers:
            return None
        taken = self.lanes.take(self.now_ms)
        if taken is None:
            return None
        keys = [running.key for running in self.running if running.key is not None]
        assert taken.key not in keys, "events of a key overlap"
        if taken.key is not None:
            earlier = {
                event.offset for event in self.log if event.key == taken.key and event.offset < taken.offset
            }
            assert earlier <= self.done, "an event passed one of its key"
        if taken.offset in self.done:
            assert taken.offset in self.may_repeat, "an event was repeated that a commit says is done"
        if taken.deaths >= DEATHS_MAX:
            self.given_up.add(taken.offset)
            self._end(taken)
            return taken
        self.runs[taken.offset] = self.runs.get(taken.offset, 0) + 1
        self.running.append(taken)
        if taken.offset in self.killers:
            self.crash()
        return taken

    def finish(self, index: int) -> None:
        if self.running:
            self._end(self.running.pop(index % len(self.running)))

    def _end(self, lane_event: LaneEvent) -> None:
        self.lanes.finish(lane_event)
        self.done.add(lane_event.offset)
        self.may_repeat.add(lane_event.offset)

    def fail(self, index: int, delay_ms: int) -> None:
        if self.running:
            self.lanes.retry(self.running.pop(index % len(self.running)), self.now_ms + delay_ms)

    def commit(self, *, stops: bool = False) -> None:
        commit = self.ledger.commit(stops=stops)
        if commit is not None:
            self._check_done(commit.position.offset, commit.notes)
            if not stops:
                assert {running.offset for running in self.running} <= set(commit.notes.suspects)
            self.pending.append(commit)

    def acknowledge(self) -> None:
        if self.pending:
            commit = self.pending.pop(0)
            self._store(commit)
            self.ledger.acknowledged(commit)
            self.lanes.unpark()

    def settle(self) -> None:
        """A commit that is durable at once."""
        self.commit()
        while self.pending:
            self.acknowledge()

    def _store(self, commit: LedgerCommit) -> None:
        self.committed = commit.position.offset, encode_notes(commit.notes)
        said = {
            offset
            for offset in self.may_repeat
            if offset < commit.position.offset
            or any(begin <= offset < end for begin, end in commit.notes.done)
        }
        self.may_repeat -= said

    def crash(self, *, last_commit_arrives: bool = False) -> None:
        if last_commit_arrives and self.pending:
            self._store(self.pending[-1])
        self.begin()

    def stop(self) -> None:
        """Events in flight end, and the last commit says that nothing runs."""
        while self.running:
            self.finish(0)
        self.pending.clear()
        self.commit(stops=True)
        if self.pending:
            self._store(self.pending[-1])
        self.begin()

    def run_to_end(self, rounds_max: int = 100_000) -> None:
        for _ in range(rounds_max):
            if self.next_index >= len(self.log) and not self.ledger.open:
                return
            if not self.ledger.is_full:
                self.read(50)
            while self.take() is not None:
                pass
            while self.running:
                self.finish(0)
            self.now_ms += 10
            self.settle()
        raise AssertionError(f"events stay open: {sorted(self.ledger.open)[:10]}")

    def _check_done(self, position: int, notes: CommitNotes) -> None:
        for event in self.log:
            if event.offset < position or any(begin <= event.offset < end for begin, end in notes.done):
                assert event.offset in self.done, f"{event.offset} is not done, and the commit says so"

"""The books of one partition: which events are open, which may start, and what a commit says of it.

An event is *open* from when it was read until it is done. The *frontier* is the first offset that is open, or
the end of what was read: the position to commit. Everything between the frontier and that end which is not
open is done, and is in the notes of the commit, so that it is not repeated after a crash.

Owns: the frontier, the notes, the bounds of a partition, and which event is suspected of killing the process.
Refuses: keys and time, which `key_lanes` and `cluster_work` have.

**What may start.** Only an event of which the notes could say that it is done: those within
BITMAP_OFFSETS_MAX offsets from the frontier always, and others while the ranges have room. And none before a
commit is acknowledged that says that events are running: else a death would look like a stop.

**An event that kills the process.** If the notes say that events are running, their owner has died. The
events that they list were in flight; they are *suspects*, and each runs alone, after a commit that counts the
death that there would be. The event that is listed with DEATHS_MAX deaths is given up. The first death may
come before any commit lists the event. So after a death a partition is *watched*: no event starts before a
commit says how far events may be started, and at the next death all of these are suspects with a single
death, for most of them are innocent: only deaths of an event that runs alone are surely its own, and two of
them are needed. A process that is killed from outside again and again would give up one event each time.
"""

from __future__ import annotations

from typing import NamedTuple

from mainstem.api.scheduler.notes import (
    BITMAP_OFFSETS_MAX,
    DONE_BYTES_MAX,
    RANGE_BYTES_MAX,
    SUSPECTS_MAX,
    CommitNotes,
    OffsetRange,
    encoded_ranges,
)
from mainstem.contract import Position, TopicPartition

OPEN_EVENTS_MAX = 10_000
READ_EVENTS_MAX = 1_000
"""Events of one read; a partition is full while there would be no room for them."""
OPEN_BYTES_MAX = 64 << 20
"""Beyond them a partition is full. The last read may exceed them."""
DEATHS_MAX = 3
WATCHED_EVENTS = 1_000
"""A watched partition starts this many offsets beyond what it has started before the next commit."""
RECOUNT_EVENTS = 32
UNBOUNDED = 1 << 63


class PartitionLedger:
    """The books of a partition that is assigned. Offsets are given in their order."""

    __slots__ = (
        "_alone",
        "_done_ranges",
        "_finished_since",
        "_granted_end",
        "_inherited_end",
        "_is_begun",
        "_range_bytes",
        "_read_end",
        "_started_end",
        "_suspects",
        "_suspects_end",
        "in_flight",
        "is_changed",
        "is_closed",
        "is_watched",
        "key",
        "open",
        "open_bytes",
        "start_end",
        "wants_commit",
    )

    def __init__(self, key: TopicPartition, position: int | None, notes: CommitNotes | None) -> None:
        assert notes is None or notes.position == position
        self.key = key
        self._read_end = -1 if position is None else position
        """After the last event that was read; -1: not known yet."""
        self._is_begun = False
        """An event was read."""
        self.open: dict[int, int] = {}
        """Offset -> bytes, of what was read and is not done."""
        self.open_bytes = 0
        self.in_flight: dict[int, int] = {}
        """Offset -> how often the process has died with the event in flight, if it dies now."""
        self._done_ranges: list[OffsetRange] = list(notes.done) if notes else []
        """Done before this process got the partition, and not read again yet; the next one is last."""
        self._done_ranges.reverse()
        self._inherited_end = notes.done[-1][1] if notes and notes.done else 0
        self._suspects: dict[int, int] = dict(notes.suspects) if notes else {}
        self._suspects_end = notes.suspects_end if notes else 0
        died = notes is not None and notes.is_running
        if notes is not None and died:
            self._suspects_end = max(notes.started_end, notes.suspects_end)
        self.is_watched = died or bool(self._suspects)
        self._granted_end = 0
        """No event from this offset on may start: the notes of an acknowledged commit say so."""
        self.start_end = 0
        """Any event before this offset may start, unless it is a suspect. For the others `may_start` looks
        closer."""
        self._started_end = 0
        self._alone: int | None = None
        """A suspect whose next death is to be counted before it starts."""
        self._range_bytes = 0
        self._finished_since = 0
        """Events that were finished since `_range_bytes` was counted."""
        self.is_closed = False
        """No further event starts: the partition is given up."""
        self.is_changed = True
        """There is something to commit."""
        self.wants_commit = False
        """Events wait for a commit."""

    # --- what is read and done ----------------------------------------------------------------------------

    @property
    def frontier(self) -> int | None:
        """The position to commit; None: not known before the first event."""
        if self.open:
            return next(iter(self.open))
        return None if self._read_end < 0 else self._read_end

    @property
    def read_end(self) -> int:
        """The offset after the last event that was read; -1: not known yet."""
        return self._read_end

    @property
    def is_full(self) -> bool:
        """Whether no more is to be read until events are done."""
        return len(self.open) > OPEN_EVENTS_MAX - READ_EVENTS_MAX or self.open_bytes >= OPEN_BYTES_MAX

    @property
    def has_room(self) -> bool:
        """Whether there is room again: half of the bounds."""
        return len(self.open) < OPEN_EVENTS_MAX // 2 and self.open_bytes < OPEN_BYTES_MAX // 2

    def add(self, offset: int, size: int) -> bool:
        """An event was read. False: it is to be left out, for it is done, or was read already."""
        if offset < self._read_end:
            if self._is_begun:
                return False
            # The position is of events that are not there (any more): its notes are, too.
            self._done_ranges = []
            self._suspects, self._suspects_end = {}, 0
        self._is_begun = True
        ranges = self._done_ranges
        self._read_end = offset + 1
        self.is_changed = True
        while ranges and ranges[-1][1] <= offset:
            ranges.pop()
        if ranges and ranges[-1][0] <= offset:
            return False
        self.open[offset] = size
        self.open_bytes += size
        return True

    def finish(self, offset: int) -> None:
        """An event in flight is done: handled, or given up with its dead letter published."""
        del self.in_flight[offset]
        self._suspects.pop(offset, None)
        self.open_bytes -= self.open.pop(offset)
        self._finished_since += 1
        self.is_changed = True

    def give_back(self, offset: int) -> None:
        """An event in flight is to run again later. It has ended without killing the process."""
        del self.in_flight[offset]
        self._suspects.pop(offset, None)
        if offset < self._suspects_end:
            self._suspects[offset] = 0
        self.is_changed = True

    # --- what may start -----------------------------------------------------------------------------------

    def deaths(self, offset: int) -> int:
        """How often the process has died with this event in flight, as far as is known."""
        deaths = self._suspects.get(offset)
        if deaths is not None:
            return deaths
        return 1 if offset < self._suspects_end else 0

    def may_start(self, offset: int) -> bool:
        """Whether an event that is no suspect may start now. If not, perhaps after the next commit."""
        if self.is_closed:
            return False
        if offset >= self._granted_end:
            self.wants_commit = True
            return False
        frontier = self.frontier
        assert frontier is not None
        bitmap_end = frontier + BITMAP_OFFSETS_MAX
        if max(offset + 1, self._started_end, self._inherited_end) <= bitmap_end:
            self.start_end = min(self._granted_end, bitmap_end)
            return True
        self.start_end = 0
        if self._finished_since >= RECOUNT_EVENTS:
            self._count_ranges()
        at_worst = self._finished_since + len(self.in_flight) + 1
        return self._range_bytes + at_worst * RANGE_BYTES_MAX <= DONE_BYTES_MAX

    def may_start_alone(self, offset: int) -> bool:
        """Whether a suspect may start now; if not, after the next commit, which counts it."""
        if self.is_closed:
            return False
        if self._alone == offset and self._granted_end == offset + 1:
            return True
        self._alone = offset
        self.wants_commit = True
        return False

    def close(self) -> None:
        """Start no further event: the partition is given up."""
        self.is_closed, self.start_end = True, 0

    def start(self, offset: int) -> None:
        """An event starts, for which one of the two above was true."""
        self.in_flight[offset] = self.deaths(offset) + 1
        if offset >= self._started_end:
            self._started_end = offset + 1
        if self._alone is not None:
            self._alone = None
            self._granted_end = self.start_end = 0  # what else may start, the next commit says

    # --- commits ------------------------------------------------------------------------------------------

    def _done(self) -> list[OffsetRange]:
        """What is done beyond the frontier, ascending. What is read and not open before the last such
        event."""
        done: list[OffsetRange] = []
        following = -1
        for offset in self.open:
            if 0 <= following < offset:
                done.append((following, offset))
            following = offset + 1
        if self.open and following < self._read_end:
            done.append((following, self._read_end))
        for begin, end in reversed(self._done_ranges):
            begin = max(begin, self._read_end)
            if begin >= end:
                continue
            if done and done[-1][1] == begin:
                done[-1] = (done[-1][0], end)
            else:
                done.append((begin, end))
        return done

    def _count_ranges(self) -> None:
        frontier = self.frontier
        self._range_bytes = 0 if frontier is None else len(encoded_ranges(frontier, self._done()))
        self._finished_since = 0

    def commit(self, *, stops: bool = False) -> LedgerCommit | None:
        """What to commit now; None: nothing was read yet, so that no position is known. `stops`: no event is
        in flight any more, or those that are will be cancelled."""
        frontier = self.frontier
        if frontier is None:
            return None
        self.is_changed = self.wants_commit = False
        suspects = {
            offset: deaths for offset, deaths in self._suspects.items() if deaths and offset >= frontier
        }
        granted_end = 0 if stops else UNBOUNDED
        if not stops:
            suspects.update(self.in_flight)
            if self._alone is not None:
                suspects[self._alone] = self.deaths(self._alone) + 1
                granted_end = self._alone + 1
            elif self.is_watched:
                granted_end = max(frontier, self._started_end) + WATCHED_EVENTS
        if len(suspects) > SUSPECTS_MAX:  # those that were in flight before, and then the first
            suspects = dict(sorted(suspects.items(), key=lambda item: (-item[1], item[0]))[:SUSPECTS_MAX])
        is_watched = not stops and self._alone is None and self.is_watched
        notes = CommitNotes(
            position=frontier,
            is_running=not stops,
            started_end=granted_end if is_watched else 0,
            done=self._done(),
            suspects=dict(sorted(suspects.items())),
            suspects_end=self._suspects_end if self._suspects_end > frontier else 0,
        )
        self._range_bytes = len(encoded_ranges(frontier, notes.done))
        self._finished_since = 0
        return LedgerCommit(Position(*self.key, frontier), notes, self._alone, granted_end)

    def acknowledged(self, commit: LedgerCommit) -> None:
        """A commit is durable. Commits are acknowledged in their order."""
        if commit.alone != self._alone:
            return  # made for another event: that one waits for its own
        self._granted_end, self.start_end = commit.granted_end, 0

    def failed(self) -> None:
        """A commit failed: there is something to commit."""
        self.is_changed = True
        self.wants_commit = True


class LedgerCommit(NamedTuple):
    """What a commit of a partition says, and what may start once it is durable."""

    position: Position
    notes: CommitNotes
    alone: int | None
    granted_end: int

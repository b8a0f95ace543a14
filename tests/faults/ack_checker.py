"""The ack checker: records every promise a server made, and checks after each restart that it kept them.

Owns: the ledger of promises (acknowledged events, events that a consumer was shown, committed offsets) and
the rules by which they are judged. It contains no client and no server: the test that runs them reports what
was sent, what was acknowledged and what is there now. Its own test feeds it every kind of violation. Safe to
use from several threads.

The rules:
- lost: an event was acknowledged, or shown to a consumer, and is not there.
- changed: another event is at an offset that was acknowledged or shown.
- twice: an event is at two offsets although its producer never sent it twice, or is idempotent.
- order: two events of one producer are not in the order in which they were sent.
- invented: an event is there that no producer sent.
- gap: the offsets of a partition do not follow each other one by one.
- back: a committed offset is less than the last one that was acknowledged, or is missing.
- ahead: a committed offset is one that no consumer tried to commit after the last one acknowledged.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

Rule = Literal["lost", "changed", "twice", "order", "invented", "gap", "back", "ahead"]
Partition = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """What identifies an event: its source, its number among the events of that source in this partition, and
    a hash of its payload."""

    source: str
    number: int
    digest: bytes

    @classmethod
    def of(cls, source: str, number: int, payload: bytes) -> LedgerEvent:
        """The event with this payload."""
        return cls(source, number, hashlib.blake2b(payload, digest_size=12).digest())

    def __str__(self) -> str:
        return f"{self.source}#{self.number}"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise."""

    rule: Rule
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule} at {self.where}: {self.what}"


@dataclass(slots=True)
class LedgerPosition:
    """What is known of one group's committed offset in one partition."""

    acknowledged: int = -1
    tried: set[int] = field(default_factory=set)
    """Commits sent since then that got no answer: any of them may be in force."""


@dataclass(slots=True)
class Ledger:
    """All promises of one server's life, over all its deaths.

    `may_repeat`: the sources whose client sends again when it does not know (a plain producer with
    retries): what they sent may be there twice, and a repeated event may be behind a later one.
    """

    may_repeat: frozenset[str] = frozenset()
    _sent: dict[Partition, set[LedgerEvent]] = field(default_factory=dict)
    _promised: dict[Partition, dict[int, LedgerEvent]] = field(default_factory=dict)
    _positions: dict[tuple[str, Partition], LedgerPosition] = field(default_factory=dict)
    _broken: list[Violation] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sent(self, where: Partition, event: LedgerEvent) -> None:
        """Call it before the event is sent: from now on it may be there."""
        with self._lock:
            self._sent.setdefault(where, set()).add(event)

    def acknowledged(self, where: Partition, offset: int, event: LedgerEvent) -> None:
        """The server said: this event is at this offset."""
        self._promise(where, offset, event, "acknowledged")

    def shown(self, where: Partition, offset: int, event: LedgerEvent) -> None:
        """A consumer was given this event at this offset: what was once visible may not go away either."""
        self._promise(where, offset, event, "shown")

    def _promise(self, where: Partition, offset: int, event: LedgerEvent, verb: str) -> None:
        with self._lock:
            before = self._promised.setdefault(where, {}).setdefault(offset, event)
            if before != event:
                text = f"offset {offset} was promised to {before}, now {event} is {verb} there"
                self._broken.append(Violation("changed", partition_name(where), text))

    def committing(self, group: str, where: Partition, offset: int) -> None:
        """Call it before a commit is sent."""
        with self._lock:
            self._positions.setdefault((group, where), LedgerPosition()).tried.add(offset)

    def committed(self, group: str, where: Partition, offset: int) -> None:
        """The server acknowledged this commit; commits of one group to one partition are made one after the
        other."""
        with self._lock:
            position = self._positions.setdefault((group, where), LedgerPosition())
            position.acknowledged = offset
            position.tried.clear()

    @property
    def promises(self) -> int:
        """How many events are promised. A test asserts that there were enough of them to show something."""
        with self._lock:
            return sum(map(len, self._promised.values()))

    def judge(
        self,
        there: Mapping[Partition, Iterable[tuple[int, LedgerEvent]]],
        positions: Mapping[tuple[str, Partition], int] | None = None,
        log_starts: Mapping[Partition, int] | None = None,
    ) -> list[Violation]:
        """Every promise that is broken now; no producer may be at work meanwhile.

        `there`: all events of each partition, as one read from its log start gives them. `positions`: all
        committed offsets that can be fetched. `log_starts`: the log start offsets that retention moved
        (others are 0).
        """
        with self._lock:
            violations = list(self._broken)
            for where in sorted({*there, *self._promised}):
                start = (log_starts or {}).get(where, 0)
                violations += self._judge_partition(where, list(there.get(where, ())), start)
            if positions is not None:
                violations += self._judge_positions(positions)
            return violations

    def _judge_partition(
        self, where: Partition, there: list[tuple[int, LedgerEvent]], log_start: int
    ) -> list[Violation]:
        def broken(rule: Rule, what: str) -> None:
            violations.append(Violation(rule, partition_name(where), what))

        violations: list[Violation] = []
        events = dict(there)
        for offset, event in sorted(self._promised.get(where, {}).items()):
            if offset < log_start:
                continue
            if offset not in events:
                broken("lost", f"{event} was promised at offset {offset}")
            elif events[offset] != event:
                broken("changed", f"{event} was promised at offset {offset}, {events[offset]} is there")
        for (before, _), (offset, _) in pairwise([(log_start - 1, None), *there]):
            if offset != before + 1:
                broken("gap", f"offset {offset} follows {before}")
        violations += self._judge_repeats(where, there)
        violations += self._judge_order(where, there)
        return violations

    def _judge_repeats(self, where: Partition, there: list[tuple[int, LedgerEvent]]) -> list[Violation]:
        violations: list[Violation] = []
        sent = self._sent.get(where, set())
        first: dict[LedgerEvent, int] = {}
        for offset, event in there:
            if event not in sent:
                violations.append(Violation("invented", partition_name(where), f"{event} at offset {offset}"))
            elif event in first and event.source not in self.may_repeat:
                text = f"{event} at offsets {first[event]} and {offset}"
                violations.append(Violation("twice", partition_name(where), text))
            first.setdefault(event, offset)
        return violations

    def _judge_order(self, where: Partition, there: list[tuple[int, LedgerEvent]]) -> list[Violation]:
        violations: list[Violation] = []
        last: dict[str, LedgerEvent] = {}
        for offset, event in there:
            before = last.get(event.source)
            if before is not None and event.number < before.number and event.source not in self.may_repeat:
                violations.append(
                    Violation("order", partition_name(where), f"{event} at offset {offset} behind {before}")
                )
            last[event.source] = event
        return violations

    def _judge_positions(self, positions: Mapping[tuple[str, Partition], int]) -> list[Violation]:
        violations: list[Violation] = []
        for (group, where), known in self._positions.items():
            now = positions.get((group, where), -1)
            if now == known.acknowledged or now in known.tried:
                continue
            rule: Rule = "back" if now < known.acknowledged else "ahead"
            text = f"{now}; acknowledged was {known.acknowledged}, tried {sorted(known.tried)}"
            violations.append(Violation(rule, f"{group} in {partition_name(where)}", text))
        return violations


def partition_name(where: Partition) -> str:
    """`topic-partition`, as Kafka writes it."""
    return f"{where[0]}-{where[1]}"

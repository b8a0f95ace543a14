"""One history of a subscription: what was published, delivered and answered, and the judgement on it.

Owns: the history, in the order in which its clients saw it, and the rules, which are those of docs/QUEUES.md.
It contains no client and no server: the program that runs them reports each call when it begins and when it
is answered. Its own test feeds it every kind of violation. Safe to use from several threads.

The rules:
- lost: an event was published, and in the end it is neither done nor a dead letter.
- resurrected: an event was delivered after its acknowledgement or rejection was answered.
- unexpected: an event was delivered that was never published.
- inversion: with key order, an event was delivered while an earlier one of its key was neither done nor with
  the same consumer.
- duplicate: an event was delivered again, and was neither given back nor expired, and no server died.
- attempts: the number of the attempt did not rise, or is 1 for an event that was delivered before.
- letters: an event that was rejected has no dead letter, or more than one and one for each death.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

QueueRule = Literal["lost", "resurrected", "unexpected", "inversion", "duplicate", "attempts", "letters"]
AnswerVerb = Literal["ack", "nack", "reject"]


@dataclass(frozen=True, slots=True, order=True)
class QueueEvent:
    """An event: its key, and which one of its key it is."""

    key: str
    number: int

    @property
    def text(self) -> str:
        """Its payload."""
        return f"{self.key} {self.number}"

    @classmethod
    def of(cls, text: str) -> QueueEvent:
        """The event with this payload."""
        key, _, number = text.partition(" ")
        return cls(key, int(number))


class PullStart(NamedTuple):
    """When a pull began."""

    phase: int
    """Even: the server lived; odd: it was being killed."""
    time_s: float


@dataclass(slots=True)
class _EventState:
    """What is known of an event in one subscription."""

    consumer: str = ""
    """That of the latest delivery; empty: it was never delivered."""
    life: int | None = None
    """The life of the server that made the latest delivery; None: not known."""
    time_s: float = 0.0
    changed_s: float = float("-inf")
    """When a client last reported that it was delivered or given back."""
    done_s: float = float("inf")
    """When the answer was reported by which it is done."""
    attempt: int = 0
    disturbances: int = 0
    """Of its key, at the latest delivery."""
    was_given_back: bool = False
    """Since the latest delivery."""
    ending: set[int] = field(default_factory=set)
    """Acknowledgements and rejections that are not refused."""
    is_done: bool = False
    """Whether one of them was answered with success."""
    is_rejected: bool = False


class WorkHistory:
    """The history of one subscription, judged as it goes. `lock_s`: after this time without an answer an
    event may be delivered again."""

    def __init__(self, name: str, *, lock_s: float, in_key_order: bool) -> None:
        self.name = name
        self.violations: list[tuple[QueueRule, str]] = []
        self.counts: Counter[str] = Counter()
        """Calls by their kind."""
        self.deaths = 0
        self._phase = 0
        """Even: the server lives; odd: it is being killed."""
        self._lock_s = lock_s
        self._in_key_order = in_key_order
        self._lock = threading.Lock()
        self._states: defaultdict[QueueEvent, _EventState] = defaultdict(_EventState)
        self._begun: defaultdict[str, int] = defaultdict(int)
        """Key -> events whose publishing has begun; their numbers are 0, 1, …"""
        self._published: set[QueueEvent] = set()
        self._first_open: defaultdict[str, int] = defaultdict(int)
        """Key -> all earlier ones are done."""
        self._last_delivered: defaultdict[str, tuple[int, float]] = defaultdict(lambda: (-1, 0.0))
        """Key -> the latest of its events that was delivered, and when."""
        self._disturbances: Counter[str] = Counter()
        """Key -> how often an event of it came back."""
        self._answers: dict[int, tuple[QueueEvent, AnswerVerb]] = {}
        self._answer_count = 0

    # --- what clients report ------------------------------------------------------------------------------

    def publishing(self, events: Iterable[QueueEvent]) -> None:
        """These are about to be published, in this order."""
        with self._lock:
            for event in events:
                assert event.number == self._begun[event.key], "events of a key are numbered"
                self._begun[event.key] += 1

    def published(self, events: Iterable[QueueEvent]) -> None:
        """The server has acknowledged them."""
        with self._lock:
            self._published.update(events)

    def dying(self) -> None:
        """The server is about to be killed."""
        with self._lock:
            self.deaths += 1
            self._phase += 1

    def dead(self) -> None:
        """It is dead, and may be started."""
        with self._lock:
            self._phase += 1

    def pulling(self, time_s: float) -> PullStart:
        """A consumer is about to pull. Returns the argument `start` of what it receives."""
        with self._lock:
            return PullStart(self._phase, time_s)

    def delivered(
        self, event: QueueEvent, consumer: str, attempt: int, time_s: float, start: PullStart
    ) -> None:
        """A consumer received an event. It was leased at any time since its pull began: what others report
        from then on is neither before nor after it."""
        with self._lock:
            life = start.phase if start.phase == self._phase and start.phase % 2 == 0 else None
            self.counts["deliver"] += 1
            state = self._states[event]
            if event.number >= self._begun[event.key]:
                self._violated("unexpected", event, "it was never published")
            if state.is_done and state.done_s < start.time_s:
                self._violated("resurrected", event, f"attempt {attempt} of {consumer}")
            if state.consumer and state.changed_s < start.time_s:
                self._check_repeat(event, state, attempt, time_s, life)
            if self._in_key_order:
                self._check_order(event, state, consumer, life, start)
            if event.number > self._last_delivered[event.key][0]:
                self._last_delivered[event.key] = event.number, time_s
            state.changed_s = time_s
            state.consumer, state.life, state.time_s = consumer, life, time_s
            state.attempt, state.was_given_back = attempt, False
            state.disturbances = self._disturbances[event.key]

    def answering(self, event: QueueEvent, verb: AnswerVerb, consumer: str, time_s: float) -> int:
        """A consumer is about to answer. Returns a number for `answered`. What it gives back may be another's
        by now: its lock has expired, and nothing changes."""
        with self._lock:
            self.counts[verb] += 1
            self._answer_count += 1
            self._answers[self._answer_count] = event, verb
            if verb == "nack":
                state = self._states[event]
                state.was_given_back |= state.consumer == consumer
                state.changed_s = time_s
                self._disturbances[event.key] += 1
            else:
                self._states[event].ending.add(self._answer_count)
            return self._answer_count

    def answered(self, number: int, verdict: str, time_s: float) -> None:
        """The verdict on an answer."""
        with self._lock:
            self.counts[verdict] += 1
            event, verb = self._answers.pop(number)
            state = self._states[event]
            if verb == "nack":
                return
            if verdict in ("done", "late"):
                state.is_done = True
                state.done_s = min(state.done_s, time_s)
                state.is_rejected |= verb == "reject"
            else:
                state.ending.discard(number)

    # --- the rules ----------------------------------------------------------------------------------------

    def _violated(self, rule: QueueRule, event: QueueEvent, what: str) -> None:
        self.violations.append((rule, f"{self.name}: {event.text}: {what}"))

    def _check_repeat(
        self, event: QueueEvent, state: _EventState, attempt: int, time_s: float, life: int | None
    ) -> None:
        self.counts["repeat"] += 1
        is_same_life = life is not None and state.life == life
        is_explained = (
            not is_same_life
            or state.was_given_back
            or time_s - state.time_s >= self._lock_s
            or (self._in_key_order and self._disturbances[event.key] > state.disturbances)
        )
        if not is_explained:
            self._violated("duplicate", event, f"to {state.consumer}, and again as attempt {attempt}")
        if attempt <= (state.attempt if is_same_life else 1):
            self._violated("attempts", event, f"{state.attempt}, then {attempt}")
        self._disturbances[event.key] += 1

    def _check_order(
        self, event: QueueEvent, state: _EventState, consumer: str, life: int | None, start: PullStart
    ) -> None:
        key = event.key
        later, later_s = self._last_delivered[key]
        if not state.consumer and event.number < later and later_s < start.time_s:
            self._violated("inversion", event, f"first delivered after {later}")
        while self._first_open[key] < event.number and self._is_passed(
            QueueEvent(key, self._first_open[key])
        ):
            self._first_open[key] += 1
        self._first_open[key] = min(self._first_open[key], event.number)
        for number in range(self._first_open[key], event.number):
            earlier = QueueEvent(key, number)
            before = self._states[earlier]
            may_be_same_life = before.life == life or None in (before.life, life)
            has_it = before.consumer == consumer and may_be_same_life and not before.was_given_back
            is_before = before.changed_s < start.time_s
            if is_before and not (self._is_passed(earlier) or has_it):
                self._violated("inversion", event, f"to {consumer} before {number} is done")

    def _is_passed(self, event: QueueEvent) -> bool:
        """Whether later events of its key may be delivered: it is over, or was not published as far as is
        known."""
        state = self._states.get(event)
        is_absent = event not in self._published and (state is None or not state.consumer)
        return is_absent or self._is_over(event)

    def _is_over(self, event: QueueEvent) -> bool:
        state = self._states.get(event)
        return state is not None and bool(state.is_done or state.ending)

    def judge(self, letters: Mapping[QueueEvent, int]) -> list[str]:
        """All violations, after everything was drained. `letters`: how many dead letters each event has."""
        with self._lock:
            for event in sorted(self._published):
                state = self._states[event]
                if not (state.is_done or state.ending or event in letters):
                    self._violated("lost", event, "published, and never done")
            for event, state in sorted(self._states.items()):
                if state.is_rejected and not letters.get(event):
                    self._violated("letters", event, "rejected, without a dead letter")
            for event, count in letters.items():
                if count > 1 + self.deaths:
                    self._violated("letters", event, f"{count} of them")
            return [f"{rule}: {what}" for rule, what in self.violations]

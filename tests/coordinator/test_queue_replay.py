"""Loading the state log of queues leads to the live state, whatever was written and whatever failed."""

from __future__ import annotations

import copy
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import settings as bounds
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mainstem.coordinator.errors import UnknownSnapshot, UnknownSubscription
from mainstem.coordinator.queues import views as views_module
from mainstem.coordinator.queues.kept_snapshots import KeptSnapshot
from mainstem.coordinator.queues.types import Settlement, WrittenDeadLetter
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.coordinator.runtime import snapshots as module
from mainstem.queues import waits as waits_module
from mainstem.queues.leases import DeliveryLease
from mainstem.queues.pages import PositionState
from mainstem.queues.rules import DeliveryRules
from mainstem.queues.view import SequenceView
from mainstem.queues.view_types import ViewSnapshot
from tests.coordinator.queue_rig import QueueRig
from tests.coordinator.state_rig import done
from tests.support.fake_state import FakeStateDisk

NAMES = st.sampled_from(["a", "b"])
TOPICS = st.sampled_from([UUID(int=7), UUID(int=8)])
POSITIONS = st.integers(0, 60) | st.integers(4_080, 4_120)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "failures_max": st.integers(0, 3),
        "dead_letter_topic": st.sampled_from([None, "lost"]),
        "accepts_late_acks": st.booleans(),
        "backoff_min_ms": st.sampled_from([0, 50]),
    },
)
END = 4_200
EVER_MS = 1 << 42
"""Later than the end of each run."""


@pytest.fixture(autouse=True)
def small_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots have several records of what was redriven."""
    monkeypatch.setattr(views_module, "EXEMPT_OF_RECORD", 2)


def skipped(first: int, end: int) -> list[tuple[int, int]]:
    """What the filter of all subscriptions excludes."""
    return [(position, position + 1) for position in range(first, end) if position % 7 == 3]


def due_times(first: int, end: int) -> dict[int, int]:
    """Which events are to be delivered later: soon, or in another life."""
    times = {position: 1_356_998_400_000 + position for position in range(first, end) if position % 11 == 5}
    return times | {position: EVER_MS << 1 for position in range(first, end) if position % 11 == 6}


def scan(sequence: SequenceView, end: int) -> None:
    first = sequence.scanned
    if end > first:
        sequence.scan(end, skipped(first, end), due_times(first, end))


def durable_facts(view: SubscriptionView) -> Any:
    """What of a view survives a restart, once the log is scanned again and all short waits are over."""
    copied = view.sequence.snapshot()
    sequence = SequenceView.restore(view.sequence.rules, copied.head, copied.pages, copied.waiting)
    scan(sequence, END)
    sequence.wake_due(EVER_MS)
    positions = [
        (position, sequence.state(position), sequence.failures(position))
        for position in range(sequence.start, END)
        if sequence.state(position) is not PositionState.DONE
    ]
    without_times = [
        [place for run in runs for place in range(*run) if place >= first]
        for runs, first in (
            (view.sequence.exempt, sequence.start),
            (view.sequence.woken, view.sequence.oldest),
        )
    ]
    return (
        view.id,
        view.place,
        sequence.start,
        sequence.marked,
        positions,
        sequence.dying(END),
        without_times,
    )


def state_of(rig: QueueRig) -> bytes:
    """Everything that the machine remembers, in an order that does not depend on its history."""
    machine = rig.subscriptions
    subscriptions = [
        (known.id, known.name, known.settings, known.last_dead_letter_topic) for known in machine.all()
    ]
    views = sorted(durable_facts(view) for view in machine.views.all())
    reasons = list(machine.views.reasons.records())
    snapshots = sorted(
        (known.id, snapshot.name, snapshot.created_ms, place, undone_of(kept_part(snapshot, place)))
        for known in machine.all()
        for snapshot in machine.snapshots.contents.of(known.id).values()
        for place in snapshot.views
    )
    return msgspec.msgpack.encode((subscriptions, views, reasons, snapshots, list(machine.known_epochs)))


def kept_part(snapshot: KeptSnapshot, place: tuple[UUID, int]) -> SequenceView:
    part = snapshot.views[place]
    return SequenceView.restore(DeliveryRules(), part.head, part.pages)


def undone_of(sequence: SequenceView) -> list[int]:
    """What of a view is not done, once everything is scanned. The view is spoiled by this."""
    scan(sequence, END)
    positions = range(sequence.start, END)
    return [position for position in positions if sequence.state(position) is not PositionState.DONE]


def copy_of(sequence: SequenceView) -> SequenceView:
    copied = sequence.snapshot()
    return SequenceView.restore(sequence.rules, copied.head, copied.pages, copied.waiting)


class QueueReplay(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 1 << 30), slice_bytes=st.integers(1, 400))
    def begin(self, seed: int, slice_bytes: int) -> None:
        self.slice_before = module.SLICE_BYTES
        module.SLICE_BYTES = slice_bytes
        self.rig = QueueRig(auto_commit=False, seed=seed)
        self.states_by_log_end = {0: state_of(self.rig)}
        self.leases: list[tuple[SubscriptionView, DeliveryLease, int]] = []
        self.undone_then: dict[int, dict[tuple[UUID, int], list[int]]] = {}
        """Of each named snapshot what was not done when it was taken."""

    def teardown(self) -> None:
        module.SLICE_BYTES = self.slice_before

    @invariant()
    def remember(self) -> None:
        if self.rig.runtime.fenced is None:
            self.states_by_log_end[self.rig.log.log_end_offset] = state_of(self.rig)

    def view(self, name: str) -> SubscriptionView | None:
        """A view of a subscription, if it has any."""
        machine = self.rig.subscriptions
        return next(
            (view for view in machine.views.all() if machine._by_id[view.subscription].name == name), None
        )

    # --- writes -------------------------------------------------------------------------------------------

    @rule(name=NAMES, settings=SETTINGS)
    def create(self, name: str, settings: dict[str, Any]) -> None:
        self.rig.subscriptions.create(name, settings)

    @rule(name=NAMES, settings=SETTINGS)
    def alter(self, name: str, settings: dict[str, Any]) -> None:
        self.rig.subscriptions.alter(name, settings)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.rig.subscriptions.delete(name)

    @rule(name=NAMES, topic=TOPICS, start=POSITIONS)
    def open_view(self, name: str, topic: UUID, start: int) -> None:
        self.rig.subscriptions.open_view(name, topic, 0, start, start)

    @rule(name=NAMES, count=st.integers(1, 80), consumer=st.sampled_from(["c", "d"]))
    def acquire(self, name: str, count: int, consumer: str) -> None:
        view = self.view(name)
        if view is None:
            return
        epoch = self.rig.subscriptions.epoch
        leased = self.rig.subscriptions.acquire(view, consumer, count)

        def on_leased(promise: Any) -> None:
            if promise.error is None and promise.result() is not None:
                self.leases.append((view, promise.result(), epoch))

        leased.then(on_leased)

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        answers = []
        for _ in range(data.draw(st.integers(1, 4))):
            if not self.leases:
                return
            view, lease, epoch = data.draw(st.sampled_from(self.leases))
            first, end = data.draw(st.sampled_from(lease.runs))
            low = data.draw(st.integers(first, end - 1))
            answers.append(
                Settlement(
                    view.id,
                    lease.id,
                    epoch,
                    ((low, data.draw(st.integers(low + 1, end))),),
                    data.draw(st.sampled_from(["ack", "nack", "reject"])),
                    data.draw(st.booleans()),
                    data.draw(st.sampled_from([None, 0, 70])),
                    text=data.draw(st.sampled_from(["", "a", "b"])),
                )
            )
        self.rig.subscriptions.settle(answers)

    @rule()
    def expire(self) -> None:
        self.rig.clock.advance(31)
        self.rig.subscriptions.release_expired()

    @rule(consumer=st.sampled_from(["c", "d"]), counts=st.booleans())
    def detach(self, consumer: str, counts: bool) -> None:
        self.rig.subscriptions.detach(consumer, counts=counts)

    @rule(name=NAMES, first=POSITIONS, count=st.integers(1, 50))
    def redrive(self, name: str, first: int, count: int) -> None:
        view = self.view(name)
        if view is not None:
            self.rig.subscriptions.changes.redrive(view, [(first, first + count)])

    @rule(name=NAMES, first=POSITIONS, count=st.integers(1, 50), due_s=st.integers(1, 90))
    def redrive_at_a_rate(self, name: str, first: int, count: int, due_s: int) -> None:
        view = self.view(name)
        if view is not None:
            due_ms = self.rig.clock.wall_ms() + 1_000 * due_s
            run = (first, first + count)
            self.rig.subscriptions.changes.redrive(view, [run], lambda runs: [(runs[1:] or runs, due_ms)])

    @rule(name=NAMES, first=POSITIONS, count=st.integers(1, 50), what=st.sampled_from(["wake", "cancel"]))
    def wake_or_cancel(self, name: str, first: int, count: int, what: str) -> None:
        view = self.view(name)
        if view is not None:
            getattr(self.rig.subscriptions.changes, what)(view, [(first, first + count)])

    @rule(
        name=NAMES, first=POSITIONS, count=st.integers(1, 50), due_s=st.integers(1, 90), ahead=st.booleans()
    )
    def delay(self, name: str, first: int, count: int, due_s: int, ahead: bool) -> None:
        view = self.view(name)
        if view is None:
            return
        changes, now_ms = self.rig.subscriptions.changes, self.rig.clock.wall_ms()
        due_ms = {place: now_ms + due_s * 1000 + place for place in range(first, first + count)}
        (changes.delay_ahead if ahead else changes.delay)(view, due_ms)

    @rule(name=NAMES, position=POSITIONS, what=st.sampled_from(["seek", "purge", "cut", "trim"]))
    def change(self, name: str, position: int, what: str) -> None:
        view, changes = self.view(name), self.rig.subscriptions.changes
        if view is None:
            return
        if what == "seek":
            changes.seek(view, position)
        elif what == "purge":
            changes.purge(view, position)
        elif what == "cut":
            self.undone_then.clear()
            changes.clamp_to_log_end(lambda *_: position)
        else:
            changes.trim(view.topic_id, 0, position)

    @rule(name=NAMES, snapshot=st.sampled_from(["x", "y"]))
    def take_snapshot(self, name: str, snapshot: str) -> None:
        machine = self.rig.subscriptions
        try:
            known = machine.snapshots.contents.of(machine.get(name).id)
        except UnknownSubscription:
            return
        is_new = snapshot not in known
        views = {(view.topic_id, view.partition): view for view in machine.views_of(name)}
        undone = {place: undone_of(copy_of(view.sequence)) for place, view in views.items()}
        machine.snapshots.take(name, snapshot)
        if is_new and self.rig.runtime.fenced is None:
            self.undone_then[machine.snapshots.get(name, snapshot).id] = undone

    @rule(name=NAMES, snapshot=st.sampled_from(["x", "y"]))
    def delete_snapshot(self, name: str, snapshot: str) -> None:
        self.rig.subscriptions.snapshots.delete(name, snapshot)

    @rule(name=NAMES, snapshot=st.sampled_from(["x", "y"]))
    def seek_snapshot(self, name: str, snapshot: str) -> None:
        """I13: what was done then is done, and all else is as if it had never been delivered."""
        machine = self.rig.subscriptions
        machine.snapshots.restore(name, snapshot, {})
        if self.rig.runtime.fenced is not None:
            return
        try:
            part = machine.snapshots.get(name, snapshot)
        except (UnknownSnapshot, UnknownSubscription):
            return
        for view in machine.views_of(name):
            place = view.topic_id, view.partition
            expected = self.undone_then.get(part.id, {}).get(place)
            if expected is not None and place in part.views:
                assert undone_of(copy_of(view.sequence)) == expected
                counts = view.sequence.counts()
                assert counts.ready == counts.outstanding
                assert all(view.sequence.failures(position) == 0 for position in expected)

    @rule(name=NAMES, end=POSITIONS, limit=st.integers(1, 40), has_dead_letters=st.booleans())
    def expire_below(self, name: str, end: int, limit: int, has_dead_letters: bool) -> None:
        view = self.view(name)
        if view is None:
            return
        sequence = view.sequence
        states = {position: sequence.state(position) for position in range(sequence.start, end)}
        redriven = {position for run in sequence.exempt for position in range(*run)}
        self.rig.subscriptions.changes.expire(view, end, limit, has_dead_letters=has_dead_letters)
        if self.rig.runtime.fenced is not None or self.view(name) is not view:
            return
        may = (PositionState.READY, PositionState.WAITING)
        expected = [place for place, state in states.items() if state in may and place not in redriven][
            :limit
        ]
        after = PositionState.DYING if has_dead_letters else PositionState.DONE
        for position, state in states.items():
            assert sequence.state(position) == (after if position in expected else state)

    @rule(name=NAMES)
    def write_dead_letters(self, name: str) -> None:
        view = self.view(name)
        if view is not None:
            letters = [
                WrittenDeadLetter(position, UUID(int=9), 0, 5) for position, _ in view.sequence.dying(3)
            ]
            self.rig.subscriptions.changes.dead_lettered(view, letters)

    @rule(topic=TOPICS)
    def end_topic(self, topic: UUID) -> None:
        self.rig.subscriptions.changes.end_topic(topic)

    # --- what needs no record -----------------------------------------------------------------------------

    @rule(name=NAMES, count=st.integers(1, 60) | st.just(4_000))
    def scan(self, name: str, count: int) -> None:
        view = self.view(name)
        if view is not None:
            scan(view.sequence, min(view.sequence.scanned + count, END))

    @rule(name=NAMES)
    def wake(self, name: str) -> None:
        view = self.view(name)
        if view is not None:
            view.sequence.wake_due(self.rig.clock.wall_ms())

    # --- what happens to them -----------------------------------------------------------------------------

    @rule()
    def commit(self) -> None:
        self.rig.log.commit()

    @rule(share=st.floats(0, 1))
    def commit_some(self, share: float) -> None:
        log = self.rig.log
        ends = [end for _, end, _ in log.batches if end > log.high_watermark]
        if ends:
            log.commit(until=ends[int(share * (len(ends) - 1))])

    @rule()
    def fail(self) -> None:
        self.rig.log.fail()
        self.rig.clock.run()
        assert self.rig.runtime.fenced is None
        assert state_of(self.rig) == self.states_by_log_end[self.rig.log.high_watermark]

    @rule()
    def snapshot(self) -> None:
        self.rig.runtime.take_snapshot()

    @rule()
    def turn(self) -> None:
        self.rig.clock.turn()

    @rule()
    def turns(self) -> None:
        self.rig.clock.run()

    @rule()
    def kill(self) -> None:
        self.rig.restart()
        assert state_of(self.rig) == self.states_by_log_end[self.rig.log.high_watermark]

    @rule()
    def compare(self) -> None:
        """Load a copy of what is durable, and compare."""
        log = self.rig.log
        durable = copy.copy(log)
        durable.waiters = []
        durable.batches = [batch for batch in log.batches if batch[1] <= log.high_watermark]
        durable.log_end_offset = log.high_watermark
        disk: FakeStateDisk = copy.deepcopy(self.rig.disk)
        expected = self.states_by_log_end[log.high_watermark]
        assert state_of(QueueRig(log=durable, disk=disk)) == expected
        for path in list(disk.files)[-1:]:
            disk.files[path] = b"damaged"
        assert state_of(QueueRig(log=durable, disk=disk)) == expected


TestQueueReplay = QueueReplay.TestCase
TestQueueReplay.settings = bounds(max_examples=100, stateful_step_count=40, deadline=None)


# --- snapshots --------------------------------------------------------------------------------------------


def test_a_snapshot_is_of_one_moment_whatever_is_written_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE_BYTES", 1)
    monkeypatch.setattr(waits_module, "PACKED_ENTRIES", 2)
    rig = QueueRig()
    views = [rig.view(9_000, f"s{number}") for number in range(5)]
    leases = [rig.lease(view, 5_000) for view in views]
    for view, lease in zip(views, leases, strict=True):
        rig.settle(rig.answer(view, lease, (0, 5), (4_090, 4_099)))
        rig.settle(rig.answer(view, lease, (20, 27), verb="nack", delay_ms=60_000))
    before, offset = state_of(rig), rig.log.log_end_offset
    rig.runtime.take_snapshot()
    for view, lease in zip(views[::-1], leases[::-1], strict=True):
        rig.clock.turn()
        rig.settle(rig.answer(view, lease, (30, 40)))
        rig.settle(rig.answer(view, lease, (50, 55), verb="nack", delay_ms=70_000))
        view.sequence.wake_due(EVER_MS)
        done(rig.subscriptions.changes.seek(views[2], 7))
        done(rig.subscriptions.create(f"new{view.id}"))
    done(rig.subscriptions.delete("s4"))
    rig.clock.run()
    after = state_of(rig)
    loaded = QueueRig(disk=rig.disk, log=copy.copy(rig.log))
    assert state_of(loaded) == after
    only_snapshot = copy.copy(rig.log)
    only_snapshot.batches = [batch for batch in rig.log.batches if batch[1] <= offset]
    only_snapshot.log_end_offset = only_snapshot.high_watermark = offset
    assert state_of(QueueRig(disk=rig.disk, log=only_snapshot)) == before


def test_the_log_is_no_longer_than_what_it_says_and_its_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holes that are not touched for many snapshots are in each snapshot, and make the log no longer."""
    monkeypatch.setattr(module, "TAIL_RECORDS", 50)
    rig = QueueRig()
    view = rig.view(40_000)
    lease = rig.lease(view, 40_000)
    rig.settle(rig.answer(view, lease, *((position, position + 1) for position in range(0, 20_000, 2))))
    for number in range(2_000):
        position = 20_000 + number
        rig.settle(rig.answer(view, lease, (position, position + 1)))
        rig.clock.run()
    size = sum(len(batch) for _, _, batch in rig.log.batches)
    snapshots = sorted(rig.disk.files)
    assert len(snapshots) == 2
    assert size <= 3 * max(len(rig.disk.files[path]) for path in snapshots) + 50 * 200
    before = state_of(rig)
    rig.restart()
    assert state_of(rig) == before


def test_taking_a_snapshot_does_not_walk_over_the_views(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = QueueRig()
    views = [rig.view(10, f"s{number}") for number in range(20)]
    taken: list[int] = []
    original = SequenceView.snapshot

    def counted(sequence: SequenceView) -> ViewSnapshot:
        taken.append(1)
        return original(sequence)

    monkeypatch.setattr(SequenceView, "snapshot", counted)
    walk = rig.subscriptions.views.walk()
    assert not taken
    rig.settle(rig.answer(views[3], rig.lease(views[3], 2)))
    assert len(taken) == 1, "a record changed it"
    assert len(list(walk)) >= 20
    assert len(taken) == 20
    rig.settle(rig.answer(views[3], rig.lease(views[3], 2)))
    assert len(taken) == 20, "the walk is over"

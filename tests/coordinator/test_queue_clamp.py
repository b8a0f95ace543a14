"""A subscription is never ahead of the log: after lost events, in a copy, and for a topic made anew."""

from __future__ import annotations

import logging
import random
from typing import cast

import pytest

from mainstem.coordinator.queues.types import Settlement
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.log.disk.contract import Disk
from mainstem.log.offline.backup import Backup
from mainstem.log.storage import record_batch as batches
from mainstem.node import Node
from mainstem.queues.pages import PositionState
from mainstem.settings import Settings
from tests.coordinator.queue_rig import states
from tests.coordinator.seeds import small
from tests.coordinator.test_queue_crashes import QueueRun
from tests.log.test_backup import LiveSource, SimTarget
from tests.support.clock import SimClock
from tests.support.simdisk import SimDisk
from tests.test_node import NodeRig


def view_of(machine: NodeRig, name: str = "mail") -> SubscriptionView:
    """The only view of a subscription."""
    (view,) = machine.node.subscriptions.views_of(name)
    return view


def subscribed(machine: NodeRig, events: int, topic_name: str = "a") -> SubscriptionView:
    """A view of a topic with `events` events."""
    topic = machine.create(topic_name)
    for _ in range(events):
        machine.append(topic)
    if "mail" not in [known.name for known in machine.node.subscriptions.all()]:
        machine.done(machine.node.subscriptions.create("mail"))
    view = machine.done(machine.node.subscriptions.open_view("mail", topic.id, 0, 0, events))
    assert isinstance(view, SubscriptionView)
    return view


def deliver_and_ack(machine: NodeRig, view: SubscriptionView, end: int, *runs: tuple[int, int]) -> None:
    view.sequence.scan(end)
    subscriptions = machine.node.subscriptions
    lease = machine.done(subscriptions.acquire(view, "c", 100))
    settled = machine.done(subscriptions.settle([Settlement(view.id, lease.id, subscriptions.epoch, runs)]))
    assert settled == [list(runs)]


def test_events_after_the_end_are_forgotten_when_events_may_be_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A subscription that acknowledged 3 and 4 when a power cut took them must not miss the next 3 and 4."""
    machine = NodeRig(durability="os")
    deliver_and_ack(machine, subscribed(machine, 3), 6, (0, 1), (3, 5))
    machine.restart()
    assert view_of(machine).sequence.state(3) is PositionState.DONE, "a clean stop loses nothing"
    machine.start()
    machine.settle()
    assert "subscriptions knew" in caplog.text
    for _ in range(2):
        view = view_of(machine)
        assert (view.sequence.scanned, view.sequence.marked) == (0, 3)
        assert states(view, 6) == "xaaaaa"
        machine.start()
        machine.settle()
    topic = machine.node.topics.all()[0]
    for _ in range(3):
        machine.append(topic)
    view = view_of(machine)
    view.sequence.scan(6)
    assert states(view, 6) == "xrrrrr"
    assert view.sequence.acquisitions(4) == 0


def test_with_durability_disk_an_unclean_start_forgets_nothing() -> None:
    machine = NodeRig()
    deliver_and_ack(machine, subscribed(machine, 6), 6, (0, 1), (3, 5))
    machine.start()
    machine.settle()
    view = view_of(machine)
    view.sequence.scan(6)
    assert states(view, 6) == "xrrxxr"


def test_a_topic_made_anew_under_its_old_name_is_another(machine: NodeRig) -> None:
    old = subscribed(machine, 4)
    deliver_and_ack(machine, old, 4, (0, 4))
    machine.done(machine.node.topics.delete("a"))
    machine.settle(1)
    assert machine.node.subscriptions.views_of("mail") == []
    new = subscribed(machine, 4)
    assert new.id != old.id
    new.sequence.scan(4)
    assert states(new, 4) == "rrrr"
    machine.start()
    assert [view.topic_id for view in machine.node.subscriptions.views_of("mail")] == [new.topic_id]


def test_a_start_ends_the_views_of_a_topic_whose_deletion_a_crash_interrupted(machine: NodeRig) -> None:
    subscribed(machine, 2)
    subscribed(machine, 2, "b")
    machine.node.queue_runtime.fenced = "the disk fails"
    machine.done(machine.node.topics.delete("a"))
    machine.settle(1)
    assert len(machine.node.subscriptions.views.all()) == 2
    machine.start()
    machine.settle(1)
    assert len(machine.node.subscriptions.views.all()) == 1
    assert machine.names() == ["b"]


@pytest.fixture(params=["disk", "os"])
def machine(request: pytest.FixtureRequest) -> NodeRig:
    return NodeRig(durability=request.param)


def test_a_copy_that_is_lost_counts_where_its_event_is_deleted(machine: NodeRig) -> None:
    view = subscribed(machine, 6)
    view.sequence.scan(6)
    changes = machine.node.subscriptions.changes
    machine.done(changes.carry(view, [(1, 10, 7), (2, 11, 7), (4, 12, 7), (5, 9, 7)]))
    machine.done(changes.trim(view.topic_id, 0, 3))
    assert sorted(view.carried) == [1, 2, 4, 5]
    lost = machine.done(changes.clamp_carried(11, lambda *_: 3))
    assert lost == 1
    assert sorted(view.carried) == [1, 5]
    assert [view.sequence.state(position).name for position in range(6)] == [
        *("DONE", "READY", "DONE", "READY", "READY", "READY"),
    ]


def test_power_cuts_with_durability_os_leave_no_subscription_ahead_of_the_log() -> None:
    logging.disable(logging.CRITICAL)
    lost = 0
    try:
        for seed in range(60):
            lost += _power_cut(seed)
    finally:
        logging.disable(logging.NOTSET)
    assert lost > 20, "power cuts lose events"


def _power_cut(seed: int) -> int:
    """Deliver and acknowledge 20 events, cut the power, start again, and look. How many were lost."""
    rng = random.Random(seed)
    clock = SimClock()
    disk = SimDisk(clock, rng)
    disk.make_folder("")
    settings = Settings(durability="os")
    node = Node.open(settings, cast(Disk, disk), clock, rng).result()
    topic = node.topics.create("a", 1).result()
    node.subscriptions.create("mail").result()
    if rng.random() < 0.5:
        node.log.checkpoint()
        clock.advance(1)
    view = node.subscriptions.open_view("mail", topic.id, 0, 0, 0).result()
    for _ in range(20):
        partition = node.partition(topic, 0)
        partition.append(
            memoryview(batches.build([(None, b"x" * rng.randint(1, 3000), (), clock.wall_ms())]))
        )
    view.sequence.scan(20)
    lease = node.subscriptions.acquire(view, "c", 20).result()
    assert lease is not None
    answer = Settlement(view.id, lease.id, node.subscriptions.epoch, lease.runs)
    assert node.subscriptions.settle([answer]).result() == [[(0, 20)]]
    if rng.random() < 0.5:
        node.queue_runtime.take_snapshot()
        clock.advance(rng.random())
    clock = SimClock()
    node = Node.open(settings, cast(Disk, disk.power_cut(clock)), clock, rng).result()
    clock.advance(1)
    topic_now = node.topics.get("a")
    if topic_now is None:
        assert node.subscriptions.views.all() == []
        return 20
    end = node.partition(topic_now, 0).log_end_offset
    for view in node.subscriptions.views.all():
        assert view.sequence.scanned <= end
        partition = node.partition(topic_now, 0)
        for _ in range(5):
            partition.append(memoryview(batches.build([(None, b"new", (), clock.wall_ms())])))
        view.sequence.scan(end + 5)
        assert [view.sequence.state(offset) for offset in range(end, end + 5)] == [PositionState.READY] * 5
    return 20 - end


def test_a_backup_under_load_is_not_ahead_of_its_log() -> None:
    logging.disable(logging.CRITICAL)
    made = 0
    try:
        with small():
            for seed in range(8):
                made += _backups_of(seed)
    finally:
        logging.disable(logging.NOTSET)
    assert made > 10


def _backups_of(seed: int) -> int:
    """Make backups while a node works, and open each copy. How many were made."""
    run = QueueRun(seed, "disk")
    run.disk.make_folder("")
    run.start()
    made = 0
    for _ in range(30):
        run.step()
    for _ in range(3):
        target = SimTarget(run)
        going = Backup(LiveSource(run), target, lambda: lambda _: True).run()  # type: ignore[arg-type]
        acked = set(run.acked)
        asked_again, deleted = run.asked_again, set(run.deletion_asked)
        for _ in going:
            if run.rng.random() < 0.7:
                run.step()
        clock = SimClock(run.clock.wall_ms() + 1000)
        copy = target.disk.power_cut(clock)
        node = Node.open(Settings(), cast(Disk, copy), clock, run.rng).result()
        assert node.recovery_report is not None
        assert node.recovery_report.is_copy
        clock.advance(1)
        made += 1
        for view in node.subscriptions.views.all():
            topic = node.topics.by_id(view.topic_id)
            assert topic is not None
            end = node.partition(topic, 0).log_end_offset
            assert max(view.sequence.scanned, view.sequence.start) <= end
            assert next(view.sequence.runs_in(PositionState.DONE, end), None) is None
            view.sequence.scan(max(end, view.sequence.scanned))
            if asked_again == run.asked_again and view.topic_id not in deleted:
                for first, last in view.sequence.runs_in(PositionState.READY):
                    events = {(view.subscription, view.topic_id, offset) for offset in range(first, last)}
                    assert not events & acked, "what was acknowledged before the backup began is delivered"
    return made

"""Changes of views that no answer of a consumer makes: seek, redrive, purge, trim."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from mainstem.coordinator.queues.types import WrittenDeadLetter
from tests.coordinator.queue_rig import TOPIC, QueueRig, states, uncommitted_rig
from tests.coordinator.state_rig import code, done


def test_seek_begins_anew_and_ends_the_leases() -> None:
    rig = QueueRig()
    view = rig.view(10)
    lease = rig.lease(view, 8)
    rig.settle(rig.answer(view, lease, (0, 5)))
    done(rig.subscriptions.changes.seek(view, 3))
    assert rig.settle(rig.answer(view, lease)) == [[]]
    for known in (view, _restarted(rig)):
        assert (known.sequence.start, known.sequence.scanned) == (3, 3)
        known.sequence.scan(10)
        assert states(known, 10) == "xxxrrrrrrr"


def test_redrive_delivers_again_what_is_done() -> None:
    rig = QueueRig()
    view = rig.view(6)
    rig.settle(rig.answer(view, rig.lease(view, 6)))
    done(rig.subscriptions.changes.redrive(view, [(4, 5), (1, 3)]))
    end = rig.log.log_end_offset
    for nothing in ([], [(6, 9)], [(-3, 0)]):
        done(rig.subscriptions.changes.redrive(view, nothing))
    assert rig.log.log_end_offset == end
    for known in (view, _restarted(rig)):
        known.sequence.scan(6)
        assert states(known, 6) == "xrrxrx"


def test_redrive_leaves_alone_what_is_not_done() -> None:
    rig = QueueRig()
    done(rig.subscriptions.create("mail", {"dead_letter_topic": "lost"}))
    view = done(rig.subscriptions.open_view("mail", TOPIC, 0, 0, 0))
    later = {1: 1 << 50, 2: 1 << 50}
    view.sequence.scan(7, due_ms=later)
    lease = rig.lease(view, 4)
    rig.settle(rig.answer(view, lease, (0, 1)), rig.answer(view, lease, (3, 4), verb="reject"))
    assert done(rig.subscriptions.changes.redrive(view, [(2, 6), (0, 3)])) == [(0, 1)]
    assert states(view, 7) == "rwwdllr"
    known = _restarted(rig)
    known.sequence.scan(7, due_ms=later)
    assert states(known, 7) == "rwwdrrr"


def test_purge_ends_all_that_was_scanned_below_a_position() -> None:
    rig = QueueRig()
    view = rig.view(9)
    lease = rig.lease(view, 3)
    done(rig.subscriptions.changes.purge(view, 5))
    assert states(view, 10) == "xxxxxrrrra"
    assert rig.settle(rig.answer(view, lease)) == [[]]
    done(rig.subscriptions.changes.purge(view, 1 << 60))
    done(rig.subscriptions.changes.purge(view, 1 << 60))
    assert states(view, 10) == "xxxxxxxxxa"
    known = _restarted(rig)
    known.sequence.scan(12)
    assert states(known, 12) == "xxxxxxxxxrrr"


def test_trim_ends_what_retention_deletes_in_every_view_of_the_partition() -> None:
    rig = QueueRig()
    view, other = rig.view(9), rig.view(9, "other")
    rig.settle(rig.answer(other, rig.lease(other, 6)))
    elsewhere = done(rig.subscriptions.open_view("mail", TOPIC, 1, 0, 0))
    end = rig.log.log_end_offset
    done(rig.subscriptions.changes.trim(TOPIC, 0, 4))
    assert rig.log.log_end_offset == end + 1, "the other view has nothing to trim"
    assert (view.sequence.start, elsewhere.sequence.start) == (4, 0)
    rig.restart()
    assert rig.known().sequence.start == 4


def test_changes_of_a_view_that_is_there_no_more_are_refused_and_write_nothing() -> None:
    rig = QueueRig()
    view = rig.view(9)
    rig.settle(rig.answer(view, rig.lease(view, 3)))
    done(rig.subscriptions.delete("mail"))
    end, changes = rig.log.log_end_offset, rig.subscriptions.changes
    for refused in (
        changes.seek(view, 0),
        changes.redrive(view, [(0, 3)]),
        changes.purge(view, 9),
        changes.dead_lettered(view, [WrittenDeadLetter(0, UUID(int=9), 0, 0)]),
    ):
        assert code(refused) == "GROUP_ID_NOT_FOUND"
    done(changes.trim(TOPIC, 0, 9))
    assert rig.log.log_end_offset == end
    rig.restart()


def test_changes_are_of_the_view_as_it_is_after_a_load() -> None:
    rig, view = uncommitted_rig()
    leased = rig.subscriptions.acquire(view, "c", 3)
    rig.log.commit()
    lease = done(leased)
    assert lease is not None
    rig.subscriptions.settle([rig.answer(view, lease)])
    rig.log.fail()
    rig.clock.run()
    redriven = rig.subscriptions.changes.redrive(view, [(0, 3)])
    rig.log.commit()
    assert done(redriven) == [], "the acknowledgement was lost"


def _restarted(rig: QueueRig) -> Any:
    rig.restart()
    return rig.known()

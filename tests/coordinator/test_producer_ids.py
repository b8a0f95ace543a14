"""Producer ids are never allocated twice, whatever fails."""

from __future__ import annotations

from mainstem.coordinator.producer_ids import BLOCK_IDS, EPOCH_MAX
from mainstem.log.errors import StorageError
from tests.coordinator.state_rig import StateRig, done


def test_ids_increase_and_a_block_is_one_record() -> None:
    rig = StateRig()
    allocated = [done(rig.producer_ids.allocate()) for _ in range(BLOCK_IDS + 1)]
    assert allocated == [(id_, 0) for id_ in range(BLOCK_IDS + 1)]
    assert len(rig.log.batches) == 2


def test_an_id_is_returned_only_when_its_block_is_durable() -> None:
    rig = StateRig(auto_commit=False)
    first, second = rig.producer_ids.allocate(), rig.producer_ids.allocate()
    assert not first.done
    assert not second.done
    rig.log.commit()
    assert (done(first), done(second)) == ((0, 0), (1, 0))
    assert done(rig.producer_ids.allocate()) == (2, 0), "no need to wait within a block"


def test_no_id_is_allocated_again_after_a_restart() -> None:
    rig = StateRig()
    for _ in range(3):
        done(rig.producer_ids.allocate())
    rig.restart()
    assert done(rig.producer_ids.allocate()) == (BLOCK_IDS, 0)
    rig.runtime.take_snapshot()
    rig.clock.run()
    rig.restart()
    assert done(rig.producer_ids.allocate()) == (2 * BLOCK_IDS, 0)


def test_a_failed_commit_allocates_nothing() -> None:
    rig = StateRig(auto_commit=False)
    lost = rig.producer_ids.allocate()
    rig.log.fail()
    assert isinstance(lost.error, StorageError)
    rig.clock.run()
    promise = rig.producer_ids.allocate()
    rig.log.commit()
    assert done(promise) == (0, 0)


def test_a_refused_append_allocates_no_id_twice() -> None:
    rig = StateRig()
    rig.log.append_error = "full"
    assert isinstance(rig.producer_ids.allocate().error, StorageError)
    rig.log.append_error = None
    assert [done(rig.producer_ids.allocate())[0] for _ in range(3)] == [0, 1, 2]


def test_a_bump_keeps_the_id_and_raises_the_epoch() -> None:
    rig = StateRig()
    id_, epoch = done(rig.producer_ids.allocate())
    assert done(rig.producer_ids.bump_epoch(id_, epoch)) == (id_, 1)
    assert done(rig.producer_ids.bump_epoch(id_, EPOCH_MAX - 1)) == (id_, EPOCH_MAX)


def test_a_used_up_epoch_or_an_unknown_id_returns_a_new_id() -> None:
    rig = StateRig()
    id_, _ = done(rig.producer_ids.allocate())
    assert done(rig.producer_ids.bump_epoch(id_, EPOCH_MAX)) == (id_ + 1, 0)
    assert done(rig.producer_ids.bump_epoch(BLOCK_IDS * 7, 3)) == (id_ + 2, 0)
    assert done(rig.producer_ids.bump_epoch(-5, 3)) == (id_ + 3, 0)
    assert done(rig.producer_ids.bump_epoch(id_, -1)) == (id_ + 4, 0)

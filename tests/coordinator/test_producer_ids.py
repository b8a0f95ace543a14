"""Producer ids are never given twice, whatever fails."""

from __future__ import annotations

from mainstem.coordinator.producer_ids import BLOCK_IDS, EPOCH_MAX
from mainstem.log.errors import StorageError
from tests.coordinator.state_kit import StateRig, done


def test_ids_rise_and_a_block_costs_one_record() -> None:
    kit = StateRig()
    given = [done(kit.producer_ids.allocate()) for _ in range(BLOCK_IDS + 1)]
    assert given == [(id_, 0) for id_ in range(BLOCK_IDS + 1)]
    assert len(kit.log.batches) == 2


def test_an_id_is_told_only_when_its_block_is_durable() -> None:
    kit = StateRig(auto=False)
    first, second = kit.producer_ids.allocate(), kit.producer_ids.allocate()
    assert not first.done
    assert not second.done
    kit.log.commit()
    assert (done(first), done(second)) == ((0, 0), (1, 0))
    assert done(kit.producer_ids.allocate()) == (2, 0), "no need to wait within a block"


def test_after_a_restart_no_id_comes_again() -> None:
    kit = StateRig()
    for _ in range(3):
        done(kit.producer_ids.allocate())
    kit.restart()
    assert done(kit.producer_ids.allocate()) == (BLOCK_IDS, 0)
    kit.runtime.take_snapshot()
    kit.clock.run()
    kit.restart()
    assert done(kit.producer_ids.allocate()) == (2 * BLOCK_IDS, 0)


def test_a_failed_commit_gives_nothing() -> None:
    kit = StateRig(auto=False)
    lost = kit.producer_ids.allocate()
    kit.log.fail()
    assert isinstance(lost.error, StorageError)
    kit.clock.run()
    later = kit.producer_ids.allocate()
    kit.log.commit()
    assert done(later) == (0, 0)


def test_a_refused_append_gives_nothing_twice() -> None:
    kit = StateRig()
    kit.log.refuse = "full"
    assert isinstance(kit.producer_ids.allocate().error, StorageError)
    kit.log.refuse = None
    assert [done(kit.producer_ids.allocate())[0] for _ in range(3)] == [0, 1, 2]


def test_a_bump_keeps_the_id_and_raises_the_epoch() -> None:
    kit = StateRig()
    id_, epoch = done(kit.producer_ids.allocate())
    assert done(kit.producer_ids.bump_epoch(id_, epoch)) == (id_, 1)
    assert done(kit.producer_ids.bump_epoch(id_, EPOCH_MAX - 1)) == (id_, EPOCH_MAX)


def test_a_used_up_epoch_or_a_foreign_id_gives_a_new_id() -> None:
    kit = StateRig()
    id_, _ = done(kit.producer_ids.allocate())
    assert done(kit.producer_ids.bump_epoch(id_, EPOCH_MAX)) == (id_ + 1, 0)
    assert done(kit.producer_ids.bump_epoch(BLOCK_IDS * 7, 3)) == (id_ + 2, 0)
    assert done(kit.producer_ids.bump_epoch(-5, 3)) == (id_ + 3, 0)
    assert done(kit.producer_ids.bump_epoch(id_, -1)) == (id_ + 4, 0)

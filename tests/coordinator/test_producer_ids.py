"""Producer ids are never allocated twice, whatever fails; they start above a random number, which is the
server's own id."""

from __future__ import annotations

import random
from typing import cast

import pytest

from mainstem.coordinator.producer_ids import (
    BLOCK_IDS,
    EPOCH_MAX,
    LOST_IDS_MAX,
    START_LIMIT,
    START_MIN,
    START_STEP,
    ProducerIdBlock,
    ProducerIdStart,
)
from mainstem.log.errors import StorageError
from tests.coordinator.state_rig import StateRig, done


def started(*, auto_commit: bool = True, seed: int = 1) -> tuple[StateRig, int]:
    """A rig whose start is recorded, and the first id for producers."""
    rig = StateRig(auto_commit=auto_commit, seed=seed)
    rig.producer_ids.reserve_server_id()
    rig.log.commit()
    assert rig.producer_ids.server_id is not None
    return rig, rig.producer_ids.server_id + 1


def of_0_1_0(end: int, *, auto_commit: bool = True) -> StateRig:
    """A rig on the state of mainstem 0.1.0, which has allocated the ids below `end`."""
    rig = StateRig()
    rig.runtime.write(lambda: ((ProducerIdBlock(end),), None))
    rig.restart()
    rig.log.auto_commit = auto_commit
    return rig


def test_ids_increase_and_a_block_is_one_record() -> None:
    rig, first = started()
    allocated = [done(rig.producer_ids.allocate()) for _ in range(BLOCK_IDS + 1)]
    assert allocated == [(id_, 0) for id_ in range(first, first + BLOCK_IDS + 1)]
    assert len(rig.log.batches) == 1 + 2


def test_an_id_is_returned_only_when_its_block_is_durable() -> None:
    rig, id_ = started(auto_commit=False)
    first, second = rig.producer_ids.allocate(), rig.producer_ids.allocate()
    assert not first.done
    assert not second.done
    rig.log.commit()
    assert (done(first), done(second)) == ((id_, 0), (id_ + 1, 0))
    assert done(rig.producer_ids.allocate()) == (id_ + 2, 0), "no need to wait within a block"


def test_no_id_is_allocated_again_after_a_restart() -> None:
    rig, first = started()
    for _ in range(3):
        done(rig.producer_ids.allocate())
    rig.restart()
    assert done(rig.producer_ids.allocate()) == (first + BLOCK_IDS, 0)
    rig.runtime.take_snapshot()
    rig.clock.run()
    rig.restart()
    assert done(rig.producer_ids.allocate()) == (first + 2 * BLOCK_IDS, 0)


def test_a_failed_commit_allocates_nothing() -> None:
    rig, first = started(auto_commit=False)
    lost = rig.producer_ids.allocate()
    rig.log.fail()
    assert isinstance(lost.error, StorageError)
    rig.clock.run()
    promise = rig.producer_ids.allocate()
    rig.log.commit()
    assert done(promise) == (first, 0)


def test_a_refused_append_allocates_no_id_twice() -> None:
    rig, first = started()
    rig.log.append_error = "full"
    assert isinstance(rig.producer_ids.allocate().error, StorageError)
    rig.log.append_error = None
    assert [done(rig.producer_ids.allocate())[0] for _ in range(3)] == [first, first + 1, first + 2]


def test_a_bump_keeps_the_id_and_raises_the_epoch() -> None:
    rig = StateRig()
    id_, epoch = done(rig.producer_ids.allocate())
    assert done(rig.producer_ids.bump_epoch(id_, epoch)) == (id_, 1)
    assert done(rig.producer_ids.bump_epoch(id_, EPOCH_MAX - 1)) == (id_, EPOCH_MAX)


def test_a_used_up_epoch_or_an_unknown_id_returns_a_new_id() -> None:
    rig = StateRig()
    id_, _ = done(rig.producer_ids.allocate())
    assert done(rig.producer_ids.bump_epoch(id_, EPOCH_MAX)) == (id_ + 1, 0)
    assert done(rig.producer_ids.bump_epoch(id_ + BLOCK_IDS * 7, 3)) == (id_ + 2, 0)
    assert done(rig.producer_ids.bump_epoch(-5, 3)) == (id_ + 3, 0)
    assert done(rig.producer_ids.bump_epoch(id_, -1)) == (id_ + 4, 0)


# --- where the ids start ----------------------------------------------------------------------------------


def test_the_start_is_a_random_multiple_in_its_range() -> None:
    server_ids = set()
    for seed in range(2_000):
        rig, first = started(seed=seed)
        server_id = rig.producer_ids.server_id
        assert server_id is not None
        assert server_id % START_STEP == 0
        assert START_MIN <= server_id < START_LIMIT
        assert first == rig.producer_ids.first == server_id + 1
        server_ids.add(server_id)
    assert len(server_ids) == 2_000
    assert max(server_ids).bit_length() == 52, "the whole range is used"
    assert min(server_ids) < 1 << 43


def test_both_ends_of_the_range_can_be_drawn() -> None:
    class Edge(random.Random):
        def __init__(self, last: bool) -> None:
            super().__init__(0)
            self.last = last

        def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
            numbers = range(start, cast(int, stop), step)
            return numbers[-1 if self.last else 0]

    for last, expected in ((False, 1 << 40), (True, (1 << 52) - (1 << 20))):
        rig = StateRig()
        rig.producer_ids._rng = Edge(last)
        done(rig.producer_ids.reserve_server_id())
        assert rig.producer_ids.server_id == expected


def test_the_first_allocation_records_the_start_if_nothing_has() -> None:
    rig = StateRig()
    id_, epoch = done(rig.producer_ids.allocate())
    assert (id_ - 1, epoch) == (rig.producer_ids.server_id, 0)


def test_a_restart_keeps_the_start_from_the_log_and_from_a_snapshot() -> None:
    rig, first = started()
    for _ in range(2):
        rig.restart()
        done(rig.producer_ids.reserve_server_id())
        assert (rig.producer_ids.server_id, rig.producer_ids.first) == (first - 1, first)
        assert rig.producer_ids.snapshot() == [ProducerIdStart(first - 1, first)]
        rig.runtime.take_snapshot()
        rig.clock.run()
    assert len(rig.log.batches) <= 1, "nothing is recorded again"


def test_a_start_that_did_not_become_durable_is_drawn_again() -> None:
    rig = StateRig(auto_commit=False)
    lost = rig.producer_ids.reserve_server_id()
    drawn = rig.producer_ids.server_id
    rig.log.fail()
    assert isinstance(lost.error, StorageError)
    rig.clock.run()
    assert rig.producer_ids.server_id is None
    allocated = rig.producer_ids.allocate()
    rig.log.commit()
    assert done(allocated)[0] - 1 == rig.producer_ids.server_id != drawn


def test_without_a_recorded_start_no_id_is_allocated() -> None:
    rig = StateRig()
    rig.log.append_error = "full"
    assert isinstance(rig.producer_ids.reserve_server_id().error, StorageError)
    assert rig.producer_ids.server_id is None
    assert isinstance(rig.producer_ids.allocate().error, StorageError)
    rig.log.append_error = None
    assert done(rig.producer_ids.allocate())[0] > START_MIN


def test_an_id_below_the_start_is_not_ours() -> None:
    rig, first = started()
    done(rig.producer_ids.allocate())
    for number, foreign in enumerate((0, 7, START_MIN, first - 1), 1):
        assert done(rig.producer_ids.bump_epoch(foreign, 3)) == (first + number, 0), foreign


@pytest.mark.parametrize("auto_commit", [True, False])
def test_a_folder_of_0_1_0_keeps_its_ids(auto_commit: bool) -> None:
    rig = of_0_1_0(3 * BLOCK_IDS, auto_commit=auto_commit)
    rig.producer_ids.reserve_server_id()
    bumped, allocated = rig.producer_ids.bump_epoch(5, 1), rig.producer_ids.allocate()
    rig.log.commit()
    assert (done(bumped), done(allocated)) == ((5, 2), (3 * BLOCK_IDS, 0))
    server_id = rig.producer_ids.server_id
    assert server_id is not None
    assert START_MIN <= server_id < START_LIMIT
    assert rig.producer_ids.first == 0
    bumped = rig.producer_ids.bump_epoch(server_id, 0)
    rig.log.commit()
    assert done(bumped) == (3 * BLOCK_IDS + 1, 0)
    state = rig.state()
    for _ in range(2):
        rig.restart()
        assert rig.state() == state
        assert rig.producer_ids.server_id == server_id
        rig.runtime.take_snapshot()
        rig.clock.run()


def test_a_folder_of_0_1_0_that_has_allocated_no_id_starts_as_a_new_one() -> None:
    rig = StateRig()
    rig.create("orders")
    rig.restart()
    assert done(rig.producer_ids.allocate())[0] > START_MIN


def test_ids_that_may_be_lost_are_skipped_and_count_as_allocated() -> None:
    rig, first = started()
    done(rig.producer_ids.allocate())
    done(rig.producer_ids.skip_lost_ids())
    lost = first + BLOCK_IDS + 5
    assert done(rig.producer_ids.bump_epoch(lost, 0)) == (lost, 1)
    assert done(rig.producer_ids.allocate()) == (first + BLOCK_IDS + LOST_IDS_MAX, 0)


def test_a_folder_that_has_no_producer_ids_yet_has_none_to_skip() -> None:
    rig = StateRig()
    done(rig.producer_ids.skip_lost_ids())
    assert rig.log.batches == []

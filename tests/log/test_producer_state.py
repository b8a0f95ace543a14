"""Idempotent producers: windows, duplicates, and what a failure or a restart leaves of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.log.config import LogConfig, PartitionConfig
from mainstem.log.errors import InvalidProducerEpoch, OutOfOrderSequence
from mainstem.log.storage.producer_state import MAX_SEQUENCE
from tests.log.batches import batch, manual, offsets
from tests.log.partition_rig import PartitionRig


def test_a_duplicate_gets_the_offsets_of_the_first_batch_and_waits_for_its_commit() -> None:
    rig, committer = manual()
    partition = rig.partition
    partition.append(batch())
    first = partition.append(batch(2, producer=(9, 0, 0)))
    again = partition.append(batch(2, producer=(9, 0, 0)))
    assert (again.base_offset, again.next_offset, again.duplicate) == (first.base_offset, 3, True)
    promise = partition.when_committed(again.next_offset)
    assert not promise.done
    committer.commit()
    assert promise.done
    assert offsets(rig) == [0, 1, 2]


def test_the_window_is_five_batches_and_gaps_are_refused() -> None:
    rig = PartitionRig()
    partition = rig.partition
    placed = [partition.append(batch(producer=(9, 0, sequence))) for sequence in range(7)]
    for sequence in (2, 3, 4, 5, 6):
        assert partition.append(batch(producer=(9, 0, sequence))).base_offset == placed[sequence].base_offset
    for sequence in (0, 1, 8, 100):
        with pytest.raises(OutOfOrderSequence):
            partition.append(batch(producer=(9, 0, sequence)))
    with pytest.raises(OutOfOrderSequence):
        partition.append(batch(2, producer=(9, 0, 6)))  # another batch than the one that began there
    assert partition.log_end_offset == 7


def test_sequences_wrap() -> None:
    rig = PartitionRig()
    partition = rig.partition
    partition.append(batch(2, producer=(9, 0, MAX_SEQUENCE - 1)))
    partition.append(batch(producer=(9, 0, 0)))
    assert partition.append(batch(2, producer=(9, 0, MAX_SEQUENCE - 1))).duplicate
    partition.append(batch(3, producer=(8, 0, MAX_SEQUENCE - 1)))
    assert partition.append(batch(3, producer=(8, 0, MAX_SEQUENCE - 1))).duplicate
    assert not partition.append(batch(producer=(8, 0, 1))).duplicate


def test_a_new_epoch_begins_at_sequence_zero_and_ends_the_old_one() -> None:
    rig = PartitionRig()
    partition = rig.partition
    partition.append(batch(producer=(9, 1, 0)))
    with pytest.raises(InvalidProducerEpoch):
        partition.append(batch(producer=(9, 0, 1)))
    with pytest.raises(OutOfOrderSequence):
        partition.append(batch(producer=(9, 2, 1)))
    assert not partition.append(batch(producer=(9, 2, 0))).duplicate
    states = [
        (state.producer_id, state.producer_epoch, state.last_sequence) for state in partition.producers()
    ]
    assert states == [(9, 2, 0)]


def test_an_unknown_producer_may_begin_at_any_sequence_and_expires_by_arrival() -> None:
    rig = PartitionRig(log_config=LogConfig(producer_expiry_ms=1000))
    partition = rig.partition
    partition.append(batch(producer=(9, 0, 55), timestamp_ms=1))
    assert len(partition.producers()) == 1
    rig.clock.advance(1.0)
    assert partition.append(batch(producer=(9, 0, 55), timestamp_ms=1)).duplicate
    rig.clock.advance(0.01)
    assert partition.producers() == []
    assert not partition.append(batch(producer=(9, 0, 55), timestamp_ms=1)).duplicate


def test_windows_are_rolled_back_with_the_log() -> None:
    rig, committer = manual()
    partition = rig.partition
    partition.append(batch(producer=(9, 0, 0)))
    committer.commit()
    partition.append(batch(producer=(9, 0, 1)))
    partition.append(batch(producer=(8, 0, 0)))
    committer.fail()
    assert not partition.append(batch(producer=(9, 0, 1))).duplicate
    assert not partition.append(batch(producer=(8, 0, 7))).duplicate
    assert partition.append(batch(producer=(9, 0, 0))).duplicate


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("lose_snapshot", [True, False])
@pytest.mark.parametrize("checkpoint", [True, False])
def test_windows_survive_a_restart(clean: bool, lose_snapshot: bool, checkpoint: bool) -> None:
    rig, committer = manual(PartitionConfig(segment_bytes=600))
    for sequence in range(6):
        rig.partition.append(batch(size=50, producer=(9, 3, sequence)))
    committer.commit()
    if checkpoint:
        rig.checkpoint()
    for sequence in range(6, 10):
        rig.partition.append(batch(size=50, producer=(9, 3, sequence)))
    committer.commit(3)
    if clean:
        committer.commit()
        rig.restart()
        last = 9
    else:
        if lose_snapshot:
            rig.disk.unlink(f"{rig.partition.folder}/producers.snapshot")
        rig.crash()
        last = 8
    assert rig.partition.append(batch(size=50, producer=(9, 3, last))).duplicate
    assert rig.partition.append(batch(size=50, producer=(9, 3, last - 4))).duplicate
    assert not rig.partition.append(batch(size=50, producer=(9, 3, last + 1))).duplicate
    with pytest.raises(OutOfOrderSequence):
        rig.partition.append(batch(size=50, producer=(9, 3, last - 4)))


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_windows_agree_with_a_model(data: st.DataObject) -> None:
    rig, committer = manual(PartitionConfig(segment_bytes=700))
    sent: dict[int, list[tuple[int, int]]] = {}
    committed: dict[int, list[tuple[int, int]]] = {}
    for _ in range(data.draw(st.integers(1, 30))):
        action = data.draw(
            st.sampled_from(["append", "append", "append", "commit", "fail", "restart", "crash"])
        )
        if action == "append":
            producer = data.draw(st.integers(1, 2))
            sequence = data.draw(st.integers(0, 12))
            known = sent.get(producer, [])
            window = dict(known[-5:])
            try:
                appended = rig.partition.append(batch(producer=(producer, 0, sequence)))
            except OutOfOrderSequence:
                assert known
                assert sequence not in window
                assert sequence != known[-1][0] + 1
            else:
                if appended.duplicate:
                    assert window[sequence] == appended.base_offset
                else:
                    assert not known or sequence == known[-1][0] + 1
                    sent.setdefault(producer, []).append((sequence, appended.base_offset))
        elif action in ("commit", "restart"):
            committer.commit()
            committed = {key: list(values) for key, values in sent.items()}
            if action == "restart":
                rig.restart()
        else:
            if action == "fail":
                committer.fail()
            else:
                rig.crash()
            sent = {key: list(values) for key, values in committed.items()}

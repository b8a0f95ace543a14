"""Events that stay outstanding through very many snapshots: neither the log nor a snapshot grows."""

from __future__ import annotations

import pytest

from mainstem.coordinator.queues.records import EventsAcked, encoded
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.coordinator.runtime import snapshots as snapshots_module
from mainstem.queues.pages import PAGE_POSITIONS, PositionState
from mainstem.queues.runs import Run
from tests.coordinator.queue_rig import QueueRig
from tests.coordinator.state_rig import done

ACK_BYTES_MAX = 200
"""Of the state log, for a batch with one acknowledgement."""
PAGE_BYTES_MAX = 560
"""Of a snapshot, for a page of which every second position is done."""


def acknowledge(rig: QueueRig, view: SubscriptionView, runs: list[Run]) -> None:
    done(rig.runtime.write(lambda: ([EventsAcked(view.id, *encoded(runs))], None)))


@pytest.mark.parametrize(
    ("holes", "snapshots"), [(20_000, 60), pytest.param(10_000_000, 1_000, marks=pytest.mark.slow)]
)
@pytest.mark.timeout(600)
def test_holes_that_are_not_touched_cost_no_snapshot_more_than_the_first(
    holes: int, snapshots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots_module, "SLICE_BYTES", 1 << 22)
    rig = QueueRig()
    view = rig.view(2 * holes + snapshots)
    for first in range(0, 2 * holes, 2 * PAGE_POSITIONS):
        end = min(first + 2 * PAGE_POSITIONS, 2 * holes)
        acknowledge(rig, view, [(position, position + 1) for position in range(first + 1, end, 2)])
    view.sequence.freeze()  # as when it is idle
    for number in range(snapshots):
        position = 2 * holes + number
        acknowledge(rig, view, [(position, position + 1)])
        rig.runtime.take_snapshot()
        rig.clock.run()
        sizes = [len(data) for data in rig.disk.files.values()]
        assert max(sizes) <= (2 * holes // PAGE_POSITIONS + 2) * PAGE_BYTES_MAX
        if number > 2:  # what the kept snapshots have is deleted
            assert sum(len(batch) for _, _, batch in rig.log.batches) <= 3 * ACK_BYTES_MAX
    rig.restart()
    sequence = rig.known().sequence
    assert sequence.counts().ready == sequence.counts().outstanding == holes
    states = {sequence.state(position) for position in range(0, 2 * holes, holes // 100)}
    assert states == {PositionState.READY}
    assert sequence.state(2 * holes - 1) is sequence.state(2 * holes) is PositionState.DONE

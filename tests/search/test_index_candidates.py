"""A unit is cut down to the batches that may match, and covers the range beside them."""

from __future__ import annotations

from mainstem.search.blocks.blocks import Block
from mainstem.search.execution import WorkItem
from mainstem.search.index.candidates import cut_to_candidates
from mainstem.search.ipc import CandidateBatch, Unit


def test_an_item_with_a_candidate_before_damage_is_searched_whole() -> None:
    unit = Unit("t", 0, "x", 0, 100, 50, 60)
    item = WorkItem(unit, 0, Block("x", 0, 100, 50, 60, 0, True))
    candidates = [CandidateBatch(10, 20, 51, 52), CandidateBatch(90, 100, 58, 0)]
    assert cut_to_candidates(item, candidates, newest_first=True) == [item]
    (cut,) = cut_to_candidates(item, candidates[:1], newest_first=True)
    assert cut.unit == Unit("t", 0, "x", 10, 20, 51, 52)
    assert cut.covered == unit
    assert cut.size == 100

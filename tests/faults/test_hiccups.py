"""A short run of a disk with hiccups under full load. `python -m tests.faults.hiccups` runs an hour, and
judges the figures too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import hiccups

RUNS = 4
"""On a busy machine a run may have no sync under way during its two hiccups."""


@pytest.mark.slow
@pytest.mark.timeout(60 + 60 * RUNS)
def test_hiccups_refuse_only_the_partitions_they_hit_and_end_without_a_restart(tmp_path: Path) -> None:
    for seed in range(1, RUNS + 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        result = hiccups.run(folder, seconds=11, every_s=5, hiccup_s=0.5, seed=seed, warm_up_s=3)
        assert result.faults == []
        assert result.topics > 5
        if result.refusals:
            return
    raise AssertionError("no hiccup hit a partition: nothing was tested")

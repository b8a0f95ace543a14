"""A short run of a disk with hiccups under full load. `python -m tests.faults.hiccups` runs an hour, and
judges the figures too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import hiccups


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_hiccups_refuse_only_the_partitions_they_hit_and_end_without_a_restart(tmp_path: Path) -> None:
    result = hiccups.run(tmp_path, seconds=11, every_s=5, hiccup_s=0.5, seed=1, warm_up_s=3)
    assert result.faults == []
    assert result.refusals, "no hiccup hit a partition: nothing was tested"
    assert result.topics > 5

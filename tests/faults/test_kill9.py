"""Sudden death of the process loses nothing that was promised, with either durability.

`KILL9_SEED` repeats a run; `make soak` is the long one.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from tests.faults import kill9

KILLS = 12
SEED = int(os.environ.get("KILL9_SEED", random.randrange(1 << 32)))


def test_a_sudden_death_loses_nothing_that_was_promised(tmp_path: Path) -> None:
    ledger = kill9.run(tmp_path, durability="disk", kills=1, seed=SEED)
    assert ledger.promises


@pytest.mark.slow
@pytest.mark.timeout(60 + 30 * KILLS)
@pytest.mark.parametrize("durability", ["disk", "os"])
def test_many_sudden_deaths_lose_nothing_that_was_promised(tmp_path: Path, durability: str) -> None:
    ledger = kill9.run(tmp_path, durability=durability, kills=KILLS, seed=SEED)
    assert ledger.promises


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the helper in /proc")
def test_the_death_of_the_sync_process_loses_nothing_that_was_promised(tmp_path: Path) -> None:
    ledger = kill9.run(tmp_path, durability="disk", kills=3, seed=SEED, blow=kill9.kill_sync_process)
    assert ledger.promises

"""Sudden death of the process loses nothing that was promised, with either durability.

`KILL9_KILLS` and `KILL9_SEED` make a longer run or repeat one: `make soak` kills it 200 times.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from pathlib import Path

import pytest

from tests.faults import kill9

KILLS = int(os.environ.get("KILL9_KILLS", "12"))
A_LIFE = 15
SEED = int(os.environ.get("KILL9_SEED", random.randrange(1 << 32)))


def test_a_sudden_death_loses_nothing_that_was_promised(tmp_path: Path) -> None:
    ledger = kill9.run(tmp_path, durability="disk", kills=2, seed=SEED)
    assert ledger.promises


@pytest.mark.slow
@pytest.mark.timeout(60 + 30 * KILLS)
@pytest.mark.parametrize("durability", ["disk", "os"])
def test_many_sudden_deaths_lose_nothing_that_was_promised(tmp_path: Path, durability: str) -> None:
    for begun in range(0, KILLS, A_LIFE):  # a life is judged whole after each death: it has to stay short
        folder = tmp_path / str(begun)
        folder.mkdir()
        ledger = kill9.run(folder, durability=durability, kills=min(A_LIFE, KILLS - begun), seed=SEED + begun)
        assert ledger.promises
        shutil.rmtree(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the helper in /proc")
def test_the_death_of_the_helper_process_loses_nothing_that_was_promised(tmp_path: Path) -> None:
    ledger = kill9.run(tmp_path, durability="disk", kills=3, seed=SEED, blow=kill9.lose_the_helper)
    assert ledger.promises

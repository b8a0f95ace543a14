"""Sudden death of the server loses no event of a subscription, and brings none back.

`QUEUE_KILLS_SEED` repeats a run; `python -m tests.faults.queue_kills --kills 200` is the long one.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.faults import queue_kills

KILLS = 10
SEED = int(os.environ.get("QUEUE_KILLS_SEED", random.randrange(1 << 32)))


@pytest.mark.slow
@pytest.mark.timeout(300 + 30 * KILLS)
def test_sudden_deaths_lose_no_event_and_bring_none_back(tmp_path: Path) -> None:
    histories = queue_kills.run(tmp_path, kills=KILLS, seed=SEED)
    for history in histories:
        assert history.deaths == KILLS
        assert history.counts["done"] > 20 * KILLS, "too few events: nothing was tested"

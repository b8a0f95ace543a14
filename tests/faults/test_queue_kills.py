"""Sudden death of the server loses no event of a subscription, and brings none back.

`QUEUE_KILLS_SEED` repeats a run; `python -m tests.faults.queue_kills --kills 200` is the long one, and
`tests.faults.routed_kills` that of routed queues.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import queue_kills, routed_kills
from tests.support.server import Server

KILLS = 10
ROUTED_KILLS = 6
SEED = int(os.environ.get("QUEUE_KILLS_SEED", random.randrange(1 << 32)))


@pytest.mark.slow
@pytest.mark.timeout(300 + 30 * KILLS)
def test_sudden_deaths_lose_no_event_and_bring_none_back(tmp_path: Path) -> None:
    histories = queue_kills.run(tmp_path, kills=KILLS, seed=SEED)
    for history in histories:
        assert history.deaths == KILLS
        assert history.counts["done"] > 20 * KILLS, "too few events: nothing was tested"


@pytest.mark.slow
@pytest.mark.timeout(300 + 30 * ROUTED_KILLS)
def test_sudden_deaths_lose_no_event_of_a_routed_queue(tmp_path: Path) -> None:
    """And the folder that is left is whole, and its copy serves."""
    histories = queue_kills.run(tmp_path, kills=ROUTED_KILLS, seed=SEED, rig=routed_kills.RIG)
    for history in histories:
        assert history.deaths == ROUTED_KILLS
        assert history.counts["done"] > 20 * ROUTED_KILLS, "too few events: nothing was tested"
    data, copy, restored = (str(tmp_path / name) for name in ("data", "copy", "restored"))
    assert os.listdir(f"{data}/routed")
    for command in (
        ["doctor", "--data", data],
        ["backup", data, copy],
        ["restore", copy, restored],
        ["doctor", "--data", restored],
    ):
        call = [sys.executable, "-m", "mainstem", *command]
        result = subprocess.run(call, capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "routed" not in result.stdout
    assert not os.path.exists(f"{restored}/routed"), "it is derived"
    server = Server(restored, http="127.0.0.1:0")
    server.module = routed_kills.RIG.module
    with server, contextlib.closing(queue_kills.QueueApi(server.http)) as api:
        for name in routed_kills.RIG.subscriptions:
            assert not api.depth(name).total()
        event = {"key": "k", "value": "new", "queues": list(routed_kills.QUEUES)}
        sent = {"namespace": routed_kills.SPACE, "topic": routed_kills.TOPIC, "events": [event]}
        api.call("/routed:publish", sent)
        for name in routed_kills.RIG.subscriptions:
            assert api.depth(name).total() == 1

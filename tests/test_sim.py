"""`make sim SEED=N` repeats a simulated run exactly."""

from __future__ import annotations

import os
import subprocess
import sys

from tests import sim


def output(seed: int, hash_seed: str) -> list[str]:
    command = [sys.executable, "-m", "tests.sim", "--seed", str(seed)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": hash_seed}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_seed_gives_the_same_digests_in_every_process() -> None:
    lines = output(7, "1")
    assert [line.split()[0] for line in lines] == list(sim.RUNS)
    assert output(7, "2") == lines


def test_another_seed_gives_another_run() -> None:
    assert sim.run_log(1).digest != sim.run_log(2).digest
    assert sim.run_log(1) == sim.run_log(1)

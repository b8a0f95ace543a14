"""`python -m tests.sim --seed N` (`make sim SEED=N`): repeats the simulated runs of one seed.

Each run does at random what a server does, on a simulated disk and clock, with crashes and failing syncs, and
is judged after every start. One line for each: a digest of everything that it did to its disk, which is the
same whenever that seed is run by the same code, and what happened. A run that breaks a promise ends with a
traceback and exit code 1. With `--count 10000` as many seeds are run, from N on, and failures are counted.
"""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
from collections.abc import Callable
from typing import NamedTuple
from unittest.mock import patch

from mainstem.log.commit import journal
from tests.coordinator.seeds import small
from tests.coordinator.test_crashes import CoordinatorRun
from tests.engines import test_queue_checker, test_queue_key_order
from tests.engines.test_queue_checker import QueueHistory
from tests.log import test_backup, test_log_model
from tests.log.test_log_model import EagerCommitLogRun, RandomLogRun

PROGRESS_SEEDS = 100


class SimulationResult(NamedTuple):
    """What one run did."""

    digest: str
    summary: str


def _log_result(run: RandomLogRun) -> SimulationResult:
    crashes = f"{run.crashes['power']} power cuts, {run.crashes['kill']} kills"
    summary = f"durability {run.durability}, faults: {run.faults}; {run.starts} starts, {crashes}"
    return SimulationResult(run.disk.history.hexdigest(), summary)


def run_log(seed: int, kind: type[RandomLogRun] = RandomLogRun) -> SimulationResult:
    """The log: appends, deletions, checkpoints, failing syncs."""
    return _log_result(test_log_model.seed_run(seed, kind))


def run_eager_log(seed: int) -> SimulationResult:
    """The log where each commit begins at once."""
    with patch.object(journal, "SINGLE_WRITER_GROUPS", 0):
        return run_log(seed, EagerCommitLogRun)


def run_backup(seed: int) -> SimulationResult:
    """The log with backups made at any time."""
    run = test_backup.seed_run(seed)
    result = _log_result(run)
    return result._replace(summary=f"{result.summary}, {run.made} backups")


def run_node(seed: int) -> SimulationResult:
    """A node with its coordinator: topics, settings, groups, positions, producer ids, snapshots."""
    with small():
        run = CoordinatorRun(seed, "os" if seed % 3 == 0 else "disk")
        run.run()
    summary = f"durability {run.durability}; {run.starts} starts"
    return SimulationResult(run.disk.history.hexdigest(), summary)


def _queue_result(history: QueueHistory) -> SimulationResult:
    summary = (
        f"{history.crashes} crashes, {history.deliveries} deliveries, {len(history.rejected)} rejections"
    )
    return SimulationResult(history.server.disk.history.hexdigest(), summary)


def run_queues(seed: int) -> SimulationResult:
    """A subscription: deliveries and answers of every kind."""
    return _queue_result(test_queue_checker.seed_run(seed))


def run_keyed_queues(seed: int) -> SimulationResult:
    """A subscription in key order."""
    return _queue_result(test_queue_key_order.seed_run(seed))


RUNS: dict[str, Callable[[int], SimulationResult]] = {
    "log": run_log,
    "eager-log": run_eager_log,
    "backup": run_backup,
    "node": run_node,
    "queues": run_queues,
    "queues-by-key": run_keyed_queues,
}


def main() -> int:
    """Repeat what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--run", choices=RUNS, action="append", help="this run alone; may be given again")
    parser.add_argument("--count", type=int, default=1, help="run this many seeds, and print those that fail")
    arguments = parser.parse_args()
    logging.disable()
    names, failures = arguments.run or list(RUNS), 0
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        failures += sum(not is_good(name, seed, shows=arguments.count == 1) for name in names)
        if arguments.count > 1 and not (seed + 1 - arguments.seed) % PROGRESS_SEEDS:
            print(f"{seed + 1 - arguments.seed} seeds, {failures} failures", flush=True)
    if arguments.count > 1:
        print(f"{arguments.count} seeds of {', '.join(names)}: {failures} failures")
    return 1 if failures else 0


def is_good(name: str, seed: int, *, shows: bool) -> bool:
    """Whether a run breaks no promise. Prints what it did if it does, or `shows` says so."""
    try:
        result = RUNS[name](seed)
    except Exception:
        traceback.print_exc()
        print(f"{name:<10} seed {seed}: a promise was broken", flush=True)
        return False
    if shows:
        print(f"{name:<10} seed {seed}: {result.digest}  {result.summary}", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())

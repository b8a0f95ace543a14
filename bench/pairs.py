"""Compares two checkouts of mainstem by interleaved pairs: `python -m bench.pairs OLD NEW [--pairs N]`.

Each pair runs the produce, fetch and single-event workloads once in each checkout, with that checkout's own
bench clients and the environment of this process; the order alternates. A machine that becomes slower during
the run slows both, so the median of the ratios is what to look at. Prints every pair. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROWS = (
    "in, 1 KB events",
    "in, server CPU",
    "out, 1 KB events, hot",
    "out, server CPU",
    "one event acknowledged, p50",
    "100 producers of single events",
)
PROMISES = ("page cache", "on disk")
PROGRAM = """
import json, sys
from bench.__main__ import measure
from bench.contestants import named
from bench.workloads import in_and_out, one_by_one
figures, notes = measure([((in_and_out, one_by_one), named(["mainstem"]), 1)], float(sys.argv[1]))
assert not notes, notes
rows = figures.rows.items()
print(json.dumps({f"{promise}: {what}": row.runs["mainstem"][0] for (promise, what), row in rows}))
"""
"""Runs in a checkout; the names that it imports are in every checkout since 0.1.0."""


def measure_checkout(checkout: Path, scale: float) -> dict[str, float]:
    """The figures of one run, by row. RuntimeError: the run failed."""
    environ = {**os.environ, "PYTHONPATH": f"{checkout / 'src'}{os.pathsep}{checkout}"}
    command = [sys.executable, "-c", PROGRAM, str(scale)]
    done = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{checkout}: {done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Run the pairs and print them, then the medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.pairs", description=__doc__)
    parser.add_argument("old", type=Path, help="a checkout, such as a git worktree of an earlier commit")
    parser.add_argument("new", type=Path, help="the checkout to compare with it")
    parser.add_argument("--pairs", type=int, default=20, help="number of pairs")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the amount of data")
    options = parser.parse_args()
    checkouts = (options.old.resolve(), options.new.resolve())
    rows = [f"{promise}: {row}" for promise in PROMISES for row in ROWS]
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    for number in range(options.pairs):
        order = checkouts if number % 2 == 0 else checkouts[::-1]
        figures = {checkout: measure_checkout(checkout, options.scale) for checkout in order}
        pairs.append((figures[checkouts[0]], figures[checkouts[1]]))
        old, new = pairs[-1]
        print(f"{number + 1:2}", *(f"{old[row]:.4g}>{new[row]:.4g}" for row in rows), flush=True)
    print("\nthe columns above, old>new; medians of old, new and new/old:")
    for row in rows:
        ratios = [new[row] / old[row] for old, new in pairs]
        old_median, new_median = (statistics.median(pair[side][row] for pair in pairs) for side in (0, 1))
        print(f"{row:45} {old_median:9.4g} {new_median:9.4g} {statistics.median(ratios):6.3f}")


if __name__ == "__main__":
    main()

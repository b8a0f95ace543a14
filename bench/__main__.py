"""The `python -m bench` command: runs the workloads and prints the tables.

python -m bench [--full] [--repeats N] [--only NAME ...] [--scale X] [--report]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import bars, limits, report
from bench.contestants import CONTESTANTS, VERSIONS, Contestant, named, present
from bench.figures import PROMISES, Figures, aligned
from bench.full import FOR_ALL, FULL
from bench.restart import STARTS, restarts
from bench.servers import Missing
from bench.workloads import AFTERWARDS, DEFAULT, Visit, Workload

Round = tuple[Sequence[Workload], Sequence[Contestant], int]
"""Workloads, the contestants that they run on, and how often."""


def measure(rounds: Sequence[Round], scale: float) -> tuple[Figures, list[str]]:
    """Run all rounds, the servers in turn (A B A B), each started fresh. Returns the figures, and a line for
    each server that is missing or failed."""
    figures = Figures()
    missing: dict[str, str] = {}
    turns = [
        (workloads, contestant)
        for workloads, contestants, repeats in rounds
        for _ in range(repeats)
        for contestant in contestants
    ]
    for workloads, contestant in turns:
        label = f"{contestant.name}, {contestant.promise}"
        if contestant.name in missing:
            continue
        began = time.monotonic()
        durations: list[str] = []
        try:
            _visit(contestant, workloads, figures, scale, durations)
        except Missing as reason:
            missing[contestant.name] = f"{contestant.name} is missing: {reason}"
        except (OSError, RuntimeError) as error:
            missing.setdefault(label, f"{label}: {error}")
        _log(f"{time.monotonic() - began:5.1f} s  {label}: {', '.join(durations)}")
    return figures, list(missing.values())


def _visit(
    contestant: Contestant,
    workloads: Sequence[Workload],
    figures: Figures,
    scale: float,
    durations: list[str],
) -> None:
    with contestant.start() as server:
        visit = Visit(contestant, server, figures, scale)
        for workload in workloads:
            began = time.monotonic()
            workload(visit)
            durations.append(f"{workload.__name__} {time.monotonic() - began:.1f}")


def _log(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def machine_description() -> str:
    """The machine and the versions of libraries, in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.machine()
    libraries = ", ".join(f"{name} {version(name)}" for name in ("uvloop", "crc32c", "confluent-kafka"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores of {cpu}, shared with the client, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {libraries}"
    )


def versions(figures: Figures) -> str:
    """The versions of the servers that have figures, in one line."""
    measured = {server for promise in PROMISES for server in present(figures, promise)}
    return ", ".join(f"{name} {VERSIONS[name]()}" for name in VERSIONS if name in measured)


def main() -> None:
    """Measure, print and, with --report, write the report."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure speed and memory beside the peers. Asserts nothing."
    )
    parser.add_argument("--full", action="store_true", help="every workload (about an hour)")
    parser.add_argument(
        "--repeats",
        type=int,
        default=1,
        help="how often each server runs the default workloads; the others run once",
    )
    names = list(dict.fromkeys(contestant.name for contestant in CONTESTANTS))
    parser.add_argument("--only", nargs="+", choices=names, default=[], help="measure only these servers")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="factor for the amount of data; 0.01 for a quick look"
    )
    parser.add_argument("--report", action="store_true", help=f"write {report.PAGE.name} and its plots")
    options = parser.parse_args()
    contestants = named(options.only)
    kafkas = [contestant for contestant in contestants if contestant.speaks_kafka]
    rounds: list[Round] = [(DEFAULT, contestants, options.repeats), (AFTERWARDS, kafkas, options.repeats)]
    if options.full:
        rounds += [((workload,), contestants if workload in FOR_ALL else kafkas, 1) for workload in FULL]
    began = time.monotonic()
    machine = limits.limits(max(100, round(1000 * options.scale)))
    figures, notes = measure(rounds, options.scale)
    if options.full:
        for contestant in kafkas:
            if contestant.name in STARTS:
                _log(f"{contestant.name}, {contestant.promise}: starting with data")
                restarts(contestant, figures, options.scale)
    print(f"{machine_description()}\n{versions(figures)}")
    for promise, text in PROMISES.items():
        print(f"\n{text}:")
        print(aligned(figures.table(promise, present(figures, promise))))
    print(
        "\nThe machine itself: "
        + "; ".join(f"{what} {value:,.3g} {unit}" for what, (value, unit) in machine.items())
    )
    print("\n" + aligned(bars.verdicts(figures, machine)))
    for note in notes:
        print(f"! {note}")
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes")
    if options.report:
        turns = f"the default work {options.repeats} times, the rest once" if options.full else ""
        size = f"{options.scale:g} of the full amount of data" if options.scale != 1 else ""
        text = "; ".join(filter(None, (machine_description(), turns, size)))
        report.write(figures, machine, notes, f"{text}. Servers: {versions(figures)}")


if __name__ == "__main__":
    main()

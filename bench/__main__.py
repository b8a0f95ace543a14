"""`python -m bench`: do the work, print the tables.

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
"""What is done to whom, and how often."""


def measure(rounds: Sequence[Round], scale: float) -> tuple[Figures, list[str]]:
    """All rounds, the servers in turn (A B A B), each started fresh. Also says who is missing, and what
    failed."""
    figures = Figures()
    missing: dict[str, str] = {}
    turns = [(works, one) for works, them, repeats in rounds for _ in range(repeats) for one in them]
    for works, contestant in turns:
        who = f"{contestant.name}, {contestant.promise}"
        if contestant.name in missing:
            continue
        began = time.monotonic()
        took: list[str] = []
        try:
            _visit(contestant, works, figures, scale, took)
        except Missing as why:
            missing[contestant.name] = f"{contestant.name} is missing: {why}"
        except (OSError, RuntimeError) as error:
            missing.setdefault(who, f"{who}: {error}")
        _say(f"{time.monotonic() - began:5.1f} s  {who}: {', '.join(took)}")
    return figures, list(missing.values())


def _visit(
    contestant: Contestant, works: Sequence[Workload], figures: Figures, scale: float, took: list[str]
) -> None:
    with contestant.start() as server:
        visit = Visit(contestant, server, figures, scale)
        for work in works:
            began = time.monotonic()
            work(visit)
            took.append(f"{work.__name__} {time.monotonic() - began:.1f}")


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def where() -> str:
    """Machine and versions, in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.machine()
    libraries = ", ".join(f"{name} {version(name)}" for name in ("uvloop", "crc32c", "confluent-kafka"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores of {cpu}, shared with the client, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {libraries}"
    )


def versions(figures: Figures) -> str:
    """Of the servers that have figures, in one line."""
    found = {one for promise in PROMISES for one in present(figures, promise)}
    return ", ".join(f"{name} {VERSIONS[name]()}" for name in VERSIONS if name in found)


def main() -> None:
    """Measure, print and, if asked to, write the report."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="How fast, how small, beside its peers. Asserts nothing."
    )
    parser.add_argument("--full", action="store_true", help="every workload (about an hour)")
    parser.add_argument(
        "--repeats",
        type=int,
        default=1,
        help="turns of each server at the default work; the rest is done once",
    )
    names = list(dict.fromkeys(one.name for one in CONTESTANTS))
    parser.add_argument("--only", nargs="+", choices=names, default=[], help="leave the other servers out")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the work; 0.01 to see it run")
    parser.add_argument("--report", action="store_true", help=f"write {report.PAGE.name} and its plots")
    options = parser.parse_args()
    who = named(options.only)
    kafkas = [one for one in who if one.speaks_kafka]
    rounds: list[Round] = [(DEFAULT, who, options.repeats), (AFTERWARDS, kafkas, options.repeats)]
    if options.full:
        rounds += [((work,), who if work in FOR_ALL else kafkas, 1) for work in FULL]
    began = time.monotonic()
    machine = limits.limits(max(100, round(1000 * options.scale)))
    figures, notes = measure(rounds, options.scale)
    if options.full:
        for one in kafkas:
            if one.name in STARTS:
                _say(f"{one.name}, {one.promise}: starting with data")
                restarts(one, figures, options.scale)
    print(f"{where()}\n{versions(figures)}")
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
        text = "; ".join(filter(None, (where(), turns, size)))
        report.write(figures, machine, notes, f"{text}. Servers: {versions(figures)}")


if __name__ == "__main__":
    main()

"""`python -m bench`: do the work, print the table.

python -m bench [--repeats N] [--large] [--only mainstem] [--report]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import servers, work

REPORT = Path(__file__).with_name("REPORT.md")
GB = 1_000_000_000


def measure(names: list[str], repeats: int, large: bool) -> work.Table:
    """All the work, the servers in turn."""
    table = work.Table()
    starts: dict[str, work.Start] = {"mainstem": servers.mainstem, "Apache Kafka": servers.apache}
    steps: list[tuple[str, Callable[[str, work.Start], None]]] = [
        ("idle", lambda name, start: work.idle(table, name, start)),
        ("in and out, os", lambda name, start: work.in_and_out(table, name, start, "os", GB)),
        ("in, disk", lambda name, start: work.in_and_out(table, name, start, "disk", GB // 2)),
        ("100 partitions, os", lambda name, start: work.many_partitions(table, name, start, "os", GB // 2)),
        (
            "100 partitions, disk",
            lambda name, start: work.many_partitions(table, name, start, "disk", GB // 4),
        ),
        ("one by one, os", lambda name, start: work.one_by_one(table, name, start, "os", 5000)),
        ("one by one, disk", lambda name, start: work.one_by_one(table, name, start, "disk", 5000)),
    ]
    work.machine(table)
    for step, do in steps:
        for _ in range(repeats):
            for name in names:
                _say(f"{step}: {name}")
                do(name, starts[name])
    _say("start with data")
    work.kept(table, 10 * GB if large else GB)
    return table


def _say(text: str) -> None:
    print(f"  {text} ...", file=sys.stderr, flush=True)


def rows(table: work.Table, names: list[str]) -> list[list[str]]:
    """The table as text: one row a figure, the ratio to the last server if there are two."""
    head = ["", "unit", *names, *(["ratio"] if len(names) > 1 else []), f"spread of {names[0]}", "aim"]
    found = [head]
    for figure in table.values():
        shown = [figure.median(name) for name in names]
        if all(value is None for value in shown):
            shown[0] = figure.median("the disk")
        cells = [number(value) for value in shown]
        if len(names) > 1:
            first, last = shown[0], shown[-1]
            cells.append(f"{first / last:.2f}" if first is not None and last else "")
        runs = next(iter(figure.runs.values()))
        spread = f"{number(min(runs))}..{number(max(runs))}" if len(runs) > 1 else ""
        sign = {"more": "≥ ", "less": "≤ "}[figure.better] if figure.bar else ""
        found.append([figure.what, figure.unit, *cells, spread, sign + figure.bar])
    return found


def number(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def where() -> str:
    """Machine and versions, in one line."""
    processor = platform.processor() or platform.machine()
    libraries = ", ".join(f"{name} {version(name)}" for name in ("uvloop", "crc32c"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores {processor} shared with the client, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {libraries}"
    )


def main() -> None:
    """Measure, print and, if asked to, write the report."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="How fast, how small. Asserts nothing."
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each figure")
    parser.add_argument("--large", action="store_true", help="start with 10 GB instead of 1 GB")
    parser.add_argument("--only", choices=["mainstem"], help="leave the other servers out")
    parser.add_argument("--report", action="store_true", help=f"write {REPORT.name}")
    options = parser.parse_args()
    names = ["mainstem"]
    if options.only is None:
        if servers.apache_kafka_is_here():
            names.append("Apache Kafka")
        else:
            print("Apache Kafka is missing (make deps-all): mainstem alone", file=sys.stderr)
    found = rows(measure(names, options.repeats, options.large), names)
    widths = [max(len(row[column]) for row in found) for column in range(len(found[0]))]
    print(where())
    for row in found:
        print(
            "  ".join(
                cell.ljust(width) if not at else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )
    if options.report:
        lines = ["| " + " | ".join(row) + " |" for row in found]
        lines.insert(1, "|" + "---|" * len(found[0]))
        text = "\n".join(
            ["# How fast, how small", "", f"`python -m bench --report`: {where()}.", "", *lines, ""]
        )
        REPORT.write_text(text)


if __name__ == "__main__":
    main()

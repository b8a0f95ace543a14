"""The figures measured, by name and server, with every run, and their tables.

Two promises are never mixed: an acknowledged event is in memory or the page cache, or it is on disk.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

DurabilityPromise = Literal["page cache", "on disk"]
PROMISES: dict[DurabilityPromise, str] = {
    "page cache": "An acknowledged event is in memory or the page cache: a power cut takes it",
    "on disk": "An acknowledged event is on disk",
}
Better = Literal["more", "less"]


@dataclass(slots=True)
class Figure:
    """One row: the quantity, its unit, and the value of each run."""

    what: str
    unit: str
    better: Better
    runs: dict[str, list[float]] = field(default_factory=dict)
    """Server -> value of each run."""

    def median(self, server: str) -> float | None:
        """The median of the runs of `server`; None without a run."""
        return statistics.median(self.runs[server]) if self.runs.get(server) else None

    def spread(self, server: str) -> str:
        """Smallest and largest value of `server`, if it ran more than once."""
        runs = self.runs.get(server, [])
        return f"{number(min(runs))}..{number(max(runs))}" if len(runs) > 1 else ""


@dataclass(frozen=True, slots=True)
class Detail:
    """Rate, latency, CPU and memory of one run of a workload of many requests."""

    rate: float
    """MB of values per second."""
    p50_ms: float | None
    """From a request to its reply, while others are under way; None: the client does not measure it."""
    p99_ms: float | None
    p999_ms: float | None
    cpu_s_per_gb: float
    """CPU seconds per GB of values, of the server and its child processes."""
    peak_mb: float
    """Largest resident memory during the workload."""


class Figures:
    """All rows, by promise, in the order in which they were first added."""

    def __init__(self) -> None:
        self.rows: dict[tuple[DurabilityPromise, str], Figure] = {}
        self.details: dict[tuple[DurabilityPromise, str], dict[str, list[Detail]]] = {}

    def add(
        self, promise: DurabilityPromise, server: str, what: str, unit: str, better: Better, value: float
    ) -> None:
        """Add the value of one more run."""
        row = self.rows.setdefault((promise, what), Figure(what, unit, better))
        row.runs.setdefault(server, []).append(value)

    def detail(self, promise: DurabilityPromise, server: str, what: str, detail: Detail) -> None:
        """Add the details of one more run; a row has its rate."""
        self.details.setdefault((promise, what), {}).setdefault(server, []).append(detail)

    def detailed(self, promise: DurabilityPromise) -> list[list[str]]:
        """Header and rows as text: for each workload and server the run with the median rate."""
        rows = [
            ["", "server", "MB/s", "p50 ms", "p99 ms", "p99.9 ms", "server CPU s/GB", "resident at most MB"]
        ]
        for (of, what), runs in self.details.items():
            for index, (server, details) in enumerate(runs.items() if of == promise else ()):
                middle = sorted(details, key=lambda detail: detail.rate)[len(details) // 2]
                values = (getattr(middle, column.name) for column in fields(middle))
                rows.append(["" if index else what, server, *map(number, values)])
        return rows

    def median(self, promise: DurabilityPromise, what: str, server: str) -> float | None:
        """The median of a figure; None: it was not measured."""
        row = self.rows.get((promise, what))
        return None if row is None else row.median(server)

    def table(self, promise: DurabilityPromise, servers: Sequence[str]) -> list[list[str]]:
        """Header and rows as text; the last column is the spread of the first server."""
        table = [["", "unit", *servers, f"{servers[0]}, spread"]]
        for (of, _), row in self.rows.items():
            if of == promise:
                cells = [number(row.median(server)) for server in servers]
                table.append([row.what, row.unit, *cells, row.spread(servers[0])])
        return table


def number(value: float | None) -> str:
    """`value` with three significant digits; empty for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """The rows as columns for a terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" + "|---:" * (len(rows[0]) - 1) + "|")
    return "\n".join(lines)

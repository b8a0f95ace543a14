"""What was measured: figures by name and by server, each run kept, and how they are shown.

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
    """One row: what, in which unit, and what each run gave."""

    what: str
    unit: str
    better: Better
    runs: dict[str, list[float]] = field(default_factory=dict)
    """Server -> value of each run."""

    def median(self, server: str) -> float | None:
        """The middle of its runs."""
        return statistics.median(self.runs[server]) if self.runs.get(server) else None

    def spread(self, server: str) -> str:
        """Smallest and largest, if it ran more than once."""
        runs = self.runs.get(server, [])
        return f"{number(min(runs))}..{number(max(runs))}" if len(runs) > 1 else ""


@dataclass(frozen=True, slots=True)
class Detail:
    """All that is known of one run of a work of many requests."""

    rate: float
    """MB of values a second."""
    p50_ms: float | None
    """From sending a request to its answer, while others are on their way; None: the client does not look."""
    p99_ms: float | None
    p999_ms: float | None
    cpu_s_per_gb: float
    """Of the server and its helpers."""
    peak_mb: float
    """Resident at most, in this work."""


class Figures:
    """All rows, by promise, in the order in which they first came."""

    def __init__(self) -> None:
        self.rows: dict[tuple[DurabilityPromise, str], Figure] = {}
        self.details: dict[tuple[DurabilityPromise, str], dict[str, list[Detail]]] = {}

    def add(
        self, promise: DurabilityPromise, server: str, what: str, unit: str, better: Better, value: float
    ) -> None:
        """One more run."""
        row = self.rows.setdefault((promise, what), Figure(what, unit, better))
        row.runs.setdefault(server, []).append(value)

    def detail(self, promise: DurabilityPromise, server: str, what: str, detail: Detail) -> None:
        """The whole of one more run, of which a row has the rate."""
        self.details.setdefault((promise, what), {}).setdefault(server, []).append(detail)

    def detailed(self, promise: DurabilityPromise) -> list[list[str]]:
        """Head and rows as text: for each work and server the run with the middle rate."""
        found = [
            ["", "server", "MB/s", "p50 ms", "p99 ms", "p99.9 ms", "server CPU s/GB", "resident at most MB"]
        ]
        for (of, what), runs in self.details.items():
            for at, (server, them) in enumerate(runs.items() if of == promise else ()):
                middle = sorted(them, key=lambda each: each.rate)[len(them) // 2]
                values = (getattr(middle, each.name) for each in fields(middle))
                found.append(["" if at else what, server, *map(number, values)])
        return found

    def median(self, promise: DurabilityPromise, what: str, server: str) -> float | None:
        """None: it was not measured."""
        row = self.rows.get((promise, what))
        return None if row is None else row.median(server)

    def table(self, promise: DurabilityPromise, servers: Sequence[str]) -> list[list[str]]:
        """Head and rows as text; the last column is the spread of the first server."""
        found = [["", "unit", *servers, f"{servers[0]}, spread"]]
        for (of, _), row in self.rows.items():
            if of == promise:
                cells = [number(row.median(server)) for server in servers]
                found.append([row.what, row.unit, *cells, row.spread(servers[0])])
        return found


def number(value: float | None) -> str:
    """Three digits that count; nothing for what was not measured."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """For a terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """For a page."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" + "|---:" * (len(rows[0]) - 1) + "|")
    return "\n".join(lines)

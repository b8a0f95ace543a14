"""The bars: the ratios within one run that the project aims for, and whether they are reached."""

from __future__ import annotations

from dataclasses import dataclass

from bench import limits
from bench.contestants import KAFKA, MAINSTEM, NATS, TANSU
from bench.figures import DurabilityPromise, Figures, number


@dataclass(frozen=True, slots=True)
class Bar:
    """The figure `what` of mainstem against that of `peer`: at least (`more`) or at most `factor` times it,
    plus `plus`."""

    what: str
    promise: DurabilityPromise
    peer: str
    """A contestant, or a limit of the machine."""
    more: bool
    factor: float = 1.0
    plus: float = 0.0


BARS = (
    Bar("in, 1 KB events", "page cache", KAFKA, True, 1.5),
    Bar("in, 1 KB events", "page cache", TANSU, True, 1.0),
    Bar("out, 1 KB events, hot", "page cache", KAFKA, True, 1.3),
    Bar("out, 1 KB events, hot", "page cache", TANSU, True, 1.0),
    Bar("in and out, server CPU", "page cache", KAFKA, False, 0.5),
    Bar("one event acknowledged, p50", "page cache", KAFKA, False, 0.5),
    Bar("one event acknowledged, p99", "page cache", KAFKA, False, 0.5),
    Bar("one event acknowledged, p50", "on disk", limits.OVERWRITE, False, 1.0, 0.15),
    Bar("one event acknowledged, p50", "on disk", limits.APPEND, False, 1.0),
    Bar("in, 1 KB events", "on disk", KAFKA, True, 2.0),
    Bar("in, 100 partitions, 16 KB batches", "on disk", KAFKA, True, 2.0),
    Bar("in, 1,000 partitions, 16 KB batches", "on disk", KAFKA, True, 2.0),
    Bar("100 producers of single events", "page cache", KAFKA, True, 1.0),
    Bar("100 producers of single events", "on disk", KAFKA, True, 2.0),
    Bar("end to end at 30 % load, p99", "page cache", KAFKA, False, 0.5),
    Bar("start to first acknowledged event", "page cache", KAFKA, False, 0.1),
    Bar("start to first acknowledged event", "page cache", NATS, False, 1.0, 0.3),
    Bar("resident, idle", "page cache", KAFKA, False, 0.2),
    Bar("resident at most", "page cache", KAFKA, False, 0.25),
)


def verdicts(figures: Figures, machine: limits.Limits) -> list[list[str]]:
    """Header and rows as text: the work, both figures, their ratio, the bar, whether it is held."""
    rows = [["work", "promise", MAINSTEM, "against", "its figure", "ratio", "aim", ""]]
    for bar in BARS:
        ours = figures.median(bar.promise, bar.what, MAINSTEM)
        limit = machine.get(bar.peer)
        theirs = limit[0] if limit else figures.median(bar.promise, bar.what, bar.peer)
        sign = "≥" if bar.more else "≤"
        text = f"{sign} {bar.factor:g} ×" if not bar.plus else f"{sign} + {bar.plus:g}"
        row = [bar.what, bar.promise, number(ours), bar.peer, number(theirs)]
        if ours is None or theirs is None:
            rows.append([*row, "", text, "not measured"])
            continue
        edge = theirs * bar.factor + bar.plus
        is_held = ours >= edge if bar.more else ours <= edge
        rows.append([*row, f"{ours / theirs:.2f}", text, "held" if is_held else "MISSED"])
    return rows

"""Share groups beside those of Apache Kafka, in the same run: `python -m bench.share_groups [--scale X]`.

One client drives both by prebuilt requests and looks at no record, so that the figures are the servers'.
Rates are per second of the server's CPU time (all of its processes and threads), and by the clock. Both run
with their defaults; only the time of the locks is longer.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.compat.share_lab import ACCEPT, REJECT, Lab, LabMember

from bench import servers
from bench.servers import Missing, ServerUnderTest

BATCH = 500
Figures = dict[str, float]
"""What was measured -> figure."""


def _filled(server: ServerUnderTest, name: str, records: int, batch: int = BATCH) -> Lab:
    lab = Lab(server.address, name, partitions=1)
    lab.produce(*[batch] * (records // batch), size=100)
    return lab


def _ranges(fetched: Any) -> list[tuple[int, int]]:
    return [(first, last) for first, last, _ in fetched[0][1]] if fetched and fetched[0] != "error" else []


def _consume(
    member: LabMember, records: int, types: Callable[[int], list[int]], *, idle_fetches: int = 3
) -> int:
    """Acquire and acknowledge until there were `records`, or nothing came for a while."""
    seen = idle = 0
    acks: dict[int, list[tuple[int, int, list[int]]]] = {}
    while seen < records and idle < idle_fetches:
        ranges = _ranges(member.fetch([0], acks, max_records=BATCH, batch_size=BATCH))
        acks = {0: [(first, last, types(last - first + 1)) for first, last in ranges]} if ranges else {}
        count = sum(last - first + 1 for first, last in ranges)
        seen += count
        idle = 0 if count else idle + 1
    if acks:
        member.acknowledge(acks)
    return seen


def _rates(server: ServerUnderTest, name: str, records: int, types: Callable[[int], list[int]]) -> Figures:
    lab = _filled(server, name, records)
    member = lab.member("m1")
    member.fetch(max_records=0)
    cpu_s, wall_s = server.cpu_s(), time.perf_counter()
    seen = _consume(member, records, types)
    cpu_s, wall_s = server.cpu_s() - cpu_s, time.perf_counter() - wall_s
    lab.close()
    return {"k records/s of CPU": seen / max(cpu_s, 0.01) / 1e3, "k records/s": seen / wall_s / 1e3}


def _single(count: int) -> list[int]:
    """A type for each record, of two kinds in turn, so that no range is left."""
    return [ACCEPT if number % 2 else REJECT for number in range(count)]


def _while_one_is_locked(server: ServerUnderTest, records: int) -> Figures:
    """One record is locked: how many of the others another member gets."""
    lab = _filled(server, "locked", records, batch=100)
    holder, other = lab.member("holder"), lab.member("other")
    while not _ranges(holder.fetch(max_records=1, share_acquire_mode=1)):
        pass
    begin = time.perf_counter()
    seen = _consume(other, records - 1, lambda count: [ACCEPT])
    seconds = time.perf_counter() - begin
    lab.close()
    return {"others delivered": seen, "of": records - 1, "s": seconds}


def figures(server: ServerUnderTest, scale: float) -> Iterator[tuple[str, Figures]]:
    """All measurements of one server, (what, figures)."""
    records = max(5_000, int(200_000 * scale) // BATCH * BATCH)
    _rates(server, "warm", max(5_000, records // 4), lambda count: [ACCEPT])
    yield "acquire 500, accept the range", _rates(server, "ranges", records, lambda count: [ACCEPT])
    yield "acquire 500, answer each", _rates(server, "singles", records, _single)
    yield "one record locked", _while_one_is_locked(server, max(5_000, int(20_000 * scale)))
    yield "resident afterwards", {"MB": server.resident_mb()}


def rows(scale: float) -> Iterator[tuple[str, str, float | None, float | None, str]]:
    """(work, unit, mainstem's figure, Apache Kafka's, why a figure is missing), one after the other in this
    run."""
    measured: list[dict[tuple[str, str], float]] = []
    reason = ""
    for started in (servers.mainstem, servers.apache):
        measured.append({})
        with contextlib.ExitStack() as stack:
            try:
                server = stack.enter_context(started("os"))
            except Missing as missing:
                reason = str(missing)
                continue
            for what, of_work in figures(server, scale):
                measured[-1].update({(what, unit): value for unit, value in of_work.items()})
    ours, theirs = measured
    for what, unit in ours or theirs:
        yield what, unit, ours.get((what, unit)), theirs.get((what, unit)), reason


def print_table(scale: float) -> None:
    """Prints what was measured, with the ratio of both servers; loudly where one was not there."""
    print("| share groups | unit | mainstem | Apache Kafka | ratio |\n|---|---|---|---|---|")
    for what, unit, ours, theirs, reason in rows(scale):
        if ours is None or theirs is None:
            here = " | ".join(f"NOT MEASURED: {reason}" if f is None else f"{f:,.4g}" for f in (ours, theirs))
            print(f"| {what} | {unit} | {here} | |", flush=True)
        else:
            ratio = f"{ours / theirs:.3g}" if theirs else ""
            print(f"| {what} | {unit} | {ours:,.4g} | {theirs:,.4g} | {ratio} |", flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="how much of the work is done")
    print_table(parser.parse_args().scale)


if __name__ == "__main__":
    main()

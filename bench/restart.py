"""Starts after kill -9, with 1,000 partitions and a growing amount of data."""

from __future__ import annotations

from bench import servers
from bench.contestants import KAFKA, MAINSTEM, Contestant
from bench.figures import Figures
from bench.folders import data_folder
from bench.workloads import Visit

GIGABYTES = (0.1, 1, 10)
STARTS = {MAINSTEM: servers.mainstem, KAFKA: servers.apache}


def restarts(contestant: Contestant, figures: Figures, scale: float) -> None:
    """Fill, kill and start, for each amount of data; the folder grows from one to the next."""
    start = STARTS[contestant.name]
    durability = {"page cache": "os", "on disk": "disk"}[contestant.promise]
    with data_folder() as parent:
        folder, written = parent / "data", 0
        for gigabytes in GIGABYTES:
            with start(durability, folder) as server:
                visit = Visit(contestant, server, figures, scale)
                count = visit.many(1000, 10)
                if not written:
                    visit.make("kept", count)
                more = visit.sized(round(gigabytes * 1e9)) - written
                visit.client("produce", "kept", total=more, partitions=count, records=100)
                written += more
                server.kill()
            with start(durability, folder) as server:
                visit = Visit(contestant, server, figures, scale)
                what = f"{count:,} partitions and {written / 1e9:.3g} GB kept"
                visit.note(f"ready after kill -9, {what}", "s", "less", server.ready_s)
                visit.note(f"resident, {what}", "MB", "less", server.resident_mb())

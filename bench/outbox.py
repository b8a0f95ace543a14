"""The relay of an outbox: `python -m bench.outbox`.

Rows of a SQLite file to a node with a real disk in this process: the table is read, the events are durable,
the rows are deleted. CPU time of the process, both ends included, medians of runs.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from pathlib import Path

from sqlalchemy import MetaData, create_engine
from sqlalchemy.orm import Session

from mainstem.clock import LoopClock
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.log.disk.real_disk import RealDisk
from mainstem.node import Node
from mainstem.settings import Settings
from mainstem.sqlalchemy import Outbox

ROWS, RUNS = 20_000, 5
ROWS_PER_S_MIN = 5_000
"""The aim."""
METADATA = MetaData()
OUTBOX = Outbox(METADATA, "shop")


async def relay_rates(folder: Path, rows: int) -> tuple[float, float]:
    """Rows a second of CPU time, and of wall time."""
    database = create_engine(f"sqlite:///{folder / 'shop.db'}")
    METADATA.create_all(database)
    with Session(database) as session, session.begin():
        for number in range(rows):
            order = {"id": number, "customer": f"customer-{number % 100}", "total": 9.5}
            OUTBOX.add(session, "orders", order, key=f"customer-{number % 100}")
    loop = asyncio.get_running_loop()
    disk = RealDisk(folder / "data", loop)
    node = await Node.open(Settings(data=str(folder / "data")), disk, LoopClock(loop), random.Random(7))
    engine = EmbeddedEngine(node)
    try:
        await engine.create_topic("orders", partitions=4)
        cpu, wall = time.process_time(), time.perf_counter()
        assert await OUTBOX.new_relay(database).drain(engine) == rows
        return rows / (time.process_time() - cpu), rows / (time.perf_counter() - wall)
    finally:
        await engine.close()
        await node.close()
        database.dispose()


def measured(rows: int = ROWS, runs: int = RUNS) -> tuple[float, float]:
    """The medians of `relay_rates`."""
    rates = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            rates.append(asyncio.run(relay_rates(Path(folder), rows)))
    return statistics.median(cpu for cpu, _ in rates), statistics.median(wall for _, wall in rates)


if __name__ == "__main__":
    cpu_rate, wall_rate = measured()
    verdict = "held" if cpu_rate >= ROWS_PER_S_MIN else "MISSED"
    print(f"relay, SQLite: {cpu_rate:,.0f} rows/s of CPU time, {wall_rate:,.0f} rows/s of wall time")
    print(f"aim, {ROWS_PER_S_MIN:,} rows/s: {verdict}")

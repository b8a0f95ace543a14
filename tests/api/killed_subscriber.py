"""A program with a subscriber that tests kill: it writes a line for each begin and end of its handler.

`python -m tests.api.killed_subscriber ADDRESS FILE SEED`. Some calls fail, by the seed. It stops at SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time

from mainstem.api.remote_backend import open_remote
from mainstem.api.run import StopSignals
from mainstem.api.runner import Runner
from mainstem.api.signals import Retry
from tests.api.subscriber_rig import subscriber

LANES = 32
LOCK_MS = 1_500


async def main(address: str, path: str, seed: int) -> None:
    rng = random.Random(seed)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what: str, order: str) -> None:
        os.write(file, f"{os.getpid()} {what} {order} {time.time():.3f}\n".encode())

    async def bill(order: str) -> None:
        note("begin", order)
        await asyncio.sleep(rng.random() / 50)
        if rng.random() < 0.05:
            note("fail", order)
            raise ValueError("by chance")
        note("end", order)

    made = subscriber(bill, concurrency=LANES, retry=Retry(max_attempts=1_000, initial_delay=0.01))
    backend = await open_remote(address, None)
    runner = Runner(backend, [made], lock_ms=LOCK_MS)
    with StopSignals() as signals:
        await runner.start()
        await signals.wait()
        await runner.stop(5)
    await backend.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))

"""A relay in a process of its own, for tests that kill it: `python -m tests.outbox.relay_process URL
ADDRESS`.

Prints a line after each publish, before the rows are deleted.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from sqlalchemy import MetaData, create_engine

from mainstem.contract import NewEvent, Position
from mainstem.engines.kafka.engine import KafkaEngine
from mainstem.sqlalchemy import Outbox

METADATA = MetaData()
OUTBOX = Outbox(METADATA, "shop")
BATCH_EVENTS = 25
SETTLE_S = 0.3


class SayingLog:
    """An engine that prints a line when events are in the log."""

    def __init__(self, engine: KafkaEngine) -> None:
        self._engine = engine

    async def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Position]:
        positions = await self._engine.publish(topic, events)
        print(len(positions), flush=True)
        return positions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


async def main(url: str, address: str) -> None:
    engine = await KafkaEngine.connect(address, timeout_s=20)
    relay = OUTBOX.new_relay(create_engine(url), batch_events=BATCH_EVENTS, settle_s=SETTLE_S)
    log: Any = SayingLog(engine)
    await relay.run(log)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""Publishing through librdkafka: its settings, and one call's deliveries counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from typing import Any

from confluent_kafka import KafkaError, Message

from mainstem.contract import InvalidArgument, NotReachable, Position, StreamError
from mainstem.engines.kafka.errors import translate

PRODUCER_SETTINGS: dict[str, Any] = {
    "enable.idempotence": True,
    "linger.ms": 5,
    "partitioner": "murmur2_random",
    # The server decides what is too large, not the client.
    "message.max.bytes": 100_000_000,
    "queue.buffering.max.messages": 200_000,
    "queue.buffering.max.kbytes": 131_072,
}


class PendingPublish:
    """One `publish` on its way: counts the deliveries, which come in librdkafka's polling thread."""

    def __init__(self, topic: str, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[list[Position]] = loop.create_future()
        self._topic = topic
        self._loop = loop
        self._left = count
        self._results: list[Position | KafkaError | None] = [None] * count
        self._lock = threading.Lock()

    def delivered(self, index: int, error: KafkaError | None, message: Message) -> None:
        """librdkafka's delivery report of one event."""
        self.ended(index, error or Position(self._topic, message.partition(), message.offset()))

    def ended(self, index: int, result: Position | KafkaError) -> None:
        """What became of one event. In any thread."""
        self._results[index] = result
        with self._lock:
            self._left -= 1
            if self._left:
                return
        self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if self.done.done():
            return
        positions = [each for each in self._results if isinstance(each, Position)]
        if len(positions) == len(self._results):
            self.done.set_result(positions)
            return
        what = f"topic {self._topic}"
        results = [translate(each, what) if isinstance(each, KafkaError) else each for each in self._results]
        error = next(each for each in results if isinstance(each, StreamError))
        error.results = [each for each in results if each is not None]
        self.done.set_exception(error)


async def probe_tcp(at: str, timeout_s: float) -> None:
    """Fail at once where nobody listens: librdkafka would go on trying until its timeout."""
    problems: list[str] = []

    async def one(address: str) -> bool:
        host, _, port = address.strip().rpartition(":")
        if not host or not port.isdigit():
            raise InvalidArgument(f"{address!r} is not HOST:PORT")
        try:
            _, writer = await asyncio.wait_for(
                asyncio.open_connection(host.strip("[]"), int(port)), timeout_s
            )
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError) or "onnect call failed" in str(error)
            silent = isinstance(error, TimeoutError)
            problems.append("connection refused" if refused else "no answer" if silent else str(error))
            return False
        writer.close()
        return True

    knocks: list[Awaitable[bool]] = [one(address) for address in at.split(",")]
    if not any(await asyncio.gather(*knocks)):
        why = ", ".join(dict.fromkeys(problems))
        raise NotReachable(
            f"no server at {at} ({why}); start one with: mainstem serve, or give --at HOST:PORT"
        )

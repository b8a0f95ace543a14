"""mainstem: one durable event stream for your services.

    async with mainstem.connect("127.0.0.1:9092") as stream:
        await stream.publish("orders", [mainstem.NewEvent(b'{"id": 1}', key=b"1")])

`connect` connects to a mainstem server or to any Kafka cluster. The methods of the result are described in
`mainstem.contract`; nothing else is public. Importing this package does not import a client library;
`connect` does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mainstem.contract import Engine, Event, NewEvent, Position, StreamError

__version__ = "0.1.0"

__all__ = ["Event", "NewEvent", "Position", "StreamError", "__version__", "connect"]

_FROM_CONTRACT = frozenset({"Event", "NewEvent", "Position", "StreamError"})


def connect(address: str = "127.0.0.1:9092") -> AbstractAsyncContextManager[Engine]:
    """A context manager of a connection to `address`: HOST:PORT, several with commas.

    Entering it raises NotReachable (of `mainstem.contract`) if no server responds within 5 s. Leaving it
    waits until all published events are written.
    """
    from mainstem.engines.kafka.engine import KafkaEngine

    @asynccontextmanager
    async def connected() -> AsyncIterator[Engine]:
        engine = await KafkaEngine.connect(address)
        try:
            yield engine
        finally:
            await engine.close()

    return connected()


def __getattr__(name: str) -> Any:
    if name in _FROM_CONTRACT:
        from mainstem import contract

        return getattr(contract, name)
    raise AttributeError(f"module 'mainstem' has no attribute {name!r}")

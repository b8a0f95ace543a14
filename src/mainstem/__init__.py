"""mainstem: one durable event stream for your services.

    stream = mainstem.connect()      # or mainstem.open("./data"): a stream in this process

    @stream.subscriber("orders", group="billing")
    async def bill(order: dict[str, object]) -> None:
        print(order["id"])

    async with stream.running():
        await stream.publish("orders", {"id": 1}, key="ann")

docs/PYTHON.md has the words. Importing this package imports no client library; opening a stream does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mainstem.version import __version__ as __version__

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mainstem.api.across_topics import Redriven as Redriven
    from mainstem.api.blocking import BlockingStream as BlockingStream
    from mainstem.api.blocking import BlockingTopic as BlockingTopic
    from mainstem.api.errors import FolderInUse as FolderInUse
    from mainstem.api.errors import RequestFailed as RequestFailed
    from mainstem.api.errors import RequestTimeout as RequestTimeout
    from mainstem.api.errors import Undecodable as Undecodable
    from mainstem.api.event import Event as Event
    from mainstem.api.signals import DeadLetter as DeadLetter
    from mainstem.api.signals import Retry as Retry
    from mainstem.api.signals import RetryIn as RetryIn
    from mainstem.api.stream import Stream as Stream
    from mainstem.api.topic import Topic as Topic
    from mainstem.client_security import ClientSecurity as ClientSecurity
    from mainstem.contract import EventTooLarge as EventTooLarge
    from mainstem.contract import InvalidArgument as InvalidArgument
    from mainstem.contract import NotAllowed as NotAllowed
    from mainstem.contract import NotReachable as NotReachable
    from mainstem.contract import Position as Position
    from mainstem.contract import RelayLost as RelayLost
    from mainstem.contract import StreamError as StreamError
    from mainstem.contract import UnknownTopic as UnknownTopic
    from mainstem.queue_contract import NoSuchSubscription as NoSuchSubscription


_MODULES = {
    "BlockingStream": "api.blocking",
    "BlockingTopic": "api.blocking",
    "ClientSecurity": "client_security",
    "DeadLetter": "api.signals",
    "Event": "api.event",
    "EventTooLarge": "contract",
    "FolderInUse": "api.errors",
    "InvalidArgument": "contract",
    "NoSuchSubscription": "queue_contract",
    "NotAllowed": "contract",
    "NotReachable": "contract",
    "Position": "contract",
    "Redriven": "api.across_topics",
    "RelayLost": "contract",
    "RequestFailed": "api.errors",
    "RequestTimeout": "api.errors",
    "Retry": "api.signals",
    "RetryIn": "api.signals",
    "Stream": "api.stream",
    "StreamError": "contract",
    "Topic": "api.topic",
    "Undecodable": "api.errors",
    "UnknownTopic": "contract",
}
"""Public names, and the module below this one that has each. It is imported when the name is used."""

__all__ = [
    "BlockingStream",
    "BlockingTopic",
    "ClientSecurity",
    "DeadLetter",
    "Event",
    "EventTooLarge",
    "FolderInUse",
    "InvalidArgument",
    "NoSuchSubscription",
    "NotAllowed",
    "NotReachable",
    "Position",
    "Redriven",
    "RelayLost",
    "RequestFailed",
    "RequestTimeout",
    "Retry",
    "RetryIn",
    "Stream",
    "StreamError",
    "Topic",
    "Undecodable",
    "UnknownTopic",
    "__version__",
    "connect",
]


def connect(address: str | None = None, *, security: ClientSecurity | None = None) -> Stream:
    """A stream on the mainstem server, or the Kafka cluster, at `address`: HOST:PORT, also kafka://HOST:PORT,
    several with commas. None: what the variable MAINSTEM_AT says when the stream is opened, or
    127.0.0.1:9092. `security`: TLS and login,
    `mainstem.ClientSecurity(protocol="SASL_SSL", ca="ca.pem", user=…, password=…)`; None: what the variables
    say, which are those of the commands (MAINSTEM_CA, MAINSTEM_USER, MAINSTEM_PASSWORD_FILE …).

    Nothing is connected yet: `async with stream:` does it, and raises NotReachable if no server responds
    within 5 s, InvalidArgument if address or variables make no sense.
    """
    from mainstem.api.backend import Backend
    from mainstem.api.stream import Stream

    async def open_backend() -> Backend:
        from mainstem.api.remote_backend import open_configured

        return await open_configured(address or "", security)

    return Stream(open_backend, address or "")


def open(  # noqa: A001
    path: str | Path, *, serve: bool = False, settings: Mapping[str, object] | None = None
) -> Stream:
    """A stream in this process: on the data folder `path`, which is made if it is missing, or with
    ":memory:" in memory, gone when it is closed. `serve`: other programs can connect to it, too, on free
    ports of this machine unless `settings` say where. `settings`: those of `mainstem serve`, by name.

    Nothing is opened yet: `async with stream:` does it, and raises FolderInUse if another process has the
    folder, NotReachable if it cannot be opened.
    """
    from mainstem.api.backend import Backend
    from mainstem.api.stream import Stream

    async def open_backend() -> Backend:
        import asyncio

        from mainstem.api.host import HostedNode

        return await asyncio.to_thread(HostedNode.open, path, serve=serve, settings=settings or {})

    return Stream(open_backend, str(path))


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'mainstem' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"mainstem.{module}"), name)
    globals()[name] = value
    return value

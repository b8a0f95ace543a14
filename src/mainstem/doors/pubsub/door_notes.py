"""What the Pub/Sub door keeps that is neither a topic's nor a subscription's: schemas and IAM policies.

They are notes of a namespace of the engine (`mainstem.routing_contract`), as the exchanges of a virtual host
are: durable when a call has answered, in memory, and in every backup. The namespace has no queues.

Rights, where access is controlled: to look at one needs DESCRIBE of the subscription `google.pubsub/`, to
change one ALTER.

Owns: the namespace, and the form of a note: JSON, deflated. Refuses: what a note means.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from mainstem.contract import Engine
from mainstem.doors.pubsub.calls import Code, RpcError
from mainstem.routing_contract import (
    NamespaceNameTaken,
    NoSuchNamespace,
    OffersRoutedQueues,
    RoutedQueues,
)

NAMESPACE = "google.pubsub"
NOTE_BYTES_MAX = 65_536
"""What the engine allows."""
T = TypeVar("T")


async def notes(engine: Engine, prefix: str, decode: Callable[[bytes], T]) -> dict[str, T]:
    """The notes whose names begin with `prefix`, without it. RpcError: the engine keeps none."""
    try:
        stored = await _routed(engine).notes(NAMESPACE)
    except NoSuchNamespace:
        return {}
    return {
        name.removeprefix(prefix): decode(zlib.decompress(data))
        for name, data in stored.items()
        if name.startswith(prefix)
    }


async def set_note(server: Engine, engine: Engine, name: str, content: Any) -> None:
    """Keep JSON of `content` under a name; None: keep nothing. `server`: the engine as the server may use it,
    `engine`: as who calls may. RpcError: the engine keeps none, or it is too large."""
    data = None
    if content is not None:
        data = zlib.compress(msgspec.json.encode(content))
        if len(data) > NOTE_BYTES_MAX:
            raise RpcError(
                Code.INVALID_ARGUMENT,
                f"it is too large to be kept: {len(data):,} bytes when it is compressed",
            )
    routed = _routed(engine)
    try:
        await routed.set_note(NAMESPACE, name, data)
    except NoSuchNamespace:
        try:
            await _routed(server).create_namespace(NAMESPACE)
        except NamespaceNameTaken:
            pass
        await routed.set_note(NAMESPACE, name, data)


def _routed(engine: Engine) -> RoutedQueues:
    if not isinstance(engine, OffersRoutedQueues):
        raise RpcError(
            Code.UNIMPLEMENTED, "the log of this server is elsewhere: it keeps no schemas or policies"
        )
    return engine.routed_queues

"""Calls methods of the Pub/Sub door's services on a simulated server, without a wire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf import json_format

from mainstem.access_contract import ANONYMOUS, Requester
from mainstem.doors.pubsub.calls import RpcCall, RpcError, RpcMethod
from mainstem.pubsub.messages import message, methods, pool
from mainstem.settings import Settings
from tests.engines.queue_server import SimulatedServer

PROJECT = "airline"


class ServiceClient:
    """A client of some services. `services`: their `handlers`."""

    def __init__(self, server: SimulatedServer, *services: Callable[[Any], Mapping[str, RpcMethod]]) -> None:
        self.server = server
        self.principal = ANONYMOUS
        self._services = services
        self.open()

    def open(self) -> None:
        """Open the door of the present server."""
        server = self.server
        self.context = SimpleNamespace(
            engine=server.engine,
            clock=server.clock,
            access=server.node.access,
            views=SimpleNamespace(limit=lambda _: False),
            settings=SimpleNamespace(door_values={"pubsub_project": PROJECT}),
        )
        self.methods = {
            path: method
            for service in self._services
            for path, method in service(cast(Any, self.context)).items()
        }

    async def crash(self) -> None:
        """Kill the server, start it again, and open the door."""
        await self.server.crash(power=True)
        self.open()

    async def call(self, name: str, /, **fields: Any) -> Any:
        """The response of a method, whose name no other method has. RpcError."""
        path = next(path for path in methods() if path.endswith(f"/{name}"))
        descriptor = methods()[path]
        request = message(descriptor.input_type.full_name)()
        json_format.ParseDict(fields, request, descriptor_pool=pool())
        method = self.methods[path].unary
        assert method is not None
        call = RpcCall(
            method=path,
            metadata={},
            requester=Requester(principal=self.principal, host="127.0.0.1"),
            peer="127.0.0.1:50001",
        )
        answer = method(call, request.SerializeToString())
        data = await self.server.drive(cast(Awaitable[bytes], answer))
        return message(descriptor.output_type.full_name).FromString(data)

    async def refusal(self, name: str, /, **fields: Any) -> RpcError:
        """The error that a method answers with."""
        with pytest.raises(RpcError) as caught:
            await self.call(name, **fields)
        return caught.value


def run(
    test: Callable[[ServiceClient], Awaitable[None]],
    *services: Callable[[Any], Mapping[str, RpcMethod]],
    settings: Settings | None = None,
) -> None:
    """Run a test with a client of these services."""

    async def main() -> None:
        server = SimulatedServer(settings=settings)
        await test(ServiceClient(server, *services))
        await server.engine.close()

    asyncio.run(main())

"""Calls the Subscriber's methods on a simulated server, without a wire: time passes while a call runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

from google.protobuf import json_format

from mainstem.access_contract import ANONYMOUS, Requester
from mainstem.contract import NewEvent
from mainstem.doors.pubsub import subscriber
from mainstem.doors.pubsub.calls import RpcCall
from mainstem.pubsub.messages import message, methods, pool
from tests.engines.queue_server import SimulatedServer

PROJECT = "airline"
TOPIC = f"projects/{PROJECT}/topics/flights"
NAME = f"projects/{PROJECT}/subscriptions/gates"


class Responses:
    """What the door sends on a stream."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.is_ready = True

    def send(self, encoded: bytes) -> None:
        self.sent.append(message("google.pubsub.v1.StreamingPullResponse").FromString(encoded))

    async def ready(self) -> None:
        while not self.is_ready:
            await asyncio.sleep(0)


class PulledStream:
    """A StreamingPull of a client."""

    def __init__(self, client: SubscriberClient, first: dict[str, Any]) -> None:
        self._client = client
        self._requests: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.responses = Responses()
        self.send(**first)
        method = client.methods["/google.pubsub.v1.Subscriber/StreamingPull"].stream
        assert method is not None
        call = method(client.rpc_call("StreamingPull"), cast(Any, self._iterator()), self.responses)
        self.task = asyncio.ensure_future(call)

    async def _iterator(self) -> AsyncIterator[bytes]:
        while (data := await self._requests.get()) is not None:
            yield data

    def send(self, **fields: Any) -> None:
        self._requests.put_nowait(encoded("StreamingPullRequest", fields))

    def half_close(self) -> None:
        self._requests.put_nowait(None)

    @property
    def received(self) -> list[Any]:
        return [received for response in self.responses.sent for received in response.received_messages]

    @property
    def values(self) -> list[bytes]:
        return [received.message.data for received in self.received]

    def ack_id(self, number: int) -> str:
        return str(self.received[number].ack_id)

    async def ended(self) -> BaseException | None:
        """Why the door ends it."""
        await self._client.server.drive(asyncio.wait([self.task]))
        return self.task.exception()

    async def cancel(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def encoded(name: str, fields: dict[str, Any]) -> bytes:
    made = json_format.ParseDict(fields, message(f"google.pubsub.v1.{name}")(), descriptor_pool=pool())
    return bytes(made.SerializeToString())


class SubscriberClient:
    """A client of the service."""

    def __init__(self, server: SimulatedServer) -> None:
        self.server = server
        self.peer = "127.0.0.1:50001"
        self.restart()

    def restart(self) -> None:
        """Open the door of the present server."""
        server = self.server
        context = SimpleNamespace(
            engine=server.engine,
            clock=server.clock,
            views=SimpleNamespace(limit=lambda _: False),
            settings=SimpleNamespace(door_values={"pubsub_project": PROJECT}),
        )
        self.methods = subscriber.handlers(cast(Any, context))

    def rpc_call(self, name: str, timeout_s: float | None = None) -> RpcCall:
        now_s = self.server.clock.monotonic()
        return RpcCall(
            method=name,
            metadata={},
            requester=Requester(principal=ANONYMOUS, host="127.0.0.1"),
            peer=self.peer,
            deadline=None if timeout_s is None else now_s + timeout_s,
        )

    async def call(self, name: str, timeout_s: float | None = None, /, **fields: Any) -> Any:
        path = f"/google.pubsub.v1.{'Publisher' if name.startswith('Detach') else 'Subscriber'}/{name}"
        descriptor = methods()[path]
        made = json_format.ParseDict(
            fields, message(descriptor.input_type.full_name)(), descriptor_pool=pool()
        )
        method = self.methods[path].unary
        assert method is not None
        answer = method(self.rpc_call(name, timeout_s), made.SerializeToString())
        data = await self.server.drive(cast(Awaitable[bytes], answer))
        return message(descriptor.output_type.full_name).FromString(data)

    async def create(self, **fields: Any) -> Any:
        return await self.call("CreateSubscription", name=NAME, topic=TOPIC, **fields)

    async def pull(self, count: int = 100, timeout_s: float = 1, name: str = NAME) -> list[Any]:
        response = await self.call("Pull", timeout_s, subscription=name, max_messages=count)
        return list(response.received_messages)

    async def ack(self, *ack_ids: str) -> None:
        await self.call("Acknowledge", subscription=NAME, ack_ids=ack_ids)

    async def modify(self, seconds: int, *ack_ids: str) -> None:
        await self.call("ModifyAckDeadline", subscription=NAME, ack_ids=ack_ids, ack_deadline_seconds=seconds)

    async def publish(self, *values: bytes, key: bytes | None = None) -> None:
        events = [NewEvent(value, key) for value in values]
        await self.server.drive(self.server.engine.publish("flights", events))

    def stream(self, *, limit: int = 0, **fields: Any) -> PulledStream:
        first = {"subscription": NAME, "stream_ack_deadline_seconds": 10, "protocol_version": 1}
        return PulledStream(self, {**first, "max_outstanding_messages": limit, **fields})


def with_client(test: Callable[[SubscriberClient], Awaitable[None]]) -> None:
    """Run a test against a server with the topics `flights` and `dead` in the default project."""

    async def run() -> None:
        server = SimulatedServer()
        for name in ("flights", "dead"):
            await server.drive(server.engine.create_topic(name, partitions=1))
        await test(SubscriberClient(server))
        await server.engine.close()

    asyncio.run(run())


def data_of(received: list[Any]) -> list[bytes]:
    return [item.message.data for item in received]

"""Single RPCs and raw streams of Pub/Sub by grpcio, without the retries and leases of Google's client.

Owns: a channel to the suite's address. Called by the suite of the traps.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import empty_pb2, field_mask_pb2
from google.pubsub_v1 import types

from tests.compat.cases import Address, fresh, same

PROJECT = "compat"
EMPTY = (empty_pb2.Empty.SerializeToString, empty_pb2.Empty.FromString)
RESPONSES: dict[str, Any] = {
    "Publisher/Publish": types.PublishResponse,
    "Publisher/CreateTopic": types.Topic,
    "Publisher/GetTopic": types.Topic,
    "Publisher/UpdateTopic": types.Topic,
    "Publisher/DetachSubscription": types.DetachSubscriptionResponse,
    "Subscriber/CreateSubscription": types.Subscription,
    "Subscriber/GetSubscription": types.Subscription,
    "Subscriber/UpdateSubscription": types.Subscription,
    "Subscriber/Pull": types.PullResponse,
    "Subscriber/Seek": types.SeekResponse,
    "Subscriber/CreateSnapshot": types.Snapshot,
}
"""What answers a method; what is not here answers google.protobuf.Empty."""


class OpenChannel:
    """The channel of this process, opened at the first call."""

    value: Any = None

    @classmethod
    def open(cls) -> Any:
        if cls.value is None:
            sizes = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
            cls.value = grpc.insecure_channel(Address.value, sizes)
        return cls.value


def raw(method: str, request: bytes, *, seconds: float = 10.0, **options: Any) -> bytes:
    """Call with an encoded request. grpc.RpcError as the server answers it."""
    call = OpenChannel.open().unary_unary(f"/google.pubsub.v1.{method}")
    return bytes(call(request, timeout=seconds, **options))


def rpc(method: str, request: Any, *, seconds: float = 10.0, **options: Any) -> Any:
    """Call with a message of google.pubsub_v1.types."""
    answer = raw(method, type(request).serialize(request), seconds=seconds, **options)
    return RESPONSES[method].deserialize(answer) if method in RESPONSES else None


def refused(method: str, request: Any, *codes: str, **options: Any) -> grpc.RpcError:
    """The error that the server answers; AssertionError when there is none, or one of another code."""
    try:
        if isinstance(request, bytes):
            raw(method, request, **options)
        else:
            rpc(method, request, **options)
    except grpc.RpcError as error:
        answer = error
    else:
        raise AssertionError(f"{method} was accepted")
    same(answer.code().name in codes, True, f"{answer.code().name} {answer.details()!r} is of {codes}")
    return answer


def topic(**fields: Any) -> str:
    """A fresh topic's name."""
    name = f"projects/{PROJECT}/topics/{fresh('orders')}"
    rpc("Publisher/CreateTopic", types.Topic(name=name, **fields))
    return name


def subscription(of: str, **fields: Any) -> str:
    """A fresh subscription's name."""
    name = f"projects/{PROJECT}/subscriptions/{fresh('billing')}"
    rpc("Subscriber/CreateSubscription", types.Subscription(name=name, topic=of, **fields))
    return name


def update(name: str, *paths: str, **fields: Any) -> Any:
    """UpdateSubscription."""
    request = types.UpdateSubscriptionRequest(
        subscription=types.Subscription(name=name, **fields),
        update_mask=field_mask_pb2.FieldMask(paths=paths),
    )
    return rpc("Subscriber/UpdateSubscription", request)


def publish(to: str, *data: bytes, **fields: Any) -> list[str]:
    """Publish in one request; the ids."""
    messages = [types.PubsubMessage(data=item, **fields) for item in data]
    return list(rpc("Publisher/Publish", types.PublishRequest(topic=to, messages=messages)).message_ids)


def pull(of: str, count: int = 10, seconds: float = 5.0) -> list[Any]:
    """One Pull; what it answers, or nothing when the deadline comes first."""
    try:
        request = types.PullRequest(subscription=of, max_messages=count)
        return list(rpc("Subscriber/Pull", request, seconds=seconds).received_messages)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return []
        raise


def pull_until(of: str, count: int, seconds: float = 20.0) -> list[Any]:
    """Pull until there are `count` messages; AssertionError otherwise."""
    received: list[Any] = []
    deadline = time.monotonic() + seconds
    while len(received) < count:
        left = deadline - time.monotonic()
        assert left > 0, f"{len(received)} of {count} messages in {seconds} s"
        received += pull(of, count - len(received), max(1.0, min(5.0, left)))
    return received


def acknowledge(of: str, *ack_ids: str) -> None:
    rpc("Subscriber/Acknowledge", types.AcknowledgeRequest(subscription=of, ack_ids=ack_ids))


def extend(of: str, seconds: int, *ack_ids: str) -> None:
    """ModifyAckDeadline; 0 = nack."""
    request = types.ModifyAckDeadlineRequest(subscription=of, ack_ids=ack_ids, ack_deadline_seconds=seconds)
    rpc("Subscriber/ModifyAckDeadline", request)


class PullStream:
    """A StreamingPull: requests are sent as they are given; responses collect in `responses`."""

    def __init__(self, of: str, seconds: int = 60, **fields: Any) -> None:
        self.responses: list[Any] = []
        self.error: Any = None
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        kinds = types.StreamingPullRequest, types.StreamingPullResponse
        call = OpenChannel.open().stream_stream(
            "/google.pubsub.v1.Subscriber/StreamingPull",
            request_serializer=kinds[0].serialize,
            response_deserializer=kinds[1].deserialize,
        )
        self.send(subscription=of, stream_ack_deadline_seconds=seconds, **fields)
        self._call = call(iter(self._outgoing()))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _outgoing(self) -> Iterator[Any]:
        while (request := self._requests.get()) is not None:
            yield request

    def _read(self) -> None:
        try:
            for response in self._call:
                self.responses.append(response)
        except grpc.RpcError as error:
            self.error = error

    def send(self, **fields: Any) -> None:
        """One request; without fields it is a ping."""
        self._requests.put(types.StreamingPullRequest(**fields))

    @property
    def messages(self) -> list[Any]:
        """All messages received so far."""
        return [message for response in list(self.responses) for message in response.received_messages]

    def ended(self, seconds: float = 20.0) -> str:
        """Wait for the end; its code."""
        self._reader.join(seconds)
        assert not self._reader.is_alive(), f"the stream is open after {seconds} s"
        return str(self._call.code().name)

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()
        self._reader.join(5.0)

    def __enter__(self) -> PullStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

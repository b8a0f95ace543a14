"""Push subscriptions: requests over real sockets as Google sends them, tokens, answers, and changes."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf import json_format

from mainstem.access_contract import ANONYMOUS, Requester
from mainstem.clock import LoopClock
from mainstem.contract import InvalidArgument, NewEvent
from mainstem.doors.pubsub import subscriber
from mainstem.doors.pubsub.calls import Code, RpcCall, RpcError
from mainstem.pubsub.messages import message, methods, pool
from tests.push.receiver import PushRig, Received, Receiver, pushing, receiving, status

NAME = "projects/airline/subscriptions/gates"
TOPIC = "projects/airline/topics/flights"
EVENT = NewEvent(b"\xffdata", b"JFK", (("carrier", b"UA"), ("Host", b"evil"), ("x-goog-x", b"evil")))
ISSUER = "http://127.0.0.1:8080"

Call = Callable[..., Awaitable[Any]]


def caller(rig: PushRig) -> Call:
    """Calls methods of the service."""
    context = SimpleNamespace(
        engine=rig.engine,
        clock=LoopClock(asyncio.get_running_loop()),
        views=SimpleNamespace(limit=lambda _: False),
        settings=SimpleNamespace(door_values={"pubsub_project": "airline"}),
    )
    handlers = subscriber.handlers(cast(Any, context))

    async def call(name: str, /, **fields: Any) -> Any:
        path = f"/google.pubsub.v1.Subscriber/{name}"
        descriptor = methods()[path]
        request = message(descriptor.input_type.full_name)()
        json_format.ParseDict(fields, request, descriptor_pool=pool())
        requester = Requester(principal=ANONYMOUS, host="127.0.0.1")
        made = RpcCall(method=path, metadata={}, requester=requester, peer="127.0.0.1:50001")
        method = handlers[path].unary
        assert method is not None
        answer = await cast(Awaitable[bytes], method(made, request.SerializeToString()))
        return message(descriptor.output_type.full_name).FromString(answer)

    return call


def run(
    tmp_path: Path,
    test: Callable[[Call, PushRig, Receiver], Awaitable[None]],
    *,
    issuer: str | None = None,
) -> None:
    async def main() -> None:
        async with receiving() as receiver, pushing(tmp_path, issuer=issuer) as rig:
            await rig.engine.create_topic("flights", partitions=1)
            await test(caller(rig), rig, receiver)

    asyncio.run(main())


async def pushed(call: Call, rig: PushRig, receiver: Receiver, **fields: Any) -> Received:
    """The request for an event, which is acknowledged by its answer."""
    await call("CreateSubscription", name=NAME, topic=TOPIC, **fields)
    await rig.engine.publish("flights", [EVENT])
    await rig.until("gates", lambda info: info.acked == 1)
    return receiver.requests[-1]


def test_a_message_is_pushed_as_google_wraps_it(tmp_path: Path) -> None:
    async def test(call: Call, rig: PushRig, receiver: Receiver) -> None:
        request = await pushed(call, rig, receiver, pushConfig={"pushEndpoint": receiver.url})
        assert request.headers["content-type"] == "application/json"
        assert "authorization" not in request.headers
        body = json.loads(request.body)
        assert (body["subscription"], set(body)) == (NAME, {"subscription", "message"})
        content = body["message"]
        assert b64decode(content["data"]) == EVENT.value
        assert content["attributes"] == {"carrier": "UA", "Host": "evil", "x-goog-x": "evil"}
        assert content["orderingKey"] == "JFK"
        assert content["messageId"] == content["message_id"] == "0"
        assert content["publishTime"] == content["publish_time"]
        assert content["publishTime"].endswith("Z")
        with pytest.raises(RpcError) as caught:
            await call("Pull", subscription=NAME, maxMessages=1)
        assert caught.value.code == Code.FAILED_PRECONDITION

    run(tmp_path, test)


def test_a_message_is_pushed_unwrapped_with_its_metadata_in_headers(tmp_path: Path) -> None:
    async def test(call: Call, rig: PushRig, receiver: Receiver) -> None:
        config = {"pushEndpoint": receiver.url, "noWrapper": {"writeMetadata": True}}
        request = await pushed(call, rig, receiver, pushConfig=config)
        assert request.body == EVENT.value
        expected = {
            "x-goog-pubsub-subscription-name": NAME,
            "x-goog-pubsub-message-id": "0",
            "x-goog-pubsub-ordering-key": "JFK",
            "carrier": "UA",
            "host": f"127.0.0.1:{receiver.port}",
        }
        assert {name: request.headers[name] for name in expected} == expected
        assert "x-goog-pubsub-publish-time" in request.headers
        assert "x-goog-x" not in request.headers

    run(tmp_path, test)


def test_a_message_without_metadata_is_its_data_alone(tmp_path: Path) -> None:
    async def test(call: Call, rig: PushRig, receiver: Receiver) -> None:
        request = await pushed(
            call, rig, receiver, pushConfig={"pushEndpoint": receiver.url, "noWrapper": {}}
        )
        assert request.body == EVENT.value
        assert not [name for name in request.headers if name.startswith("x-goog")]
        assert "carrier" not in request.headers

    run(tmp_path, test)


def test_a_request_proves_who_sends_it_with_a_token(tmp_path: Path) -> None:
    async def test(call: Call, rig: PushRig, receiver: Receiver) -> None:
        config = {
            "pushEndpoint": receiver.url,
            "oidcToken": {"serviceAccountEmail": "push@airline.example"},
        }
        request = await pushed(call, rig, receiver, pushConfig=config)
        scheme, token = request.headers["authorization"].split(" ")
        payload = token.split(".")[1]
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        assert scheme == "Bearer"
        assert (claims["iss"], claims["aud"], claims["sub"]) == (ISSUER, receiver.url, "gates")
        assert (claims["email"], claims["email_verified"]) == ("push@airline.example", True)
        shown = await call("GetSubscription", subscription=NAME)
        assert shown.push_config.oidc_token.service_account_email == "push@airline.example"

    run(tmp_path, test, issuer=ISSUER)


def test_attempts_are_counted_with_dead_letters(tmp_path: Path) -> None:
    async def test(call: Call, rig: PushRig, receiver: Receiver) -> None:
        await rig.engine.create_topic("dead", partitions=1)

        async def answer(request: Received) -> bytes:
            return status(503 if len(receiver.requests) == 1 else 204)

        receiver.answer = answer
        request = await pushed(
            call,
            rig,
            receiver,
            pushConfig={"pushEndpoint": receiver.url},
            deadLetterPolicy={
                "deadLetterTopic": "projects/airline/topics/dead",
                "maxDeliveryAttempts": 5,
            },
        )
        attempts = [json.loads(received.body)["deliveryAttempt"] for received in receiver.requests]
        assert attempts == [1, 2]
        assert request is receiver.requests[1]

    run(tmp_path, test)


def test_push_and_pull_change_places(tmp_path: Path) -> None:
    async def test(call: Call, rig: PushRig, receiver: Receiver) -> None:
        await call("CreateSubscription", name=NAME, topic=TOPIC)
        await rig.engine.publish("flights", [EVENT])
        response = await call("Pull", subscription=NAME, maxMessages=1)
        assert len(response.received_messages) == 1
        await call("ModifyPushConfig", subscription=NAME, pushConfig={"pushEndpoint": receiver.url})
        ack_id = response.received_messages[0].ack_id
        await call("ModifyAckDeadline", subscription=NAME, ackIds=[ack_id], ackDeadlineSeconds=0)
        await rig.until("gates", lambda info: info.acked == 1)
        with pytest.raises((RpcError, InvalidArgument)):
            await call("ModifyPushConfig", subscription=NAME, pushConfig={"pushEndpoint": "ftp://a"})
        await call("ModifyPushConfig", subscription=NAME, pushConfig={})
        assert not (await call("GetSubscription", subscription=NAME)).push_config.push_endpoint
        await rig.engine.publish("flights", [EVENT])
        response = await call("Pull", subscription=NAME, maxMessages=1)
        assert len(response.received_messages) == 1

    run(tmp_path, test)

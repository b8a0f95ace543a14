"""Google's Python client at a server with TLS at which clients log in: a channel of one's own, with a header.

python -m tests.compat.pubsub.clients.secure_suite HOST:PORT [CASE…]; how to log in is in COMPAT_LOGIN.
"""

from __future__ import annotations

import base64
import threading
from pathlib import Path
from typing import Any

import grpc
from google.api_core import exceptions
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from tests.compat.cases import LOGIN, Address, case, fresh, main, same

PROJECT = "mainstem"


def authorization() -> str:
    """The header of LOGIN."""
    if "token" in LOGIN:
        return f"Bearer {LOGIN['token']}"
    login = f"{LOGIN['user']}:{LOGIN['password']}"
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def channel(header: str) -> grpc.Channel:
    """A channel by TLS, each of whose calls has this header; empty: none has one."""
    tls = grpc.ssl_channel_credentials(Path(LOGIN["ca"]).read_bytes())
    if not header:
        return grpc.secure_channel(Address.value, tls)

    def add(context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        callback((("authorization", header),), None)

    both = grpc.composite_channel_credentials(tls, grpc.metadata_call_credentials(add))
    return grpc.secure_channel(Address.value, both)


def publisher(header: str) -> Any:
    return pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=channel(header)))


@case("publish-and-stream")
def publish_and_stream() -> None:
    client = publisher(authorization())
    subscriber = pubsub_v1.SubscriberClient(
        transport=SubscriberGrpcTransport(channel=channel(authorization()))
    )
    topic = client.topic_path(PROJECT, fresh("orders"))
    name = subscriber.subscription_path(PROJECT, fresh("billing"))
    client.create_topic(name=topic)
    subscriber.create_subscription(name=name, topic=topic)
    messages: list[bytes] = []
    done = threading.Event()

    def on_message(message: Any) -> None:
        messages.append(message.data)
        message.ack()
        if len(messages) == 3:
            done.set()

    pulling = subscriber.subscribe(name, on_message)
    for number in range(3):
        client.publish(topic, b"A-100%d" % number).result(30)
    assert done.wait(30)
    pulling.cancel()
    pulling.result(30)
    same(sorted(messages), [b"A-1000", b"A-1001", b"A-1002"])


@case("refused-without-a-login")
def refused() -> None:
    wrong = base64.b64encode(b"alice:wrong").decode()
    for header in ("", f"Basic {wrong}", "Bearer wrong"):
        try:
            publisher(header).get_topic(topic=f"projects/{PROJECT}/topics/orders", retry=None)
        except exceptions.Unauthenticated:
            continue
        raise AssertionError(f"accepted: {header}")


if __name__ == "__main__":
    main()

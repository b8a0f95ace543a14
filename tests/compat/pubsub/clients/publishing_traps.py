"""The traps of publishing, of filters and of resources: cases of traps_suite.py, which imports them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

import grpc
from google.protobuf import duration_pb2, timestamp_pb2
from google.pubsub_v1 import types

from tests.compat.cases import Address, case, eventually, fresh, same
from tests.compat.pubsub.clients.rpc import (
    PROJECT,
    PullStream,
    extend,
    publish,
    pull,
    pull_until,
    refused,
    rpc,
    subscription,
    topic,
    update,
)


@case("18-masks-that-kombu-sends")
def masks() -> None:
    of = topic()
    name = subscription(of, filter='attributes.shop = "Berlin"')
    same(update(name, "filter", filter='attributes.shop = "Berlin"').filter, 'attributes.shop = "Berlin"')
    ttl = duration_pb2.Duration(seconds=86400 * 3)
    changed = update(name, "expiration_policy.ttl", expiration_policy=types.ExpirationPolicy(ttl=ttl))
    same(changed.expiration_policy.ttl.days, 3)
    publish(of, b"{}", attributes={"shop": "Berlin"})
    time.sleep(0.1)  # the seek is after the message
    now = timestamp_pb2.Timestamp()
    now.GetCurrentTime()
    rpc("Subscriber/Seek", types.SeekRequest(subscription=name, time=now))
    same(pull(name, seconds=3.0), [])


@case("19-filters")
def filters() -> None:
    of = topic()
    texts = {
        'attributes.shop != "Berlin"': {b"none", b"quote"},
        'attributes.shop = "a \\"b\\""': {b"quote"},
        'attributes."größe" = "XL"': {b"none"},
        'NOT attributes:shop AND hasPrefix(attributes."größe", "X")': {b"none"},
        '(attributes:shop OR attributes."größe" = "S") AND -attributes.shop = "Berlin"': {b"quote"},
    }
    names = {text: subscription(of, filter=text) for text in texts}
    publish(of, b"berlin", attributes={"shop": "Berlin"})
    publish(of, b"quote", attributes={"shop": 'a "b"'})
    publish(of, b"none", attributes={"größe": "XL"})
    for text, expected in texts.items():
        received = {message.message.data for message in pull_until(names[text], len(expected))}
        received |= {message.message.data for message in pull(names[text], seconds=1.5)}
        same(received, expected, text)


@case("19-filters-that-are-refused")
def bad_filters() -> None:
    of = topic()
    long = 'attributes.k = "' + "x" * 240 + '"'
    for text in (long, "attributes.k = ", "attributes:a AND attributes:b OR attributes:c", "body:x"):
        name = f"projects/{PROJECT}/subscriptions/{fresh('bad')}"
        request = types.Subscription(name=name, topic=of, filter=text)
        refused("Subscriber/CreateSubscription", request, "INVALID_ARGUMENT")


@case("20-two-ordering-keys-in-a-request")
def two_keys() -> None:
    messages = [types.PubsubMessage(data=b"x", ordering_key=key) for key in ("a", "b")]
    request = types.PublishRequest(topic=topic(), messages=messages)
    refused("Publisher/Publish", request, "INVALID_ARGUMENT")


@case("20-limits-of-publish")
def limits() -> None:
    of = topic()
    bad = [
        [types.PubsubMessage()],
        [types.PubsubMessage(data=b"x", attributes={f"k{i}": "" for i in range(101)})],
        [types.PubsubMessage(data=b"x", attributes={"k" * 257: ""})],
        [types.PubsubMessage(data=b"x", attributes={"k": "v" * 1025})],
        [types.PubsubMessage(data=b"x", ordering_key="k" * 1025)],
        [types.PubsubMessage(data=b"x")] * 1001,
        [],
    ]
    for messages in bad:
        request = types.PublishRequest(topic=of, messages=messages)
        refused("Publisher/Publish", request, "INVALID_ARGUMENT")


@case("21-text-that-is-not-utf-8")
def not_utf8() -> None:
    of = topic()
    request = types.PublishRequest(topic=of, messages=[types.PubsubMessage(data=b"x", ordering_key="KEY")])
    encoded = types.PublishRequest.serialize(request).replace(b"KEY", b"\xff\xfe\xfd")
    refused("Publisher/Publish", encoded, "INVALID_ARGUMENT")


@case("23-message-of-10-mb")
def large_message() -> None:
    of = topic()
    name = subscription(of)
    data = bytes(range(256)) * 38_000
    publish(of, data)
    (message,) = pull_until(name, 1)
    assert message.message.data == data
    extend(name, 0, message.ack_id)
    with PullStream(name) as stream:
        eventually(lambda: stream.messages, "the large message", 20)
        assert stream.messages[0].message.data == data


@case("23-more-than-10-mb-is-refused-at-once")
def too_large() -> None:
    of = topic()
    request = types.PublishRequest(topic=of, messages=[types.PubsubMessage(data=bytes(11_000_000))])
    refused("Publisher/Publish", request, "INVALID_ARGUMENT")


@case("24-gzip")
def gzip() -> None:
    of = topic()
    name = subscription(of)
    request = types.PublishRequest(topic=of, messages=[types.PubsubMessage(data=b"x" * 100_000)])
    rpc("Publisher/Publish", request, compression=grpc.Compression.Gzip)
    same(len(pull_until(name, 1)[0].message.data), 100_000)


@case("25-names-that-the-server-makes")
def made_names() -> None:
    of = topic()
    first = subscription(of)
    snapshot = rpc("Subscriber/CreateSnapshot", types.CreateSnapshotRequest(subscription=first))
    assert snapshot.name.startswith(f"projects/{PROJECT}/snapshots/"), snapshot


@case("25-deleted-topic")
def deleted_topic() -> None:
    of = topic()
    name = subscription(of)
    rpc("Publisher/DeleteTopic", types.DeleteTopicRequest(topic=of))
    for _ in range(2):
        stored = rpc("Subscriber/GetSubscription", types.GetSubscriptionRequest(subscription=name))
        same(stored.topic, "_deleted-topic_")
        rpc("Publisher/CreateTopic", types.Topic(name=of))
        rpc("Publisher/DeleteTopic", types.DeleteTopicRequest(topic=of))


@case("25-defaults-of-a-subscription")
def defaults() -> None:
    of = topic()
    name = f"projects/{PROJECT}/subscriptions/{fresh('billing')}"
    made = rpc("Subscriber/CreateSubscription", types.Subscription(name=name, topic=of))
    same(made.ack_deadline_seconds, 10)
    same(made.message_retention_duration.total_seconds(), 604800.0)
    same(made.expiration_policy.ttl.total_seconds(), 2678400.0)
    same(made.state, types.Subscription.State.ACTIVE)
    for seconds in (5, 601):
        request = types.Subscription(name=name + "x", topic=of, ack_deadline_seconds=seconds)
        refused("Subscriber/CreateSubscription", request, "INVALID_ARGUMENT")
    missing = types.Subscription(name=name + "x", topic=of + "x")
    refused("Subscriber/CreateSubscription", missing, "NOT_FOUND")
    refused("Subscriber/CreateSubscription", types.Subscription(name=name, topic=of), "ALREADY_EXISTS")


def rest(method: str, path: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://{Address.value}/v1/{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{error.code} {error.read()!r}") from None


@case("26-rest-with-the-name-in-the-body-and-camel-case-masks")
def rest_put() -> None:
    of = f"projects/{PROJECT}/topics/{fresh('orders')}"
    same(rest("PUT", of, {"name": of})["name"], of)
    name = f"projects/{PROJECT}/subscriptions/{fresh('billing')}"
    made = rest("PUT", name, {"name": name, "topic": of, "ackDeadlineSeconds": 20})
    same(made["ackDeadlineSeconds"], 20)
    body = {"subscription": {"name": name, "ackDeadlineSeconds": 30}, "updateMask": "ackDeadlineSeconds"}
    same(rest("PATCH", name, body)["ackDeadlineSeconds"], 30)

"""What servers of Pub/Sub get wrong, by single RPCs and raw streams; a case opens with its number.

python -m tests.compat.pubsub.clients.traps_suite HOST:PORT [CASE…]
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

import grpc
from google.protobuf import duration_pb2, field_mask_pb2, timestamp_pb2
from google.pubsub_v1 import types
from google.rpc import error_details_pb2, status_pb2

from tests.compat.cases import Address, case, eventually, fresh, main, same
from tests.compat.pubsub.clients.rpc import (
    PROJECT,
    Stream,
    acknowledge,
    extend,
    publish,
    pull,
    pull_until,
    refused,
    rpc,
    subscription,
    topic,
)

ACK_IDS_BYTES_MAX = 512 * 1024


def update(name: str, *paths: str, **fields: Any) -> Any:
    """UpdateSubscription."""
    request = types.UpdateSubscriptionRequest(
        subscription=types.Subscription(name=name, **fields),
        update_mask=field_mask_pb2.FieldMask(paths=paths),
    )
    return rpc("Subscriber/UpdateSubscription", request)


def reasons(error: grpc.RpcError) -> dict[str, str]:
    """The ack ids that an exactly-once error names, with the reason of each.

    The details must have the code and the text of the status, or clients drop them."""
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            same((status.code, status.message), (error.code().value[0], error.details()))
            info = error_details_pb2.ErrorInfo()
            assert status.details[0].Unpack(info), status
            same((info.reason, info.domain), ("EXACTLY_ONCE_ACKID_FAILURE", "pubsub.googleapis.com"))
            return dict(info.metadata)
    raise AssertionError("no grpc-status-details-bin")


@case("01-pong-has-properties")
def pong_has_properties() -> None:
    name = subscription(topic(), enable_exactly_once_delivery=True)
    with Stream(name, protocol_version=1, client_id="c1") as stream:
        stream.send()
        eventually(lambda: stream.responses, "a pong", 5)
        for response in stream.responses:
            same(response.subscription_properties.exactly_once_delivery_enabled, True, "property of a pong")


@case("02-ordering-is-a-property-of-the-first-messages")
def ordering_property() -> None:
    of = topic()
    name = subscription(of, enable_message_ordering=True)
    publish(of, b"{}", ordering_key="customer-7")
    with Stream(name) as stream:
        eventually(lambda: stream.messages, "a message", 10)
        for response in stream.responses:
            same(response.subscription_properties.message_ordering_enabled, True, "message_ordering_enabled")


@case("03-exactly-once-switched-on-under-a-stream")
def flags_change() -> None:
    of = topic()
    name = subscription(of)
    with Stream(name, protocol_version=1) as stream:
        publish(of, b"1")
        eventually(lambda: stream.messages, "the first message", 10)
        update(name, "enable_exactly_once_delivery", enable_exactly_once_delivery=True)
        publish(of, b"2")
        eventually(lambda: len(stream.messages) >= 2, "the second message", 10)
        same(stream.responses[-1].subscription_properties.exactly_once_delivery_enabled, True)


@case("04-deleted-subscription-ends-its-stream-with-not-found")
def ends() -> None:
    name = subscription(topic())
    with Stream(name) as stream:
        stream.send()
        time.sleep(0.3)  # the stream begins before the deletion
        rpc("Subscriber/DeleteSubscription", types.DeleteSubscriptionRequest(subscription=name))
        same(stream.ended(), "NOT_FOUND")


@case("04-detached-subscription-ends-its-stream-and-refuses-pull")
def detach() -> None:
    name = subscription(topic())
    with Stream(name) as stream:
        time.sleep(0.3)  # the stream begins before the detachment
        rpc("Publisher/DetachSubscription", types.DetachSubscriptionRequest(subscription=name))
        same(stream.ended(), "FAILED_PRECONDITION")
    request = types.PullRequest(subscription=name, max_messages=1)
    refused("Subscriber/Pull", request, "FAILED_PRECONDITION")
    got = rpc("Subscriber/GetSubscription", types.GetSubscriptionRequest(subscription=name))
    same(got.detached, True)


@case("07-flow-control-of-the-server")
def flow_control() -> None:
    of = topic()
    name = subscription(of)
    with Stream(name, max_outstanding_messages=3) as stream:
        publish(of, *(b"%d" % i for i in range(10)))
        eventually(lambda: len(stream.messages) >= 3, "three messages", 10)
        time.sleep(1.0)  # more would come now
        same(len(stream.messages), 3, "messages outstanding")
        extend(name, 0, stream.messages[0].ack_id)
        eventually(lambda: len(stream.messages) == 4, "another one after a nack", 10)
        acknowledge(name, stream.messages[1].ack_id, stream.messages[2].ack_id)
        eventually(lambda: len(stream.messages) == 6, "two more after two acks", 10)


@case("07-expired-messages-free-the-limit")
def expired_free_the_limit() -> None:
    of = topic()
    name = subscription(of)
    with Stream(name, max_outstanding_messages=2) as stream:
        publish(of, *(b"%d" % i for i in range(4)))
        eventually(lambda: len(stream.messages) >= 2, "two messages", 10)
        time.sleep(0.5)  # more would come now
        same(len(stream.messages), 2, "messages outstanding")
        extend(name, 1, *(message.ack_id for message in stream.messages))
        eventually(lambda: len(stream.messages) >= 4, "two more after the deadline", 10)


@case("08-dead-stream-beside-four")
def dead_stream() -> None:
    of = topic()
    name = subscription(of)
    streams = [Stream(name, 10, max_outstanding_messages=10) for _ in range(5)]
    try:
        streams[0].close()
        publish(of, *(b"%d" % i for i in range(100)))
        acked: set[str] = set()

        def ack_all() -> bool:
            for stream in streams[1:]:
                fresh_ids = [item.ack_id for item in stream.messages if item.ack_id not in acked]
                if fresh_ids:
                    acknowledge(name, *fresh_ids)
                    acked.update(fresh_ids)
            data = {item.message.data for stream in streams[1:] for item in stream.messages}
            return len(data) == 100

        eventually(ack_all, "all 100 messages", 30)
    finally:
        for stream in streams:
            stream.close()


@case("09-redelivery-at-the-deadline")
def redelivery() -> None:
    of = topic()
    name = subscription(of, ack_deadline_seconds=10)
    publish(of, b"{}")
    pull_until(name, 1)
    start = time.monotonic()
    pull_until(name, 1, 30)
    elapsed = time.monotonic() - start
    assert elapsed > 9.0, f"came back after {elapsed:.1f} s"


@case("10-late-ack-counts")
def late_ack() -> None:
    of = topic()
    name = subscription(of)
    publish(of, b"{}")
    (message,) = pull_until(name, 1)
    extend(name, 1, message.ack_id)
    time.sleep(2.0)  # the deadline passes
    acknowledge(name, message.ack_id)
    same(pull(name, seconds=3.0), [])


@case("10-superseded-ack-is-refused-with-exactly-once")
def superseded_ack() -> None:
    of = topic()
    name = subscription(of, enable_exactly_once_delivery=True)
    publish(of, b"{}")
    (message,) = pull_until(name, 1)
    extend(name, 0, message.ack_id)
    (again,) = pull_until(name, 1)
    request = types.AcknowledgeRequest(subscription=name, ack_ids=[message.ack_id])
    error = refused("Subscriber/Acknowledge", request, "INVALID_ARGUMENT")
    same(reasons(error), {message.ack_id: "PERMANENT_FAILURE_INVALID_ACK_ID"})
    acknowledge(name, again.ack_id)
    acknowledge(name, again.ack_id)


@case("11-extension-after-a-nack")
def modack_after_nack() -> None:
    of = topic()
    name = subscription(of)
    publish(of, b"{}")
    (message,) = pull_until(name, 1)
    extend(name, 0, message.ack_id)
    extend(name, 60, message.ack_id)
    pull_until(name, 1, 10)


@case("12-thousand-receipts-in-a-request")
def receipts() -> None:
    of = topic()
    name = subscription(of)
    publish(of, *(b"%d" % i for i in range(1000)))
    with Stream(name) as stream:
        eventually(lambda: len(stream.messages) >= 1000, "1,000 messages", 20)
        ack_ids = [message.ack_id for message in stream.messages[:1000]]
        extend(name, 60, *ack_ids)
        acknowledge(name, *ack_ids)


@case("12-request-of-more-than-512-kib")
def receipts_too_large() -> None:
    name = subscription(topic())
    ack_ids = ["x" * 1000] * (ACK_IDS_BYTES_MAX // 1000 + 1)
    for method, request in (
        ("Acknowledge", types.AcknowledgeRequest(subscription=name, ack_ids=ack_ids)),
        (
            "ModifyAckDeadline",
            types.ModifyAckDeadlineRequest(subscription=name, ack_ids=ack_ids, ack_deadline_seconds=60),
        ),
    ):
        refused(f"Subscriber/{method}", request, "INVALID_ARGUMENT")


@case("13-mixed-batch-of-acks")
def mixed_batch() -> None:
    of = topic()
    name = subscription(of, enable_exactly_once_delivery=True)
    publish(of, b"1", b"2")
    first, second = pull_until(name, 2)
    extend(name, 0, first.ack_id)
    pull_until(name, 1)
    request = types.AcknowledgeRequest(subscription=name, ack_ids=[first.ack_id, second.ack_id])
    named = reasons(refused("Subscriber/Acknowledge", request, "INVALID_ARGUMENT"))
    same(named[first.ack_id], "PERMANENT_FAILURE_INVALID_ACK_ID")
    assert named[second.ack_id].startswith("TRANSIENT_FAILURE_"), named
    acknowledge(name, second.ack_id)


@case("14-pull-answers-empty-before-the-deadline")
def pull_answers_empty() -> None:
    name = subscription(topic())
    for seconds in (5.0, 12.0):
        request = types.PullRequest(subscription=name, max_messages=1)
        answer = rpc("Subscriber/Pull", request, seconds=seconds)
        same(len(answer.received_messages), 0)


@case("15-pull-keeps-what-is-outstanding")
def outstanding() -> None:
    of = topic()
    name = subscription(of, enable_message_ordering=True)
    publish(of, b"1", b"2", b"3", ordering_key="customer-7")
    first = pull_until(name, 1)[0]
    same(first.message.data, b"1")
    again = [message.message.data for message in pull(name, seconds=3.0)]
    assert b"1" not in again, again


@case("16-delivery-attempts")
def delivery_attempts() -> None:
    of = topic()
    plain = subscription(of)
    policy = types.DeadLetterPolicy(dead_letter_topic=topic(), max_delivery_attempts=5)
    counted = subscription(of, dead_letter_policy=policy)
    publish(of, b"{}")
    same(pull_until(plain, 1)[0].delivery_attempt, 0)
    for attempt in (1, 2, 3):
        (message,) = pull_until(counted, 1)
        same(message.delivery_attempt, attempt)
        extend(counted, 0, message.ack_id)


@case("16-dead-letter-has-its-attributes")
def dead_letter() -> None:
    of, dead = topic(), topic()
    policy = types.DeadLetterPolicy(dead_letter_topic=dead, max_delivery_attempts=5)
    name, graves = subscription(of, dead_letter_policy=policy), subscription(dead)
    publish(of, b"{}", attributes={"shop": "grüße"}, ordering_key="")
    for _ in range(5):
        (message,) = pull_until(name, 1)
        extend(name, 0, message.ack_id)
    (letter,) = pull_until(graves, 1)
    attributes = dict(letter.message.attributes)
    same(attributes.pop("CloudPubSubDeadLetterSourceDeliveryCount"), "5")
    same(attributes.pop("CloudPubSubDeadLetterSourceSubscription"), name.rpartition("/")[2])
    same(attributes.pop("CloudPubSubDeadLetterSourceSubscriptionProject"), PROJECT)
    assert attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime")
    same(attributes, {"shop": "grüße"})
    same(letter.message.data, b"{}")


@case("17-nack-storm-with-exactly-once-and-a-limit-of-1")
def nack_storm() -> None:
    of = topic()
    name = subscription(of, enable_exactly_once_delivery=True)
    publish(of, *(b"%d" % i for i in range(20)))
    nacked: set[bytes] = set()
    acked: set[bytes] = set()
    seen = 0
    with Stream(name, max_outstanding_messages=1) as stream:

        def step() -> bool:
            nonlocal seen
            for message in stream.messages[seen:]:
                seen += 1
                if message.message.data in nacked:
                    acknowledge(name, message.ack_id)
                    acked.add(message.message.data)
                else:
                    nacked.add(message.message.data)
                    extend(name, 0, message.ack_id)
            return len(acked) == 20

        eventually(step, "20 messages acked at their second delivery", 30)


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
    with Stream(name) as stream:
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
        got = rpc("Subscriber/GetSubscription", types.GetSubscriptionRequest(subscription=name))
        same(got.topic, "_deleted-topic_")
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


@case("retry-policy-delays-a-nack")
def retry_policy() -> None:
    of = topic()
    wait = duration_pb2.Duration(seconds=3)
    name = subscription(of, retry_policy=types.RetryPolicy(minimum_backoff=wait, maximum_backoff=wait))
    publish(of, b"{}")
    (message,) = pull_until(name, 1)
    start = time.monotonic()
    extend(name, 0, message.ack_id)
    pull_until(name, 1)
    elapsed = time.monotonic() - start
    assert elapsed > 2.0, f"came back after {elapsed:.1f} s"


@case("ordered-key-in-flight-to-a-stream")
def ordered_in_flight() -> None:
    of = topic()
    name = subscription(of, enable_message_ordering=True)
    publish(of, *(b"%d" % i for i in range(50)), ordering_key="customer-7")
    with Stream(name) as stream:
        eventually(lambda: len(stream.messages) >= 50, "50 messages of a key without an ack", 10)
        same([message.message.data for message in stream.messages], [b"%d" % i for i in range(50)])


@case("stream-requests-that-are-refused")
def bad_streams() -> None:
    name = subscription(topic())
    for seconds in (0, 5, 601):
        with Stream(name, seconds) as stream:
            same(stream.ended(), "INVALID_ARGUMENT", f"stream_ack_deadline_seconds {seconds}")
    for fields in ({"subscription": name}, {"max_outstanding_messages": 5}, {"ack_ids": ["garbage"]}):
        with Stream(name) as stream:
            stream.send(**fields)
            same(stream.ended(), "INVALID_ARGUMENT", str(fields))
    with Stream(name + "x") as stream:
        same(stream.ended(), "NOT_FOUND")


@case("ack-ids-that-are-refused")
def garbage() -> None:
    name = subscription(topic())
    for ack_ids in (["garbage"], []):
        request = types.AcknowledgeRequest(subscription=name, ack_ids=ack_ids)
        refused("Subscriber/Acknowledge", request, "INVALID_ARGUMENT")


if __name__ == "__main__":
    main()

"""What servers of Pub/Sub get wrong, by single RPCs and raw streams; a case opens with its number.

python -m tests.compat.pubsub.clients.traps_suite HOST:PORT [CASE…]
"""

from __future__ import annotations

import time

import grpc
from google.protobuf import duration_pb2
from google.pubsub_v1 import types
from google.rpc import error_details_pb2, status_pb2

from tests.compat.cases import case, eventually, main, same
from tests.compat.pubsub.clients import publishing_traps
from tests.compat.pubsub.clients.rpc import (
    PROJECT,
    PullStream,
    acknowledge,
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

__all__ = ("publishing_traps",)
"""Its cases are part of the suite."""
ACK_IDS_BYTES_MAX = 512 * 1024


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
    with PullStream(name, protocol_version=1, client_id="c1") as stream:
        stream.send()
        eventually(lambda: stream.responses, "a pong", 5)
        for response in stream.responses:
            same(response.subscription_properties.exactly_once_delivery_enabled, True, "property of a pong")


@case("02-ordering-is-a-property-of-the-first-messages")
def ordering_property() -> None:
    of = topic()
    name = subscription(of, enable_message_ordering=True)
    publish(of, b"{}", ordering_key="customer-7")
    with PullStream(name) as stream:
        eventually(lambda: stream.messages, "a message", 10)
        for response in stream.responses:
            same(response.subscription_properties.message_ordering_enabled, True, "message_ordering_enabled")


@case("03-exactly-once-switched-on-under-a-stream")
def flags_change() -> None:
    of = topic()
    name = subscription(of)
    with PullStream(name, protocol_version=1) as stream:
        publish(of, b"1")
        eventually(lambda: stream.messages, "the first message", 10)
        update(name, "enable_exactly_once_delivery", enable_exactly_once_delivery=True)
        publish(of, b"2")
        eventually(lambda: len(stream.messages) >= 2, "the second message", 10)
        same(stream.responses[-1].subscription_properties.exactly_once_delivery_enabled, True)


@case("04-deleted-subscription-ends-its-stream-with-not-found")
def ends() -> None:
    name = subscription(topic())
    with PullStream(name) as stream:
        stream.send()
        time.sleep(0.3)  # the stream begins before the deletion
        rpc("Subscriber/DeleteSubscription", types.DeleteSubscriptionRequest(subscription=name))
        same(stream.ended(), "NOT_FOUND")


@case("04-detached-subscription-ends-its-stream-and-refuses-pull")
def detach() -> None:
    name = subscription(topic())
    with PullStream(name) as stream:
        time.sleep(0.3)  # the stream begins before the detachment
        rpc("Publisher/DetachSubscription", types.DetachSubscriptionRequest(subscription=name))
        same(stream.ended(), "FAILED_PRECONDITION")
    request = types.PullRequest(subscription=name, max_messages=1)
    refused("Subscriber/Pull", request, "FAILED_PRECONDITION")
    stored = rpc("Subscriber/GetSubscription", types.GetSubscriptionRequest(subscription=name))
    same(stored.detached, True)


@case("07-flow-control-of-the-server")
def flow_control() -> None:
    of = topic()
    name = subscription(of)
    with PullStream(name, max_outstanding_messages=3) as stream:
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
    with PullStream(name, max_outstanding_messages=2) as stream:
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
    streams = [PullStream(name, 10, max_outstanding_messages=10) for _ in range(5)]
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
    with PullStream(name) as stream:
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
    with PullStream(name, max_outstanding_messages=1) as stream:

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
    with PullStream(name) as stream:
        eventually(lambda: len(stream.messages) >= 50, "50 messages of a key without an ack", 10)
        same([message.message.data for message in stream.messages], [b"%d" % i for i in range(50)])


@case("stream-requests-that-are-refused")
def bad_streams() -> None:
    name = subscription(topic())
    for seconds in (0, 5, 601):
        with PullStream(name, seconds) as stream:
            same(stream.ended(), "INVALID_ARGUMENT", f"stream_ack_deadline_seconds {seconds}")
    for fields in ({"subscription": name}, {"max_outstanding_messages": 5}, {"ack_ids": ["garbage"]}):
        with PullStream(name) as stream:
            stream.send(**fields)
            same(stream.ended(), "INVALID_ARGUMENT", str(fields))
    with PullStream(name + "x") as stream:
        same(stream.ended(), "NOT_FOUND")


@case("ack-ids-that-are-refused")
def garbage() -> None:
    name = subscription(topic())
    for ack_ids in (["garbage"], []):
        request = types.AcknowledgeRequest(subscription=name, ack_ids=ack_ids)
        refused("Subscriber/Acknowledge", request, "INVALID_ARGUMENT")


if __name__ == "__main__":
    main()

"""Google's Python client, as its users use it: batches, callbacks, ordering keys, exactly-once, schemas.

python -m tests.compat.pubsub.clients.python_suite HOST:PORT [CASE…]
"""

from __future__ import annotations

import contextlib
import datetime
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from google.api_core import exceptions
from google.cloud import pubsub_v1
from google.pubsub_v1 import types

from tests.compat.cases import case, eventually, fresh, main, same

PROJECT = "compat"
ORDER = json.dumps({"order": 7, "amount": 12.5, "shop": "grüße"}).encode()


class Clients:
    """Publisher and subscriber of this process."""

    def __init__(self) -> None:
        self.publisher = pubsub_v1.PublisherClient()
        self.subscriber = pubsub_v1.SubscriberClient()
        self.topic = self.publisher.topic_path(PROJECT, fresh("orders"))
        self.publisher.create_topic(name=self.topic)

    def subscribe(self, **fields: Any) -> str:
        name = str(self.subscriber.subscription_path(PROJECT, fresh("billing")))
        self.subscriber.create_subscription({"name": name, "topic": self.topic, **fields})
        return name

    @contextlib.contextmanager
    def receiving(self, name: str, callback: Callable[[Any], None], **flow: Any) -> Iterator[Any]:
        """A streaming pull with the callback; cancelled at the end."""
        control = pubsub_v1.types.FlowControl(**flow) if flow else ()
        future = self.subscriber.subscribe(name, callback, flow_control=control)
        try:
            yield future
        finally:
            future.cancel()
            future.result(10)


@case("administer-topics-and-subscriptions")
def administer() -> None:
    clients = Clients()
    publisher, subscriber = clients.publisher, clients.subscriber
    name = clients.subscribe(ack_deadline_seconds=20, labels={"team": "shop"})
    same(publisher.get_topic(topic=clients.topic).name, clients.topic)
    assert clients.topic in [topic.name for topic in publisher.list_topics(project=f"projects/{PROJECT}")]
    same(list(publisher.list_topic_subscriptions(topic=clients.topic)), [name])
    changed = subscriber.update_subscription(
        subscription={"name": name, "ack_deadline_seconds": 30, "labels": {"team": "billing"}},
        update_mask={"paths": ["ack_deadline_seconds", "labels"]},
    )
    same((changed.ack_deadline_seconds, dict(changed.labels)), (30, {"team": "billing"}))
    topic = publisher.update_topic(
        topic={"name": clients.topic, "labels": {"team": "shop"}}, update_mask={"paths": ["labels"]}
    )
    same(dict(topic.labels), {"team": "shop"})
    listed = subscriber.list_subscriptions(project=f"projects/{PROJECT}")
    assert name in [subscription.name for subscription in listed]
    subscriber.delete_subscription(subscription=name)
    publisher.delete_topic(topic=clients.topic)
    for call in (
        lambda: subscriber.get_subscription(subscription=name),
        lambda: publisher.get_topic(topic=clients.topic),
    ):
        try:
            call()  # type: ignore[no-untyped-call]
        except exceptions.NotFound:
            continue
        raise AssertionError("it is there after its deletion")


@case("lists-in-pages")
def pages() -> None:
    clients = Clients()
    names = sorted(clients.subscribe() for _ in range(5))
    request = {"topic": clients.topic, "page_size": 2}
    same(sorted(clients.publisher.list_topic_subscriptions(request=request)), names)


@case("publish-and-pull")
def publish_and_pull() -> None:
    clients = Clients()
    name = clients.subscribe()
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=5)
    id_ = clients.publisher.publish(clients.topic, ORDER, shop="grüße", empty="").result(10)
    answer = clients.subscriber.pull(subscription=name, max_messages=5, timeout=10)
    (received,) = answer.received_messages
    message = received.message
    same((message.data, message.message_id), (ORDER, id_))
    same(dict(message.attributes), {"shop": "grüße", "empty": ""})
    assert before < message.publish_time < before + datetime.timedelta(seconds=60), message.publish_time
    clients.subscriber.acknowledge(subscription=name, ack_ids=[received.ack_id])


@case("batches-and-callbacks")
def batches() -> None:
    clients = Clients()
    name = clients.subscribe()
    settings = pubsub_v1.types.BatchSettings(max_messages=100, max_latency=0.05)
    publisher = pubsub_v1.PublisherClient(settings)
    futures = [publisher.publish(clients.topic, b"%d" % i, number=str(i)) for i in range(1000)]
    ids = {future.result(20): b"%d" % i for i, future in enumerate(futures)}
    same(len(ids), 1000)
    received: dict[str, bytes] = {}

    def take(message: Any) -> None:
        received[message.message_id] = message.data
        message.ack()

    with clients.receiving(name, take):
        eventually(lambda: len(received) == 1000, "1,000 messages", 30)
    same(received, ids)
    same(len(clients.subscriber.pull(subscription=name, max_messages=5, timeout=3).received_messages), 0)


@case("nack-brings-a-message-again")
def nack() -> None:
    clients = Clients()
    name = clients.subscribe()
    times: list[str] = []

    def take(message: Any) -> None:
        times.append(message.message_id)
        message.ack() if len(times) == 3 else message.nack()

    clients.publisher.publish(clients.topic, ORDER).result(10)
    with clients.receiving(name, take):
        eventually(lambda: len(times) >= 3, "three deliveries", 20)
    same(len(set(times)), 1)


@case("ordering-keys")
def ordering() -> None:
    clients = Clients()
    name = clients.subscribe(enable_message_ordering=True)
    options = pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
    publisher = pubsub_v1.PublisherClient(publisher_options=options)
    for i in range(200):
        future = publisher.publish(clients.topic, b"%d" % i, ordering_key=f"customer-{i % 4}")
    future.result(20)
    received: dict[str, list[int]] = {}
    lock = threading.Lock()

    def take(message: Any) -> None:
        with lock:
            received.setdefault(message.ordering_key, []).append(int(message.data))
        message.ack()

    with clients.receiving(name, take):
        eventually(lambda: sum(map(len, received.values())) >= 200, "200 messages", 30)
    same(received, {f"customer-{i}": list(range(i, 200, 4)) for i in range(4)})


@case("exactly-once")
def exactly_once() -> None:
    clients = Clients()
    name = clients.subscribe(enable_exactly_once_delivery=True)
    results: list[object] = []
    data: list[bytes] = []

    def take(message: Any) -> None:
        data.append(message.data)
        results.append(message.ack_with_response().result(20))

    with clients.receiving(name, take):
        for i in range(50):
            clients.publisher.publish(clients.topic, b"%d" % i)
        eventually(lambda: len(results) == 50, "50 acks", 40)
    same({str(result) for result in results}, {"AcknowledgeStatus.SUCCESS"})
    same(sorted(data), sorted(b"%d" % i for i in range(50)))


@case("exactly-once-ack-of-a-message-that-is-gone")
def exactly_once_gone() -> None:
    clients = Clients()
    name = clients.subscribe(enable_exactly_once_delivery=True)
    errors: list[Exception] = []
    nacked: list[str] = []

    def take(message: Any) -> None:
        if not nacked:
            nacked.append(message.ack_id)
            request = {"subscription": name, "ack_ids": [message.ack_id], "ack_deadline_seconds": 0}
            clients.subscriber.modify_ack_deadline(request)
            time.sleep(1.0)  # it is given out again
            try:
                message.ack_with_response().result(20)
            except Exception as error:
                errors.append(error)
        else:
            message.ack()

    with clients.receiving(name, take):
        clients.publisher.publish(clients.topic, ORDER).result(10)
        eventually(lambda: errors, "an ack that fails", 30)
    same(str(errors[0].error_code), "AcknowledgeStatus.INVALID_ACK_ID")  # type: ignore[attr-defined]


@case("flow-control-of-the-client")
def flow_control() -> None:
    clients = Clients()
    name = clients.subscribe()
    for i in range(30):
        clients.publisher.publish(clients.topic, b"%d" % i)
    count: list[bytes] = []

    def take(message: Any) -> None:
        count.append(message.data)
        time.sleep(0.05)  # work
        message.ack()

    with clients.receiving(name, take, max_messages=2):
        eventually(lambda: len(set(count)) == 30, "30 messages", 30)


@case("filter")
def filtered() -> None:
    clients = Clients()
    name = clients.subscribe(filter='attributes.kind = "order"')
    clients.publisher.publish(clients.topic, b"1", kind="refund").result(10)
    clients.publisher.publish(clients.topic, b"2", kind="order").result(10)
    answer = clients.subscriber.pull(subscription=name, max_messages=5, timeout=10)
    same([received.message.data for received in answer.received_messages], [b"2"])


@case("dead-letter-topic")
def dead_letter() -> None:
    clients = Clients()
    graves = Clients()
    dead = graves.subscribe()
    policy = {"dead_letter_topic": graves.topic, "max_delivery_attempts": 5}
    name = clients.subscribe(dead_letter_policy=policy)
    attempts: list[int] = []

    def take(message: Any) -> None:
        attempts.append(message.delivery_attempt)
        message.nack()

    clients.publisher.publish(clients.topic, ORDER).result(10)
    letters: list[Any] = []

    def bury(message: Any) -> None:
        letters.append(message)
        message.ack()

    with clients.receiving(name, take), graves.receiving(dead, bury):
        eventually(lambda: letters, "a dead letter", 30)
    same(attempts, [1, 2, 3, 4, 5])
    same(letters[0].data, ORDER)


@case("seek-to-a-time")
def seek_time() -> None:
    clients = Clients()
    name = clients.subscribe(retain_acked_messages=True)
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=2)
    clients.publisher.publish(clients.topic, ORDER).result(10)
    for _ in range(2):
        answer = clients.subscriber.pull(subscription=name, max_messages=5, timeout=10)
        same([received.message.data for received in answer.received_messages], [ORDER])
        ack_ids = [received.ack_id for received in answer.received_messages]
        clients.subscriber.acknowledge(subscription=name, ack_ids=ack_ids)
        clients.subscriber.seek(request={"subscription": name, "time": start})


@case("snapshot")
def snapshot() -> None:
    clients = Clients()
    name = clients.subscribe()
    clients.publisher.publish(clients.topic, ORDER).result(10)
    path = clients.subscriber.snapshot_path(PROJECT, fresh("before"))
    clients.subscriber.create_snapshot(name=path, subscription=name)
    listed = clients.subscriber.list_snapshots(project=f"projects/{PROJECT}")
    assert path in [item.name for item in listed]
    for _ in range(2):
        answer = clients.subscriber.pull(subscription=name, max_messages=5, timeout=10)
        same([received.message.data for received in answer.received_messages], [ORDER])
        ack_ids = [received.ack_id for received in answer.received_messages]
        clients.subscriber.acknowledge(subscription=name, ack_ids=ack_ids)
        clients.subscriber.seek(request={"subscription": name, "snapshot": path})
    clients.subscriber.delete_snapshot(snapshot=path)


AVRO = {"type": "record", "name": "Order", "fields": [{"name": "order", "type": "int"}]}


@case("schema-of-avro")
def schema_avro() -> None:
    schemas = pubsub_v1.SchemaServiceClient()
    publisher = pubsub_v1.PublisherClient()
    subscriber = pubsub_v1.SubscriberClient()
    schema = types.Schema(type_=types.Schema.Type.AVRO, definition=json.dumps(AVRO))
    parent = f"projects/{PROJECT}"
    made = schemas.create_schema(parent=parent, schema=schema, schema_id=fresh("order"))
    same(len(made.revision_id), 8)
    assert made.name in [item.name for item in schemas.list_schemas(parent=parent)]
    topic = publisher.topic_path(PROJECT, fresh("orders"))
    settings = {"schema": made.name, "encoding": types.Encoding.JSON}
    publisher.create_topic(request={"name": topic, "schema_settings": settings})
    name = subscriber.subscription_path(PROJECT, fresh("billing"))
    subscriber.create_subscription({"name": name, "topic": topic})
    publisher.publish(topic, b'{"order": 7}').result(10)
    try:
        publisher.publish(topic, b'{"order": "seven"}').result(10)
    except exceptions.InvalidArgument:
        pass
    else:
        raise AssertionError("what is not of the schema was accepted")
    answer = subscriber.pull(subscription=name, max_messages=5, timeout=10)
    (attributes,) = [dict(received.message.attributes) for received in answer.received_messages]
    same(attributes["googclient_schemaencoding"], "JSON")
    same(attributes["googclient_schemaname"], made.name)
    same(attributes["googclient_schemarevisionid"], made.revision_id)
    schemas.delete_schema(name=made.name)


PROTO = 'syntax = "proto3"; message Order { int32 order = 1; string shop = 2; }'


@case("schema-of-protobuf")
def schema_protobuf() -> None:
    schemas = pubsub_v1.SchemaServiceClient()
    parent = f"projects/{PROJECT}"
    schema = types.Schema(type_=types.Schema.Type.PROTOCOL_BUFFER, definition=PROTO)
    made = schemas.create_schema(parent=parent, schema=schema, schema_id=fresh("order"))
    request = {"parent": parent, "name": made.name, "message": b"\x08\x07", "encoding": types.Encoding.BINARY}
    schemas.validate_message(request=request)
    later = PROTO.replace("}", "double amount = 3; }")
    committed = schemas.commit_schema(
        name=made.name,
        schema=types.Schema(name=made.name, type_=types.Schema.Type.PROTOCOL_BUFFER, definition=later),
    )
    assert committed.revision_id != made.revision_id
    same(len(list(schemas.list_schema_revisions(name=made.name))), 2)


@case("policy-of-a-topic")
def policy() -> None:
    clients = Clients()
    policy = clients.publisher.get_iam_policy(request={"resource": clients.topic})
    policy.bindings.add(role="roles/pubsub.viewer", members=["user:ann@example.org"])
    clients.publisher.set_iam_policy(request={"resource": clients.topic, "policy": policy})
    stored = clients.publisher.get_iam_policy(request={"resource": clients.topic})
    same([binding.role for binding in stored.bindings], ["roles/pubsub.viewer"])
    permissions = ["pubsub.topics.publish"]
    request = {"resource": clients.topic, "permissions": permissions}
    same(list(clients.publisher.test_iam_permissions(request=request).permissions), permissions)


if __name__ == "__main__":
    main()

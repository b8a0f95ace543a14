"""Snapshots and Seek: what is delivered again, what is not any more, and what there is after a power cut."""

from __future__ import annotations

from base64 import b64encode
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from mainstem.access_contract import Operation, ResourceType
from mainstem.contract import NotAuthorized
from mainstem.doors.pubsub import publisher, snapshots, subscriber
from mainstem.doors.pubsub.calls import Code, RpcError
from mainstem.doors.pubsub.subscription_catalog import HIDDEN_TOPIC
from mainstem.engines.authorized.engine import AuthorizedViews
from tests.doors.pubsub import service_client
from tests.doors.pubsub.service_client import ServiceClient
from tests.support.memory_masks import MemoryMasks
from tests.support.rule_authorizer import RuleAuthorizer

PROJECT = "projects/airline"
TOPIC = f"{PROJECT}/topics/flights"
NAME = f"{PROJECT}/subscriptions/gates"
SNAPSHOT = f"{PROJECT}/snapshots/before"
DAY_S = 86_400


class Seeker:
    """A client with a topic and a subscription."""

    def __init__(self, client: ServiceClient) -> None:
        self.client = client
        self.call = client.call
        self.refusal = client.refusal

    async def publish(self, *values: str) -> None:
        messages = [{"data": value} for value in values]  # base64
        await self.call("Publish", topic=TOPIC, messages=messages)
        await self.client.server.pass_time(0.1)

    async def pull(self, *, acks: bool) -> list[str]:
        """The messages that are there, as base64."""
        response = await self.call("Pull", subscription=NAME, maxMessages=100, returnImmediately=True)
        ids = [received.ack_id for received in response.received_messages]
        if acks and ids:
            await self.call("Acknowledge", subscription=NAME, ackIds=ids)
        return [b64encode(received.message.data).decode() for received in response.received_messages]

    def time(self, plus_s: float = 0) -> str:
        time = Timestamp()
        time.FromMilliseconds(self.client.server.clock.wall_ms() + int(plus_s * 1000))
        return str(time.ToJsonString())


def run(test: Any, **fields: Any) -> None:
    async def prepared(client: ServiceClient) -> None:
        await client.call("CreateTopic", name=TOPIC)
        await client.call("CreateSubscription", name=NAME, topic=TOPIC, **fields)
        await test(Seeker(client))

    service_client.run(prepared, publisher.handlers, subscriber.handlers, snapshots.handlers)


def test_a_seek_to_a_snapshot_is_what_was_not_acknowledged_then() -> None:
    async def test(seeker: Seeker) -> None:
        await seeker.publish("AAAA")
        assert await seeker.pull(acks=True) == ["AAAA"]
        await seeker.publish("BBBB")
        made = await seeker.call("CreateSnapshot", name=SNAPSHOT, subscription=NAME, labels={"a": "b"})
        assert (made.name, made.topic, dict(made.labels)) == (SNAPSHOT, TOPIC, {"a": "b"})
        week_s = 7 * DAY_S
        left_s = made.expire_time.seconds - seeker.client.server.clock.wall_ms() // 1000
        assert week_s - 5 < left_s <= week_s
        assert await seeker.pull(acks=True) == ["BBBB"]
        await seeker.publish("CCCC")
        assert await seeker.pull(acks=True) == ["CCCC"]
        await seeker.client.crash()
        assert await seeker.call("GetSnapshot", snapshot=SNAPSHOT) == made
        await seeker.call("Seek", subscription=NAME, snapshot=SNAPSHOT)
        assert await seeker.pull(acks=True) == ["BBBB", "CCCC"]
        await seeker.call("DeleteSnapshot", snapshot=SNAPSHOT)
        error = await seeker.refusal("Seek", subscription=NAME, snapshot=SNAPSHOT)
        assert error.code == Code.NOT_FOUND

    run(test)


def test_snapshots_are_listed_changed_and_expire() -> None:
    async def test(seeker: Seeker) -> None:
        unnamed = await seeker.call("CreateSnapshot", subscription=NAME)
        assert unnamed.name.startswith(f"{PROJECT}/snapshots/s-")
        await seeker.call("CreateSnapshot", name=SNAPSHOT, subscription=NAME)
        error = await seeker.refusal("CreateSnapshot", name=SNAPSHOT, subscription=NAME)
        assert error.code == Code.ALREADY_EXISTS
        listed = await seeker.call("ListSnapshots", project=PROJECT)
        assert [snapshot.name for snapshot in listed.snapshots] == [SNAPSHOT, unnamed.name]
        page = await seeker.call("ListTopicSnapshots", topic=TOPIC, pageSize=1)
        assert list(page.snapshots) == [SNAPSHOT]
        assert page.next_page_token
        assert not (await seeker.call("ListSnapshots", project="projects/other")).snapshots
        changed = await seeker.call(
            "UpdateSnapshot",
            snapshot={"name": SNAPSHOT, "labels": {"c": "d"}, "expireTime": seeker.time(60)},
            updateMask="labels,expireTime",
        )
        assert dict(changed.labels) == {"c": "d"}
        for mask, fields in (("topic", {}), ("", {}), ("expireTime", {"expireTime": seeker.time(8 * DAY_S)})):
            error = await seeker.refusal(
                "UpdateSnapshot", snapshot={"name": SNAPSHOT, **fields}, updateMask=mask
            )
            assert error.code == Code.INVALID_ARGUMENT
        await seeker.client.server.pass_time(61)
        assert (await seeker.refusal("GetSnapshot", snapshot=SNAPSHOT)).code == Code.NOT_FOUND
        await seeker.call("DeleteSubscription", subscription=NAME)
        assert not (await seeker.call("ListSnapshots", project=PROJECT)).snapshots

    run(test)


def test_what_cannot_be_a_snapshot_or_a_seek() -> None:
    async def test(seeker: Seeker) -> None:
        other = f"{PROJECT}/subscriptions/other"
        await seeker.call("CreateSubscription", name=other, topic=TOPIC)
        await seeker.call("CreateSnapshot", name=SNAPSHOT, subscription=other)
        for code, name, fields in (
            (Code.NOT_FOUND, "CreateSnapshot", {"name": f"{SNAPSHOT}2", "subscription": f"{NAME}2"}),
            (Code.INVALID_ARGUMENT, "CreateSnapshot", {"name": "before", "subscription": NAME}),
            (Code.INVALID_ARGUMENT, "GetSnapshot", {"snapshot": "before"}),
            (Code.NOT_FOUND, "DeleteSnapshot", {"snapshot": f"{SNAPSHOT}2"}),
            (Code.INVALID_ARGUMENT, "Seek", {"subscription": NAME}),
            (Code.NOT_FOUND, "Seek", {"subscription": f"{NAME}2", "time": seeker.time()}),
            (Code.FAILED_PRECONDITION, "Seek", {"subscription": NAME, "snapshot": SNAPSHOT}),
        ):
            assert (await seeker.refusal(name, **fields)).code == code, (name, fields)

    run(test)


@pytest.mark.parametrize("retains", [False, True])
def test_a_seek_back_delivers_what_is_retained_again(retains: bool) -> None:
    async def test(seeker: Seeker) -> None:
        await seeker.publish("AAAA")
        await seeker.publish("BBBB")
        time = seeker.time()
        await seeker.publish("CCCC")
        response = await seeker.call("Pull", subscription=NAME, maxMessages=3, returnImmediately=True)
        first, second, third = [received.ack_id for received in response.received_messages]
        await seeker.call("Acknowledge", subscription=NAME, ackIds=[first, third])
        await seeker.call("ModifyAckDeadline", subscription=NAME, ackIds=[second], ackDeadlineSeconds=0)
        await seeker.publish("DDDD")
        await seeker.call("Seek", subscription=NAME, time=time)
        assert await seeker.pull(acks=True) == (["CCCC", "DDDD"] if retains else ["DDDD"])
        await seeker.publish("EEEE")
        await seeker.call("Seek", subscription=NAME, time=seeker.time())
        assert await seeker.pull(acks=True) == []

    run(test, retainAckedMessages=retains)


def test_a_topic_may_retain_messages_for_all_its_subscriptions() -> None:
    async def test(seeker: Seeker) -> None:
        await seeker.call(
            "UpdateTopic",
            topic={"name": TOPIC, "messageRetentionDuration": "86400s"},
            updateMask="messageRetentionDuration",
        )
        time = seeker.time()
        await seeker.publish("AAAA")
        assert await seeker.pull(acks=True) == ["AAAA"]
        await seeker.call("Seek", subscription=NAME, time=time)
        assert await seeker.pull(acks=True) == ["AAAA"]

    run(test)


def test_a_seek_into_the_future_discards_what_is_published_until_then() -> None:
    async def test(seeker: Seeker) -> None:
        await seeker.publish("AAAA")
        await seeker.call("CreateSnapshot", name=SNAPSHOT, subscription=NAME)
        await seeker.call("Seek", subscription=NAME, time=seeker.time(60))
        await seeker.publish("BBBB")
        await seeker.client.server.pass_time(1.1)
        assert await seeker.pull(acks=False) == []
        await seeker.client.server.pass_time(60)
        await seeker.publish("CCCC")
        assert await seeker.pull(acks=True) == ["CCCC"]
        await seeker.call("Seek", subscription=NAME, time=seeker.time(60))
        await seeker.call("Seek", subscription=NAME, time=seeker.time(-0.01))
        await seeker.client.server.pass_time(1.1)
        await seeker.publish("DDDD")
        assert await seeker.pull(acks=True) == ["DDDD"]
        await seeker.call("Seek", subscription=NAME, time=seeker.time(60))
        await seeker.call("Seek", subscription=NAME, snapshot=SNAPSHOT)
        await seeker.client.server.pass_time(1.1)
        assert await seeker.pull(acks=True) == ["AAAA", "BBBB", "CCCC", "DDDD"]

    run(test)


def test_a_snapshot_is_not_made_if_it_would_end_within_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "LIFE_MS", snapshots.LIFE_MS_MIN + 10_000)

    async def test(seeker: Seeker) -> None:
        await seeker.publish("AAAA")
        await seeker.call("CreateSnapshot", subscription=NAME)
        await seeker.client.server.pass_time(11)
        with pytest.raises(RpcError, match="within an hour"):
            await seeker.call("CreateSnapshot", name=SNAPSHOT, subscription=NAME)

    run(test)


def test_subscriptions_and_topics_that_a_client_may_not_see_do_not_show() -> None:
    async def test(seeker: Seeker) -> None:
        client, rules = seeker.client, RuleAuthorizer(is_on=True)
        await client.call("CreateTopic", name=f"{PROJECT}/topics/letters")
        policy = {"deadLetterTopic": f"{PROJECT}/topics/letters"}
        await client.call(
            "UpdateSubscription",
            subscription={"name": NAME, "deadLetterPolicy": policy},
            updateMask="deadLetterPolicy",
        )
        await client.call("CreateSubscription", name=f"{PROJECT}/subscriptions/doors", topic=TOPIC)
        await client.call("CreateSnapshot", name=SNAPSHOT, subscription=f"{PROJECT}/subscriptions/doors")
        engine = client.server.engine
        client.context.access = SimpleNamespace(authorizer=rules)
        client.context.views = AuthorizedViews(
            engine, lambda: cast(Any, None), rules, MemoryMasks(), client.server.clock
        )
        for name in ("doors", "missing"):
            subscription = {"subscription": f"{PROJECT}/subscriptions/{name}"}
            for method, fields in (
                ("GetSubscription", {}),
                ("DeleteSubscription", {}),
                ("DetachSubscription", {}),
                ("ModifyPushConfig", {}),
                ("Pull", {"maxMessages": 1}),
                ("Acknowledge", {"ackIds": ["x"]}),
                ("ModifyAckDeadline", {"ackIds": ["x"]}),
                ("Seek", {"time": seeker.time()}),
                ("CreateSnapshot", {"name": SNAPSHOT}),
            ):
                with pytest.raises(NotAuthorized, match=f"DESCRIBE subscription {name}"):
                    await client.call(method, **subscription, **fields)
        rules.allow(ResourceType.SUBSCRIPTION, "gates", Operation.READ, Operation.ALTER)
        for shown in (
            await client.call("GetSubscription", subscription=NAME),
            *(await client.call("ListSubscriptions", project=PROJECT)).subscriptions,
        ):
            assert (shown.name, shown.topic) == (NAME, HIDDEN_TOPIC)
            assert shown.dead_letter_policy.dead_letter_topic == HIDDEN_TOPIC
        taken = await client.call("CreateSnapshot", name=f"{PROJECT}/snapshots/own", subscription=NAME)
        assert taken.topic == HIDDEN_TOPIC
        listed = await client.call("ListSnapshots", project=PROJECT)
        assert [snapshot.name for snapshot in listed.snapshots] == [taken.name]
        for method, fields in (
            ("GetSnapshot", {"snapshot": SNAPSHOT}),
            ("DeleteSnapshot", {"snapshot": SNAPSHOT}),
            ("Seek", {"subscription": NAME, "snapshot": SNAPSHOT}),
        ):
            assert (await client.refusal(method, **fields)).code == Code.NOT_FOUND
        rules.allow(ResourceType.TOPIC, "flights", Operation.DESCRIBE)
        assert (await client.call("GetSubscription", subscription=NAME)).topic == TOPIC

    run(test)

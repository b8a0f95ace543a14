"""The Subscriber service: subscriptions, Pull, and answers, with the statuses that clients look at."""

from __future__ import annotations

from typing import Any

import pytest

from mainstem.contract import NewEvent
from mainstem.doors.pubsub.calls import Code, RpcError
from mainstem.pubsub.messages import message
from tests.doors.pubsub.subscriber_client import NAME, PROJECT, TOPIC, SubscriberClient, data_of, with_client

DEAD = f"projects/{PROJECT}/topics/dead"


async def refused(call: Any) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await call
    return caught.value


def test_a_subscription_has_the_defaults_that_are_documented() -> None:
    async def test(client: SubscriberClient) -> None:
        created = await client.create()
        assert created == await client.call("GetSubscription", subscription=NAME)
        assert (created.name, created.topic) == (NAME, TOPIC)
        assert created.ack_deadline_seconds == 10
        assert created.message_retention_duration.seconds == 604_800
        assert created.expiration_policy.ttl.seconds == 2_678_400
        assert created.state == created.State.Value("ACTIVE")
        assert created.HasField("push_config")
        assert not created.HasField("dead_letter_policy")
        assert not created.HasField("retry_policy")
        error = await refused(client.create())
        assert (error.code, error.message) == (
            Code.ALREADY_EXISTS,
            "Resource already exists in the project (resource=gates).",
        )

    with_client(test)


@pytest.mark.parametrize(
    "fields",
    [
        {"ack_deadline_seconds": 5},
        {"ack_deadline_seconds": 601},
        {"message_retention_duration": "599s"},
        {"message_retention_duration": "2678401s"},
        {"expiration_policy": {"ttl": "3600s"}},
        {"dead_letter_policy": {"dead_letter_topic": DEAD, "max_delivery_attempts": 4}},
        {"retry_policy": {"minimum_backoff": "601s"}},
        {"retry_policy": {"minimum_backoff": "20s", "maximum_backoff": "10s"}},
        {"filter": "attributes.gate ="},
        {"filter": f'attributes.gate = "{"A" * 250}"'},
        {"labels": {"k" * 64: ""}},
        {"bigquery_config": {"table": "flights.delays"}},
    ],
)  # fmt: skip
def test_a_subscription_out_of_range_is_refused(fields: dict[str, Any]) -> None:
    async def test(client: SubscriberClient) -> None:
        assert (await refused(client.create(**fields))).code == Code.INVALID_ARGUMENT
        assert (await refused(client.call("GetSubscription", subscription=NAME))).code == Code.NOT_FOUND

    with_client(test)


def test_names_and_topics_that_there_are_not() -> None:
    async def test(client: SubscriberClient) -> None:
        create = client.call
        error = await refused(create("CreateSubscription", name="gates", topic=TOPIC))
        assert error.code == Code.INVALID_ARGUMENT
        error = await refused(
            create("CreateSubscription", name=NAME, topic=f"projects/{PROJECT}/topics/crews")
        )
        assert (error.code, error.message) == (Code.NOT_FOUND, "Resource not found (resource=crews).")
        error = await refused(client.call("Pull", 1, subscription=NAME, max_messages=1))
        assert (error.code, error.message) == (Code.NOT_FOUND, "Resource not found (resource=gates).")
        made = await create("CreateSubscription", topic=TOPIC)
        assert made.name.startswith(f"projects/{PROJECT}/subscriptions/")

    with_client(test)


def test_an_update_changes_what_its_mask_names() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(labels={"team": "ramp"}, filter="attributes:gate", ack_deadline_seconds=60)

        async def update(mask: str, **fields: Any) -> Any:
            return await client.call(
                "UpdateSubscription", subscription={"name": NAME, "topic": TOPIC, **fields}, update_mask=mask
            )

        changed = await update("expirationPolicy.ttl,labels", expiration_policy={"ttl": "86400s"})
        assert changed.expiration_policy.ttl.seconds == 86_400
        assert not changed.labels
        assert changed.ack_deadline_seconds == 60
        changed = await update("ackDeadlineSeconds", ack_deadline_seconds=20)
        assert changed == await client.call("GetSubscription", subscription=NAME)
        assert (changed.ack_deadline_seconds, changed.filter) == (20, "attributes:gate")
        await update("filter", filter="attributes:gate")
        for mask, fields in (
            ("filter", {"filter": "attributes:crew"}),
            ("enableMessageOrdering", {"enable_message_ordering": True}),
            ("wings", {}),
            ("", {}),
        ):
            assert (await refused(update(mask, **fields))).code == Code.INVALID_ARGUMENT

    with_client(test)


def test_lists_are_paged_and_of_one_project() -> None:
    async def test(client: SubscriberClient) -> None:
        names = [f"projects/{PROJECT}/subscriptions/gate-{number}" for number in range(5)]
        other = "projects/railway/subscriptions/gate-1"
        for name in (*reversed(names), other):
            await client.call("CreateSubscription", name=name, topic=TOPIC)
        listed, token = [], ""
        while True:
            page = await client.call(
                "ListSubscriptions", project=f"projects/{PROJECT}", page_size=2, page_token=token
            )
            listed += [item.name for item in page.subscriptions]
            if not (token := page.next_page_token):
                break
        assert listed == names
        page = await client.call("ListSubscriptions", project="projects/railway")
        assert [item.name for item in page.subscriptions] == [other]

    with_client(test)


def test_pull_delivers_what_was_published_since_and_acknowledged_is_done() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.publish(b"before")
        await client.create()
        await client.publish(b"LH430", b"UA901", key=b"FRA")
        first, second = await client.pull()
        assert data_of([first, second]) == [b"LH430", b"UA901"]
        assert first.message.ordering_key == "FRA"
        assert 20 <= len(first.ack_id) <= 28
        assert first.delivery_attempt == 0, "there is no dead-letter policy"
        await client.ack(first.ack_id)
        assert await client.pull() == [], "what is outstanding is not delivered again"
        await client.server.pass_time(11)
        (again,) = await client.pull()
        assert data_of([again]) == [b"UA901"]
        assert again.ack_id != second.ack_id
        await client.ack(second.ack_id, first.ack_id)
        await client.server.pass_time(11)
        assert data_of(await client.pull()) == [b"UA901"], "an old ack id is of no effect"

    with_client(test)


@pytest.mark.parametrize("timeout_s", [0.5, 5, 60, 600])
def test_an_empty_pull_answers_before_its_deadline(timeout_s: float) -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create()
        start_s = client.server.clock.monotonic()
        assert await client.pull(timeout_s=timeout_s) == []
        waited_s = client.server.clock.monotonic() - start_s
        assert min(timeout_s, 80) * 0.8 <= waited_s < timeout_s

    with_client(test)


def test_deadlines_are_those_of_single_messages() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create()
        await client.publish(b"LH430", b"UA901", b"BA117")
        first, second, third = await client.pull()
        await client.modify(60, first.ack_id)
        await client.modify(0, second.ack_id)
        await client.modify(30, second.ack_id)
        assert data_of(await client.pull()) == [b"UA901"], "a deadline does not take the giving back back"
        await client.server.pass_time(11)
        assert sorted(data_of(await client.pull())) == [b"BA117", b"UA901"]
        await client.server.pass_time(48)
        assert sorted(data_of(await client.pull())) == [b"BA117", b"UA901"]
        await client.server.pass_time(2)
        assert data_of(await client.pull()) == [b"LH430"]
        for seconds in (-1, 601):
            assert (await refused(client.modify(seconds, third.ack_id))).code == Code.INVALID_ARGUMENT

    with_client(test)


def test_garbage_is_told_from_ack_ids_that_are_over() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create()
        await client.publish(b"LH430", b"UA901")
        first, second = await client.pull()
        for garbage in ("", "gates", first.ack_id[:-1], first.ack_id[:-1] + "é", "A" * 28):
            error = await refused(client.ack(garbage, second.ack_id))
            assert error.code == Code.INVALID_ARGUMENT
        assert (await refused(client.ack())).code == Code.INVALID_ARGUMENT
        error = await refused(client.ack(*[first.ack_id] * 18_725))
        assert error.code == Code.INVALID_ARGUMENT, "more than 512 KiB"
        error = await refused(client.ack(*[""] * 18_725))
        assert "exceeds the limit" in error.message, "empty ones count, too"
        await client.ack(first.ack_id, second.ack_id)
        assert (await client.server.drive(client.server.engine.subscription("gates"))).depth.outstanding == 0

    with_client(test)


def test_dead_letters_say_where_they_come_from() -> None:
    async def test(client: SubscriberClient) -> None:
        letters = f"projects/{PROJECT}/subscriptions/letters"
        await client.create(dead_letter_policy={"dead_letter_topic": DEAD})
        await client.call("CreateSubscription", name=letters, topic=DEAD)
        await client.publish(b"LH430", key=b"FRA")
        attempts = []
        for _ in range(5):
            (received,) = await client.pull()
            attempts.append(received.delivery_attempt)
            await client.modify(0, received.ack_id)
        assert attempts == [1, 2, 3, 4, 5]
        await client.server.pass_time(1)
        assert await client.pull() == []
        (letter,) = await client.pull(name=letters)
        attributes = dict(letter.message.attributes)
        time = attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime")
        assert time.endswith("Z")
        assert attributes == {
            "CloudPubSubDeadLetterSourceDeliveryCount": "5",
            "CloudPubSubDeadLetterSourceSubscription": "gates",
            "CloudPubSubDeadLetterSourceSubscriptionProject": PROJECT,
        }
        assert (letter.message.data, letter.message.ordering_key) == (b"LH430", "FRA")
        assert letter.delivery_attempt == 0

    with_client(test)


def test_a_retry_policy_delays_what_comes_back() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(retry_policy={"minimum_backoff": "3s", "maximum_backoff": "10s"})
        await client.publish(b"LH430")
        (received,) = await client.pull()
        await client.modify(0, received.ack_id)
        await client.server.pass_time(2)
        assert await client.pull(timeout_s=0.1) == []
        await client.server.pass_time(2)
        assert data_of(await client.pull()) == [b"LH430"]

    with_client(test)


def test_a_filter_delivers_what_matches() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(filter='attributes.airport = "FRA" AND NOT attributes:cancelled')
        engine = client.server.engine
        events = [
            NewEvent(b"LH430", None, (("airport", b"FRA"),)),
            NewEvent(b"UA901", None, (("airport", b"FRA"), ("cancelled", b""))),
            NewEvent(b"BA117", None, (("airport", b"FRAN"),)),
        ]
        await client.server.drive(engine.publish("flights", events))
        (received,) = await client.pull()
        assert received.message.data == b"LH430"
        assert dict(received.message.attributes) == {"airport": "FRA"}

    with_client(test)


def test_a_detached_subscription_delivers_nothing() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create()
        await client.publish(b"LH430")
        await client.call("DetachSubscription", subscription=NAME)
        assert (await client.call("GetSubscription", subscription=NAME)).detached
        error = await refused(client.call("Pull", 1, subscription=NAME, max_messages=1))
        assert error.code == Code.FAILED_PRECONDITION

    with_client(test)


@pytest.mark.parametrize("is_made_again", [False, True])
def test_the_topic_of_a_subscription_may_be_deleted(is_made_again: bool) -> None:
    async def test(client: SubscriberClient) -> None:
        engine = client.server.engine
        await client.create()
        await client.publish(b"LH430")
        await client.server.drive(engine.delete_topic("flights"))
        if is_made_again:
            await client.server.drive(engine.create_topic("flights", partitions=1))
            await client.publish(b"UA901")
        await client.server.pass_time(2)
        assert await client.pull() == []
        shown = await client.call("GetSubscription", subscription=NAME)
        assert shown.topic == "_deleted-topic_"
        await client.call("DeleteSubscription", subscription=NAME)
        assert (await refused(client.call("GetSubscription", subscription=NAME))).code == Code.NOT_FOUND

    with_client(test)


# ----------------------------------------------------------------------------------------------------------
# exactly-once delivery


def failures_of(error: RpcError) -> dict[str, str]:
    """What the details of an error say of each ack id."""
    status = message("google.rpc.Status").FromString(error.details)
    assert (status.code, status.message) == (error.code, error.message), "else Python's client drops them"
    info = message("google.rpc.ErrorInfo").FromString(status.details[0].value)
    assert (info.reason, info.domain) == ("EXACTLY_ONCE_ACKID_FAILURE", "pubsub.googleapis.com")
    return dict(info.metadata)


def test_exactly_once_says_of_each_ack_id_what_became_of_it() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(enable_exactly_once_delivery=True)
        await client.publish(b"LH430", b"UA901")
        first, second = await client.pull()
        await client.modify(60, second.ack_id)
        await client.server.pass_time(11)
        (again,) = await client.pull()
        error = await refused(client.ack(first.ack_id, second.ack_id, "gates"))
        assert error.code == Code.INVALID_ARGUMENT
        failures = failures_of(error)
        assert failures[first.ack_id] == failures["gates"] == "PERMANENT_FAILURE_INVALID_ACK_ID"
        assert failures[second.ack_id].startswith("TRANSIENT_FAILURE_")
        await client.ack(second.ack_id)
        assert failures_of(await refused(client.modify(60, second.ack_id)))
        await client.modify(0, again.ack_id)
        await client.modify(0, again.ack_id)
        assert failures_of(await refused(client.modify(30, again.ack_id)))

    with_client(test)


def test_an_ack_of_a_delivery_that_came_again_fails_with_exactly_once_though_the_event_is_done() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(enable_exactly_once_delivery=True)
        await client.publish(b"LH430")
        (expired,) = await client.pull()
        await client.server.pass_time(11)
        (given_back,) = await client.pull()
        await client.modify(0, given_back.ack_id)
        (last,) = await client.pull()
        await client.ack(last.ack_id)
        await client.ack(last.ack_id)
        for earlier in (expired, given_back):
            failures = failures_of(await refused(client.ack(earlier.ack_id)))
            assert failures == {earlier.ack_id: "PERMANENT_FAILURE_INVALID_ACK_ID"}

    with_client(test)


@pytest.mark.parametrize("power", [False, True])
def test_exactly_once_holds_over_a_restart(power: bool) -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(enable_exactly_once_delivery=True)
        await client.publish(b"LH430", b"UA901")
        first, second = await client.pull()
        await client.modify(60, second.ack_id)
        await client.ack(first.ack_id)
        await client.server.crash(power=power)
        client.restart()
        assert await client.pull() == [], "what is outstanding stays with its consumer"
        await client.ack(first.ack_id)  # the reply was lost: it succeeds again
        await client.server.pass_time(20)
        await client.ack(second.ack_id)  # its deadline of 60 s is kept

    with_client(test)

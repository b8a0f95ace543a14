"""What servers of Pub/Sub have got wrong about subscriptions, where it takes a simulated clock or a crash, or
an event that no client of Pub/Sub has published.

The other traps are in tests/compat/pubsub, for real clients.
"""

from __future__ import annotations

import base64

import pytest

from mainstem.contract import NewEvent
from mainstem.queue_contract import DEAD_LETTER_EVENT_TIME_HEADER, DEAD_LETTER_SUBSCRIPTION_HEADER
from tests.doors.pubsub.subscriber_client import NAME, PROJECT, SubscriberClient, data_of, with_client

DEAD = f"projects/{PROJECT}/topics/dead"
LETTERS = f"projects/{PROJECT}/subscriptions/letters"
LETTER_POLICY = {"dead_letter_topic": DEAD}
ATTEMPTS = 5


async def fail(client: SubscriberClient, times: int) -> None:
    """Pull all messages and give the first back, which the others of its key go with, some times."""
    for _ in range(times):
        received = await client.pull()
        await client.modify(0, received[0].ack_id)


def test_an_event_with_bytes_that_are_no_text_does_not_stop_its_subscription() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create()
        headers = (("gate", b"\xff\xfe"), ("airline", b"LH"), ("empty", None))
        event = NewEvent(b"LH430", b"\x80key", headers)
        await client.server.drive(client.server.engine.publish("flights", [event, NewEvent(None)]))
        first, second = await client.pull()
        attributes = first.message.attributes
        assert base64.b64decode(attributes["gate-bin"]) == b"\xff\xfe"
        assert base64.b64decode(attributes["mainstem-key"]) == b"\x80key"
        assert (attributes["airline"], first.message.ordering_key) == ("LH", "")
        assert second.message.data == b""
        await client.ack(first.ack_id, second.ack_id)

    with_client(test)


@pytest.mark.parametrize("time", ["²".encode(), b"9" * 5_000, b"9" * 19, b"-1", b"\xff", None])
def test_an_event_that_looks_like_a_dead_letter_does_not_stop_its_subscription(time: bytes | None) -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create()
        headers = ((DEAD_LETTER_SUBSCRIPTION_HEADER, b"/\xff"), (DEAD_LETTER_EVENT_TIME_HEADER, time))
        events = [NewEvent(b"LH430", None, headers), NewEvent(b"LH431")]
        await client.server.drive(client.server.engine.publish("flights", events))
        assert data_of(await client.pull()) == [b"LH430", b"LH431"]

    with_client(test)


@pytest.mark.parametrize("step_ms", [-3_600_000, 3_600_000])
def test_deadlines_do_not_move_with_the_wall_clock(step_ms: int) -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(ack_deadline_seconds=10)
        await client.publish(b"LH430")
        await client.pull()
        client.server.clock.wall += step_ms
        await client.server.pass_time(9)
        assert await client.pull(timeout_s=0.1) == []
        await client.server.pass_time(1.5)
        assert data_of(await client.pull(timeout_s=0.1)) == [b"LH430"]

    with_client(test)


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.003, 0.01, 0.05, 0.5])
def test_a_crash_while_a_dead_letter_is_forwarded_loses_nothing(seconds: float, power: bool) -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(dead_letter_policy=LETTER_POLICY, enable_exactly_once_delivery=True)
        await client.call("CreateSubscription", name=LETTERS, topic=DEAD)
        await client.publish(b"LH430", b"UA901")
        for number in range(ATTEMPTS):
            received = await client.pull()
            if number == 0:
                await client.ack(received[1].ack_id)
            await client.modify(0, received[0].ack_id)
        await client.server.pass_time(seconds)
        await client.server.crash(power=power)
        client.restart()
        await client.server.pass_time(1)
        letters = await client.pull(name=LETTERS)
        left = await client.pull()
        assert set(data_of(letters) + data_of(left)) == {b"LH430"}
        assert len(left) <= 1

    with_client(test)


@pytest.mark.parametrize("is_answered", [False, True])
def test_a_dead_letter_lets_the_rest_of_its_key_go_on(is_answered: bool) -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(dead_letter_policy=LETTER_POLICY, enable_message_ordering=True)
        await client.call("CreateSubscription", name=LETTERS, topic=DEAD)
        await client.publish(b"1", b"2", b"3", key=b"FRA")
        await fail(client, ATTEMPTS - 1)
        first, second, third = await client.pull()
        await client.modify(0, first.ack_id)
        await client.server.pass_time(1)
        (letter,) = await client.pull(name=LETTERS)
        assert (letter.message.data, letter.message.ordering_key) == (b"1", "FRA")
        if is_answered:
            await client.ack(second.ack_id, third.ack_id)
            await client.publish(b"4", key=b"FRA")
        else:
            await client.server.pass_time(10)
        rest = await client.pull()
        assert data_of(rest) == ([b"4"] if is_answered else [b"2", b"3"])

    with_client(test)


@pytest.mark.parametrize("crashes", [False, True])
def test_with_order_and_exactly_once_acks_may_come_in_any_order(crashes: bool) -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(enable_message_ordering=True, enable_exactly_once_delivery=True)
        await client.publish(b"1", b"2", b"3", key=b"FRA")
        first, second, third = await client.pull()
        await client.ack(third.ack_id)
        await client.ack(first.ack_id)
        if crashes:
            await client.server.crash(power=True)
            client.restart()
        else:
            await client.modify(0, second.ack_id)
        await client.server.pass_time(11)
        assert data_of(await client.pull()) == [b"2"], "what was confirmed does not come again"

    with_client(test)


def test_a_deadline_that_is_over_takes_back_the_whole_key() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(enable_message_ordering=True)
        await client.publish(b"1", b"2", key=b"FRA")
        await client.publish(b"a", key=b"MUC")
        ack_ids = {received.message.data: received.ack_id for received in await client.pull()}
        await client.modify(60, ack_ids[b"2"], ack_ids[b"a"])
        await client.server.pass_time(11)
        assert data_of(await client.pull()) == [b"1", b"2"]
        await client.ack(ack_ids[b"a"])

    with_client(test)


def test_what_is_older_than_the_retention_is_not_delivered() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(message_retention_duration="600s")
        await client.publish(b"LH430")
        await client.server.pass_time(601)
        await client.publish(b"UA901")
        assert data_of(await client.pull()) == [b"UA901"]

    with_client(test)


def test_an_update_holds_for_what_is_delivered_next() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(ack_deadline_seconds=10, dead_letter_policy=LETTER_POLICY)
        await client.publish(b"LH430")
        await fail(client, 1)
        (received,) = await client.pull()
        assert received.delivery_attempt == 2
        await client.modify(0, received.ack_id)
        await client.call(
            "UpdateSubscription",
            subscription={"name": NAME, "ack_deadline_seconds": 30},
            update_mask="ackDeadlineSeconds,deadLetterPolicy",
        )
        (received,) = await client.pull()
        assert received.delivery_attempt == 0, "there is no policy any more"
        await client.server.pass_time(29)
        assert await client.pull(timeout_s=0.1) == []
        await client.server.pass_time(2)
        assert data_of(await client.pull(timeout_s=0.1)) == [b"LH430"]

    with_client(test)

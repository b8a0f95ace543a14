"""StreamingPull: properties, pings, flow control, deadlines, order of keys, and how streams end."""

from __future__ import annotations

from typing import Any

import pytest

from mainstem.doors.pubsub.calls import Code, RpcError
from mainstem.doors.pubsub.streaming_pull import REPLIES_BYTES_MAX, REPLY_BYTES
from tests.doors.pubsub.subscriber_client import NAME, SubscriberClient, with_client


async def end_of(stream: Any) -> Code:
    error = await stream.ended()
    assert isinstance(error, RpcError), error
    return error.code


def test_messages_are_sent_as_they_come_and_each_response_has_the_properties() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(enable_message_ordering=True)
        stream = client.stream()
        await client.publish(b"LH430")
        await client.server.pass_time(1)
        await client.publish(b"UA901")
        await client.server.pass_time(1)
        assert stream.values == [b"LH430", b"UA901"]
        stream.send()
        await client.server.pass_time(1)
        assert not stream.responses.sent[-1].received_messages, "the answer to a ping"
        for response in stream.responses.sent:
            assert response.subscription_properties.message_ordering_enabled
            assert not response.subscription_properties.exactly_once_delivery_enabled
        await stream.cancel()

    with_client(test)


def test_properties_follow_the_subscription_under_a_live_stream() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create()
        stream = client.stream()
        await client.server.pass_time(1)
        await client.call(
            "UpdateSubscription",
            subscription={"name": NAME, "enable_exactly_once_delivery": True},
            update_mask="enableExactlyOnceDelivery",
        )
        await client.publish(b"LH430")
        await client.server.pass_time(1)
        assert stream.responses.sent[-1].subscription_properties.exactly_once_delivery_enabled
        await stream.cancel()

    with_client(test)


def test_a_client_of_the_first_protocol_gets_no_pongs() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create()
        stream = client.stream(protocol_version=0)
        stream.send()
        await client.server.pass_time(1)
        assert not stream.responses.sent
        await stream.cancel()

    with_client(test)


def test_a_client_that_reads_no_pongs_gets_no_more_than_a_bounded_number() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create()
        stream = client.stream()
        stream.responses.is_ready = False
        pings = 4 * REPLIES_BYTES_MAX // REPLY_BYTES
        for _ in range(pings):
            stream.send()
        await client.server.pass_time(5)
        assert len(stream.responses.sent) <= REPLIES_BYTES_MAX // REPLY_BYTES + 1
        stream.responses.is_ready = True
        await client.server.pass_time(5)
        assert len(stream.responses.sent) == pings
        await stream.cancel()

    with_client(test)


def test_flow_control_counts_what_is_outstanding_on_the_stream() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create()
        await client.publish(*[b"%d" % number for number in range(10)])
        stream = client.stream(limit=3)
        await client.server.pass_time(1)
        assert len(stream.values) == 3
        await client.ack(stream.ack_id(0), stream.ack_id(1))
        await client.server.pass_time(1)
        assert len(stream.values) == 5, "acknowledged by a call of its own"
        stream.send(ack_ids=[stream.ack_id(2)])
        await client.server.pass_time(1)
        assert len(stream.values) == 6, "and on the stream"
        await client.modify(60, stream.ack_id(3), stream.ack_id(4))
        await client.modify(0, stream.ack_id(5))
        await client.server.pass_time(1)
        assert len(stream.values) == 7, "what was given back is not outstanding"
        await client.server.pass_time(10)
        assert len(stream.values) >= 8, "nor is that of which the deadline is over"
        await stream.cancel()

    with_client(test)


def test_bytes_are_limited_too_and_a_stream_without_credit_keeps_nothing_from_another() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create()
        full = client.stream(max_outstanding_bytes=1_000)
        await client.publish(b"A" * 600, b"B" * 600, b"C" * 600)
        await client.server.pass_time(1)
        assert len(full.values) == 2
        other = client.stream(limit=5)
        await client.server.pass_time(1)
        assert [value[:1] for value in other.values] == [b"C"]
        await full.cancel()
        await other.cancel()

    with_client(test)


def test_the_deadline_is_that_of_the_stream() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(ack_deadline_seconds=600)
        await client.publish(b"LH430")
        stream = client.stream(stream_ack_deadline_seconds=10)
        await client.server.pass_time(1)
        await stream.cancel()
        assert await client.pull() == [], "the end of a stream gives nothing back"
        await client.server.pass_time(10)
        (received,) = await client.pull()
        assert received.message.data == b"LH430"

    with_client(test)


def test_several_of_a_key_are_in_flight_to_one_stream_and_come_back_in_order() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(enable_message_ordering=True)
        await client.publish(*[b"%d" % number for number in range(4)], key=b"FRA")
        stream, other = client.stream(), client.stream()
        await client.server.pass_time(1)
        full, empty = (stream, other) if stream.values else (other, stream)
        assert (full.values, empty.values) == ([b"0", b"1", b"2", b"3"], [])
        await client.ack(full.ack_id(0))
        await client.modify(0, full.ack_id(1))
        await client.server.pass_time(1)
        again = full.values[4:] + empty.values
        assert again == [b"1", b"2", b"3"]
        await stream.cancel()
        await other.cancel()

    with_client(test)


def test_exactly_once_confirms_what_is_acknowledged_on_the_stream() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create(enable_exactly_once_delivery=True)
        await client.publish(b"LH430", b"UA901")
        stream = client.stream()
        await client.server.pass_time(1)
        first, second = stream.ack_id(0), stream.ack_id(1)
        stream.send(ack_ids=[first, "gates"], modify_deadline_ack_ids=[second], modify_deadline_seconds=[60])
        await client.server.pass_time(1)
        response = stream.responses.sent[-1]
        assert list(response.acknowledge_confirmation.ack_ids) == [first]
        assert list(response.acknowledge_confirmation.invalid_ack_ids) == ["gates"]
        assert list(response.modify_ack_deadline_confirmation.ack_ids) == [second]
        await stream.cancel()

    with_client(test)


def test_large_messages_are_in_responses_of_their_own() -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create()
        await client.publish(b"A" * 900_000)
        await client.publish(*[b"B" * 500_000, b"C" * 500_000])
        for _ in range(8):
            await client.publish(b"D" * 900_000)
        stream = client.stream()
        await client.server.pass_time(2)
        assert len(stream.values) == 11
        assert all(response.ByteSize() < 4 << 20 for response in stream.responses.sent)
        await stream.cancel()

    with_client(test)


@pytest.mark.parametrize(
    "fields",
    [
        {"stream_ack_deadline_seconds": 0},
        {"stream_ack_deadline_seconds": 5},
        {"stream_ack_deadline_seconds": 601},
        {"subscription": "gates"},
        {"modify_deadline_ack_ids": ["a"]},
        {"ack_ids": ["gates"]},
    ],
)
def test_a_first_request_out_of_range_ends_the_stream(fields: dict[str, Any]) -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create()
        assert await end_of(client.stream(**fields)) == Code.INVALID_ARGUMENT

    with_client(test)


@pytest.mark.parametrize(
    "fields",
    [
        {"subscription": NAME},
        {"max_outstanding_messages": 5},
        {"modify_deadline_ack_ids": ["A" * 28], "modify_deadline_seconds": [-1]},
        {"modify_deadline_ack_ids": ["A" * 28]},
        {"ack_ids": ["gates"]},
        {"stream_ack_deadline_seconds": 5},
    ],
)
def test_a_later_request_that_is_invalid_ends_the_stream(fields: dict[str, Any]) -> None:
    async def test(client: SubscriberClient) -> None:
        await client.create()
        stream = client.stream()
        await client.server.pass_time(1)
        stream.send(**fields)
        assert await end_of(stream) == Code.INVALID_ARGUMENT

    with_client(test)


def test_how_streams_end() -> None:
    async def test(client: SubscriberClient) -> None:
        assert await end_of(client.stream()) == Code.NOT_FOUND
        await client.create()
        stream = client.stream()
        await client.server.pass_time(1)
        stream.half_close()
        assert await end_of(stream) == Code.UNAVAILABLE, "never OK"
        stream = client.stream()
        await client.server.pass_time(1)
        await client.call("DetachSubscription", subscription=NAME)
        assert await end_of(stream) == Code.FAILED_PRECONDITION
        await client.call("DeleteSubscription", subscription=NAME)
        await client.create()
        stream = client.stream()
        await client.server.pass_time(1)
        await client.call("DeleteSubscription", subscription=NAME)
        error = await stream.ended()
        assert type(error).__name__ in ("RpcError", "NoSuchSubscription"), error

    with_client(test)

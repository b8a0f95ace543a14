"""Client quotas in the Kafka door: throttle times, muted connections, and the keys of quotas."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handlers import discover
from mainstem.doors.kafka.share_replies import ShareFetched, share_fetch_reply
from mainstem.kafka_protocol.message import Message
from mainstem.quota_contract import DEFAULT, QuotaEntity, QuotaKey
from tests.doors.kafka.access_kit import memory_access
from tests.doors.kafka.kit import DoorClient, MemoryNode, batch, fetch_request, produce_request
from tests.support.quota_rig import QuotaRig

VERSIONS = {key: discover()[key].versions for key in (0, 1, 48, 49)}


class QuotaClient(DoorClient):
    """A client of a server whose quotas are in memory."""

    def __init__(self) -> None:
        node = MemoryNode()
        self.rig = QuotaRig(node.clock)
        access = dataclasses.replace(memory_access(), quotas=self.rig.usage)
        super().__init__(node, access=access)
        self.topic = node.create("t")

    def produce(self, version: int, size: int = 10, acks: int = -1) -> None:
        name: Any = self.topic.id if version >= 13 else "t"
        request = produce_request(name, batch(b"x" * size), acks=acks, transactional_id=None)
        self.send(0, version, request)

    def alter(
        self, entity: Mapping[str, str | None], *, validate_only: Any = False, **changes: Any
    ) -> Message:
        ops = [
            Message(key=key, value=0.0 if value is None else value, remove=value is None)
            for key, value in changes.items()
        ]
        return self.alter_all([(list(entity.items()), ops)], validate_only)[0]

    def alter_all(
        self, entries: list[tuple[Any, list[Message]]], validate_only: bool = False
    ) -> list[Message]:
        body = [
            Message(entity=[Message(entity_type=k, entity_name=name) for k, name in entity], ops=ops)
            for entity, ops in entries
        ]
        reply = self.call(49, 1, Message(entries=body, validate_only=validate_only))
        return list(reply.entries)

    def described(self, *components: tuple[str, int, str | None], strict: bool = False) -> list[Any]:
        filters = [Message(entity_type=k, match_type=kind, match=match) for k, kind, match in components]
        reply = self.call(48, 1, Message(components=filters, strict=strict))
        assert reply.error_code == 0
        return [
            (
                {part.entity_type: part.entity_name for part in entry.entity},
                {value.key: value.value for value in entry.values},
            )
            for entry in reply.entries
        ]


@pytest.mark.parametrize("version", range(VERSIONS[0][0], VERSIONS[0][1] + 1))
def test_a_produce_beyond_the_quota_is_answered_at_once_and_mutes_the_connection(version: int) -> None:
    client = QuotaClient()
    client.rig.set(QuotaEntity("ANONYMOUS"), QuotaKey.PRODUCE, 100.0)
    client.produce(version)
    (reply,) = client.replies()
    assert reply.throttle_time == 0
    client.produce(version, size=1_500)
    (reply,) = client.replies()
    (partition,) = reply.responses[0].partition_responses
    assert (partition.error_code, partition.base_offset) == (0, 1)
    assert 5_000 < reply.throttle_time < 20_000
    assert client.transport.paused
    client.produce(version)
    client.clock.advance((reply.throttle_time - 1) / 1000)
    assert client.transport.paused
    assert client.replies() == []
    client.clock.advance(0.002)
    (reply,) = client.replies()
    assert reply.responses[0].partition_responses[0].base_offset == 2
    assert 500 < reply.throttle_time < 2_000


def test_without_an_answer_the_connection_is_muted_too() -> None:
    client = QuotaClient()
    client.rig.set(QuotaEntity(DEFAULT), QuotaKey.PRODUCE, 100.0)
    client.produce(9, size=3_000, acks=0)
    assert client.transport.paused
    assert client.node.partition(client.topic, 0).log_end_offset == 1
    assert client.connection.is_idle, "or a client that is gone would hold its place for as long"
    client.connection.lost()
    client.clock.advance(60)


@pytest.mark.parametrize("version", range(VERSIONS[1][0], VERSIONS[1][1] + 1))
def test_a_fetch_beyond_the_quota_says_for_how_long_it_is_throttled(version: int) -> None:
    client = QuotaClient()
    client.produce(9, size=5_000)
    client.replies()
    client.rig.set(QuotaEntity(None, "test"), QuotaKey.FETCH, 100.0)
    topic: Any = client.topic.id if version >= 13 else "t"
    reply = client.call(1, version, fetch_request((topic, 0, 0)))
    (partition,) = reply.responses[0].partitions
    assert len(partition.records) > 5_000
    assert reply.throttle_time > 30_000
    assert client.transport.paused


def test_a_share_fetch_is_throttled_like_a_fetch() -> None:
    client = QuotaClient()
    client.rig.set(QuotaEntity(None, "test"), QuotaKey.FETCH, 1.0)
    handler = client.dispatcher.handlers[78]

    def fetched(context: Any, request: Any) -> list[Any]:
        pieces = [b"r" * 9_000]
        return share_fetch_reply(5, {client.topic.id: [ShareFetched(0, pieces=pieces)]})

    client.dispatcher.handlers[78] = dataclasses.replace(handler, handle=fetched)
    request = Message(group_id="g", member_id="m", topics=[], forgotten_topics_data=[])
    reply = client.call(78, 1, request)
    assert 8_000_000 < reply.throttle_time < 10_000_000
    assert (reply.error_code, reply.acquisition_lock_timeout) == (0, 5)
    assert len(reply.responses[0].partitions[0].records) == 9_000
    assert client.transport.paused


def test_many_entities_are_changed_at_once() -> None:
    client = QuotaClient()
    ops = [Message(key="producer_byte_rate", value=1.0, remove=False)]
    end = client.rig.log.log_end_offset
    results = client.alter_all([([("user", f"u{number % 900}")], ops) for number in range(1_000)])
    assert [result.error_code for result in results] == [0] * 1_000
    assert len(client.rig.all()) == 900
    assert len(client.rig.log.batches) == 1
    assert client.rig.log.log_end_offset == end + 900


def test_quotas_of_other_clients_and_none_at_all_delay_nothing() -> None:
    client = QuotaClient()
    client.rig.set(QuotaEntity("alice"), QuotaKey.PRODUCE, 1.0)
    client.rig.set(QuotaEntity(None, "other"), QuotaKey.REQUEST, 0.001)
    client.produce(9, size=50_000)
    (reply,) = client.replies()
    assert (reply.throttle_time, client.transport.paused) == (0, False)


def test_requests_that_take_too_much_time_are_throttled_and_a_shared_reply_stays_as_it_is() -> None:
    client = QuotaClient()
    shared = Message(throttle_time=0, error_code=0, api_keys=[], supported_features=[])
    handler = client.dispatcher.handlers[18]

    def slow(context: Any, request: Any) -> Message:
        client.clock.advance(0.5)
        return shared

    client.dispatcher.handlers[18] = dataclasses.replace(handler, handle=slow)
    client.rig.set(QuotaEntity(None, "test"), QuotaKey.REQUEST, 4.0)
    reply = client.call(18, 3, Message(client_software_name="a", client_software_version="1"))
    assert 0 < reply.throttle_time <= 1_000
    assert shared.throttle_time == 0
    assert client.transport.paused
    client.clock.advance(1.0)
    assert not client.transport.paused


def test_what_is_altered_is_described() -> None:
    client = QuotaClient()
    assert client.alter({"user": "a"}, producer_byte_rate=1024.0, request_percentage=12.5).error_code == 0
    assert client.alter({"user": "a", "client-id": None}, consumer_byte_rate=7.0).error_code == 0
    assert client.alter({"user": None}, consumer_byte_rate=9.0).error_code == 0
    assert client.alter({"ip": "10.0.0.1"}, connection_creation_rate=5.0).error_code == 0
    a = ({"user": "a"}, {"producer_byte_rate": 1024.0, "request_percentage": 12.5})
    a_default = ({"user": "a", "client-id": None}, {"consumer_byte_rate": 7.0})
    default, ip = (
        ({"user": None}, {"consumer_byte_rate": 9.0}),
        ({"ip": "10.0.0.1"}, {"connection_creation_rate": 5.0}),
    )
    assert client.described() == [default, a, a_default, ip]
    assert client.described(("user", 0, "a")) == [a, a_default]
    assert client.described(("user", 0, "a"), strict=True) == [a]
    assert client.described(("user", 1, None)) == [default]
    assert client.described(("user", 2, None)) == [default, a, a_default]
    assert client.described(("client-id", 1, None)) == [a_default]
    assert client.described(("user", 0, "a"), ("client-id", 2, None), strict=True) == [a_default]
    assert client.described(("ip", 0, "10.0.0.1")) == [ip]
    assert client.described(("ip", 0, "10.0.0.2")) == client.described(strict=True) == []
    assert client.alter({"user": "a"}, producer_byte_rate=None, request_percentage=None).error_code == 0
    assert client.alter({"user": "a"}, producer_byte_rate=None, never_heard_of=None).error_code == 0
    assert client.described(("user", 0, "a")) == [a_default]


@pytest.mark.parametrize(
    ("entity", "key", "value", "text"),
    [
        ({}, "producer_byte_rate", 1.0, "Invalid empty client quota entity"),
        ({"colour": "red"}, "producer_byte_rate", 1.0, "Unhandled client quota entity type: colour"),
        ({"user": ""}, "producer_byte_rate", 1.0, "Empty user not supported"),
        ({"user": "a"}, "producer_byte_rate", 0.0, "Quota producer_byte_rate must be greater than 0"),
        ({"user": "a"}, "producer_byte_rate", 1.5, "producer_byte_rate cannot be a fractional value."),
        (
            {"user": "a"},
            "controller_mutation_rate",
            1.0,
            "Invalid configuration key controller_mutation_rate",
        ),
        (
            {"user": "a"},
            "connection_creation_rate",
            1.0,
            "Invalid configuration key connection_creation_rate",
        ),
        ({"ip": "a b"}, "connection_creation_rate", 1.0, "a b is not a valid IP address."),
    ],
)
def test_what_kafka_refuses_is_refused_in_its_words(
    entity: dict[str, str | None], key: str, value: float, text: str
) -> None:
    client = QuotaClient()
    result = client.alter(entity, **{key: value})
    assert (result.error_code, result.error_message) == (ErrorCode.INVALID_REQUEST, text)
    assert client.described() == []


def test_each_entity_is_changed_whole_or_not_at_all() -> None:
    client = QuotaClient()
    good = [Message(key="producer_byte_rate", value=1.0, remove=False)]
    bad = [*good, Message(key="consumer_byte_rate", value=-1.0, remove=False)]
    results = client.alter_all([([("user", "a")], good), ([("user", "b")], bad), ([("user", "e")], good * 2)])
    assert [result.error_code for result in results] == [0] + [ErrorCode.INVALID_REQUEST] * 2
    assert client.described() == [({"user": "a"}, {"producer_byte_rate": 1.0})]
    assert client.alter({"user": "z"}, validate_only=True, producer_byte_rate=1.0).error_code == 0
    assert len(client.described()) == 1

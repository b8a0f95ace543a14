"""The Publisher's methods through the engine, without a wire."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any, cast

import pytest

from mainstem.access_contract import Operation, ResourceType
from mainstem.contract import Event, EventTooLarge, NewEvent, NotAuthorized, Position
from mainstem.doors.pubsub import publisher, schemas, subscriber
from mainstem.doors.pubsub.calls import Code
from mainstem.doors.pubsub.topic_catalog import BATCH_BYTES_MAX, RECORD
from mainstem.engines.authorized.engine import AuthorizedViews
from mainstem.pubsub.events import place_of
from tests.doors.pubsub.service_client import PROJECT, ServiceClient, run
from tests.support.memory_masks import MemoryMasks
from tests.support.rule_authorizer import RuleAuthorizer

NAME = f"projects/{PROJECT}/topics/flights"
OTHER = "projects/railway/topics/flights"


async def create(client: ServiceClient, name: str = NAME, **fields: Any) -> Any:
    return await client.call("CreateTopic", name=name, **fields)


async def publish(client: ServiceClient, *messages: dict[str, Any], name: str = NAME) -> list[str]:
    response = await client.call("Publish", topic=name, messages=list(messages))
    return list(response.message_ids)


def data(text: bytes) -> str:
    return b64encode(text).decode()


async def event(client: ServiceClient, message_id: str, topic: str = "flights") -> Event:
    """The event that a message became."""
    partition, offset = place_of(message_id)
    engine = client.server.engine
    reader = await engine.reader([Position(topic, partition, offset)])
    result = await client.server.drive(reader.read(max_events=1))
    await reader.close()
    return result.events[0]


async def settings(client: ServiceClient, topic: str = "flights") -> dict[str, str | None]:
    info = await client.server.drive(client.server.engine.topic(topic))
    return {setting.name: setting.value for setting in info.settings if not setting.is_default}


def test_a_topic_outlives_a_power_cut_with_what_was_set() -> None:
    async def test(client: ServiceClient) -> None:
        fields: dict[str, Any] = {
            "labels": {"team": "gates"},
            "messageRetentionDuration": "3600s",
            "messageStoragePolicy": {"allowedPersistenceRegions": ["europe-west3"]},
            "tags": {"tagKeys/1": "tagValues/2"},
        }
        made = await create(client, **fields)
        assert (made.name, made.labels["team"], made.state) == (NAME, "gates", made.State.Value("ACTIVE"))
        assert made.message_retention_duration.seconds == 3_600
        stored = await settings(client)
        assert (stored["retention.ms"], stored["max.message.bytes"]) == ("3600000", str(BATCH_BYTES_MAX))
        await client.crash()
        assert await client.call("GetTopic", topic=NAME) == made
        await client.server.drive(client.server.engine.alter_topic("flights", {"retention.ms": "60000"}))
        await client.server.pass_time(1.1)
        shown = await client.call("GetTopic", topic=NAME)
        assert shown.message_retention_duration.seconds == 60
        await client.call("DeleteTopic", topic=NAME)
        for method in ("GetTopic", "DeleteTopic"):
            error = await client.refusal(method, topic=NAME)
            assert (error.code, error.message) == (
                Code.NOT_FOUND,
                "Resource not found (resource=flights).",
            )
        error = await client.refusal("Publish", topic=NAME, messages=[{"data": "AA=="}])
        assert error.code == Code.NOT_FOUND

    run(test, publisher.handlers)


def test_only_the_fields_of_the_mask_are_updated() -> None:
    async def test(client: ServiceClient) -> None:
        await create(client, labels={"team": "gates", "a": ""}, messageRetentionDuration="3600s")
        changes = {"name": NAME, "labels": {"team": "desk"}, "messageRetentionDuration": "7200s"}
        updated = await client.call("UpdateTopic", topic=changes, updateMask="labels")
        assert (dict(updated.labels), updated.message_retention_duration.seconds) == ({"team": "desk"}, 3_600)
        mask = "messageRetentionDuration,messageStoragePolicy.allowedPersistenceRegions"
        updated = await client.call("UpdateTopic", topic={"name": NAME}, updateMask=mask)
        assert not updated.HasField("message_retention_duration")
        assert set(await settings(client)) == {"max.message.bytes", RECORD}
        await client.crash()
        assert await client.call("GetTopic", topic=NAME) == updated
        for topic, mask, code in (
            (changes, "", Code.INVALID_ARGUMENT),
            (changes, "labels,gates", Code.INVALID_ARGUMENT),
            (changes, "name", Code.INVALID_ARGUMENT),
            (changes, "state", Code.INVALID_ARGUMENT),
            ({"name": NAME, "labels": {"a b": ""}}, "labels", Code.INVALID_ARGUMENT),
            ({**changes, "name": OTHER}, "labels", Code.NOT_FOUND),
        ):  # fmt: skip
            assert (await client.refusal("UpdateTopic", topic=topic, updateMask=mask)).code == code, mask
        assert await client.call("GetTopic", topic=NAME) == updated

    run(test, publisher.handlers)


def test_topics_that_cannot_be_are_refused() -> None:
    async def test(client: ServiceClient) -> None:
        schema = {"schema": f"projects/{PROJECT}/schemas/flight", "encoding": "JSON"}
        for code, name, fields in (
            (Code.INVALID_ARGUMENT, "flights", {}),
            (Code.INVALID_ARGUMENT, f"projects/{PROJECT}/topics/1", {}),
            (Code.INVALID_ARGUMENT, f"projects/{PROJECT}/topics/goog1", {}),
            (Code.INVALID_ARGUMENT, f"projects/{PROJECT}/subscriptions/flights", {}),
            (Code.INVALID_ARGUMENT, NAME, {"labels": {"with space": ""}}),
            (Code.INVALID_ARGUMENT, NAME, {"labels": {f"n{i}": "" for i in range(65)}}),
            (Code.INVALID_ARGUMENT, NAME, {"messageRetentionDuration": "2678401s"}),
            (Code.INVALID_ARGUMENT, NAME, {"kmsKeyName": "projects/p/locations/l/keyRings/r/cryptoKeys/k"}),
            (Code.INVALID_ARGUMENT, NAME, {"ingestionDataSourceSettings": {"cloudStorage": {}}}),
            (Code.INVALID_ARGUMENT, NAME, {"messageTransforms": [{"javascriptUdf": {"functionName": "f"}}]}),
            (Code.INVALID_ARGUMENT, NAME, {"schemaSettings": {"schema": schema["schema"]}}),
            (Code.INVALID_ARGUMENT, NAME, {"schemaSettings": {**schema, "schema": "flight"}}),
            (Code.NOT_FOUND, NAME, {"schemaSettings": schema}),
        ):
            assert (await client.refusal("CreateTopic", name=name, **fields)).code == code, (name, fields)
        assert await client.server.drive(client.server.engine.topics()) == []
        await create(client)
        assert (await client.refusal("CreateTopic", name=NAME)).code == Code.ALREADY_EXISTS

    run(test, publisher.handlers)


def test_names_of_pubsub_that_the_log_cannot_tell_apart_are_topics_of_their_own() -> None:
    async def test(client: ServiceClient) -> None:
        ids = ("railway.flights", "railway_flights", "a~b", "a_7eb", "x" * 255)
        names = [OTHER, *(f"projects/{PROJECT}/topics/{id_}" for id_ in ids)]
        for name in names:
            await create(client, name)
            assert (await client.refusal("CreateTopic", name=name)).code == Code.ALREADY_EXISTS
        for name in names:
            await publish(client, {"data": data(name.encode())}, name=name)
        stored = [topic.name for topic in await client.server.drive(client.server.engine.topics())]
        assert len(stored) == len(names)
        assert {"railway.flights", "a_7eb"} <= set(stored)
        await client.crash()
        for name in names:
            assert (await client.call("GetTopic", topic=name)).name == name
            (message_id,) = await publish(client, {"data": "AA=="}, name=name)
            assert place_of(message_id)[1] == 1
        for number, name in enumerate(names):
            subscription = f"projects/{PROJECT}/subscriptions/of-{number}"
            await client.call("CreateSubscription", name=subscription, topic=name)
            (message_id,) = await publish(client, {"data": "AA=="}, name=name)
            pulled = await client.call("Pull", subscription=subscription, maxMessages=9)
            assert [item.message.message_id for item in pulled.received_messages] == [message_id]
        await client.call("DeleteTopic", topic=OTHER)
        assert (await client.call("GetTopic", topic=names[1])).name == names[1]

    run(test, publisher.handlers, subscriber.handlers)


def test_what_is_kept_of_a_topic_is_bounded() -> None:
    async def test(client: ServiceClient) -> None:
        await create(client)
        policy = {"allowedPersistenceRegions": ["europe-west3"] * 5_000}
        for method, fields in (
            ("CreateTopic", {"name": OTHER, "messageStoragePolicy": policy}),
            (
                "UpdateTopic",
                {
                    "topic": {"name": NAME, "messageStoragePolicy": policy},
                    "updateMask": "messageStoragePolicy",
                },
            ),
        ):
            assert (await client.refusal(method, **fields)).code == Code.INVALID_ARGUMENT

    run(test, publisher.handlers)


def test_topics_of_a_project_are_listed_in_pages_those_of_other_doors_too() -> None:
    async def test(client: ServiceClient) -> None:
        engine, project = client.server.engine, f"projects/{PROJECT}"
        for name in (OTHER, NAME, f"{project}/topics/abc"):
            await create(client, name)
        for stored in ("desks", "1", "googles"):
            await client.server.drive(engine.create_topic(stored))
        await client.server.drive(engine.alter_topic("desks", {RECORD: '{"name": "desks"}'}))
        listed = await client.call("ListTopics", project=project, pageSize=2)
        assert [topic.name for topic in listed.topics] == [f"{project}/topics/abc", f"{project}/topics/desks"]
        rest = await client.call("ListTopics", project=project, pageSize=5, pageToken=listed.next_page_token)
        assert [topic.name for topic in rest.topics] == [NAME]
        assert rest.next_page_token == ""
        listed = await client.call("ListTopics", project="projects/railway")
        assert [topic.name for topic in listed.topics] == [OTHER]
        assert (await client.call("GetTopic", topic=f"{project}/topics/desks")).labels == {}
        await publish(client, {"data": data(b"A1")}, name=f"{project}/topics/desks")
        for fields in ({"project": PROJECT}, {"pageToken": "x"}, {"pageSize": -1}):
            error = await client.refusal("ListTopics", **{"project": project, **fields})
            assert error.code == Code.INVALID_ARGUMENT

    run(test, publisher.handlers)


def test_a_message_is_an_event_of_the_log() -> None:
    async def test(client: ServiceClient) -> None:
        await create(client)
        first, second = await publish(
            client,
            {"data": data(b"LH 7"), "orderingKey": "gate-7", "attributes": {"to": "köln", "from": ""}},
            {"attributes": {"mainstem-key": "x"}, "orderingKey": "gate-7"},
        )
        stored = await event(client, first)
        assert (stored.key, stored.value) == (b"gate-7", b"LH 7")
        assert stored.headers == (("from", b""), ("to", "köln".encode()))
        assert stored.timestamp_ms == pytest.approx(client.server.clock.wall_ms(), abs=1_000)
        stored = await event(client, second)
        assert (stored.value, stored.headers) == (b"", (("user.mainstem-key", b"x"),))
        (third,) = await publish(client, {"data": data(b"LH 8")})
        assert (await event(client, third)).key is None
        await client.crash()
        assert (await event(client, third)).value == b"LH 8"

    run(test, publisher.handlers)


def test_messages_of_a_key_keep_the_order_of_requests_that_overlap() -> None:
    async def test(client: ServiceClient) -> None:
        engine = client.server.engine
        await client.server.drive(engine.create_topic("flights", partitions=4))
        responses = await asyncio.gather(
            *(publish(client, {"data": data(b"%d" % i), "orderingKey": "gate-7"}) for i in range(20))
        )
        places = [place_of(message_id) for (message_id,) in responses]
        assert len({partition for partition, _ in places}) == 1
        assert [offset for _, offset in places] == list(range(20))

    run(test, publisher.handlers)


def test_a_topic_that_another_client_has_deleted_or_made_again_is_not_the_one_before() -> None:
    async def test(client: ServiceClient) -> None:
        engine = client.server.engine
        await create(client, labels={"team": "gates"})
        await publish(client, {"data": data(b"LH 7")})
        await client.server.drive(engine.delete_topic("flights"))
        error = await client.refusal("Publish", topic=NAME, messages=[{"data": "AA=="}])
        assert error.code == Code.NOT_FOUND
        await client.server.drive(engine.create_topic("flights"))
        assert (await client.call("GetTopic", topic=NAME)).labels == {}
        assert place_of((await publish(client, {"data": data(b"LH 8")}))[0])[1] == 0

    run(test, publisher.handlers)


def test_a_deleted_topic_has_no_subscriptions_when_it_is_made_again() -> None:
    async def test(client: ServiceClient) -> None:
        prefix = f"projects/{PROJECT}/subscriptions"
        for topic in (NAME, OTHER):
            await create(client, topic)
        for id_, topic in (("desks", NAME), ("gates", NAME), ("gone", NAME), ("rails", OTHER)):
            await client.call("CreateSubscription", name=f"{prefix}/{id_}", topic=topic)
        await client.call("DetachSubscription", subscription=f"{prefix}/gone")
        listed = await client.call("ListTopicSubscriptions", topic=NAME, pageSize=1)
        assert list(listed.subscriptions) == [f"{prefix}/desks"]
        listed = await client.call("ListTopicSubscriptions", topic=NAME, pageToken=listed.next_page_token)
        assert (list(listed.subscriptions), listed.next_page_token) == ([f"{prefix}/gates"], "")
        await client.call("DeleteTopic", topic=NAME)
        assert (await client.refusal("ListTopicSubscriptions", topic=NAME)).code == Code.NOT_FOUND
        await create(client)
        assert (await client.call("ListTopicSubscriptions", topic=NAME)).subscriptions == []
        await client.crash()
        shown = await client.call("GetSubscription", subscription=f"{prefix}/gates")
        assert shown.topic == "_deleted-topic_"

    run(test, publisher.handlers, subscriber.handlers)


def test_topics_that_a_client_may_not_see_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(client: ServiceClient) -> None:
        server, rules, secret = client.server, RuleAuthorizer(), f"projects/{PROJECT}/topics/secret"
        for name in (NAME, secret):
            await create(client, name)
        rules.allow(ResourceType.TOPIC, "flights", Operation.WRITE)
        monkeypatch.setattr(
            client.context,
            "views",
            AuthorizedViews(server.engine, lambda: cast(Any, None), rules, MemoryMasks(), server.clock),
        )
        await publish(client, {"data": "AA=="})
        listed = await client.call("ListTopics", project=f"projects/{PROJECT}")
        assert [topic.name for topic in listed.topics] == [NAME]
        for name in (secret, f"projects/{PROJECT}/topics/missing"):
            for method, fields in (
                ("GetTopic", {"topic": name}),
                ("Publish", {"topic": name, "messages": [{"data": "AA=="}]}),
                ("DeleteTopic", {"topic": name}),
                ("UpdateTopic", {"topic": {"name": name}, "updateMask": "labels"}),
                ("CreateTopic", {"name": name}),
            ):
                with pytest.raises(NotAuthorized):
                    await client.call(method, **fields)
        for method, fields in (
            ("DeleteTopic", {"topic": NAME}),
            ("UpdateTopic", {"topic": {"name": NAME}, "updateMask": "labels"}),
        ):
            with pytest.raises(NotAuthorized):
                await client.call(method, **fields)

    run(test, publisher.handlers)


def test_messages_agree_with_the_schema_of_their_topic() -> None:
    async def test(client: ServiceClient) -> None:
        schema = f"projects/{PROJECT}/schemas/flight"
        definition = '{"type": "record", "name": "Flight", "fields": [{"name": "number", "type": "int"}]}'
        made = await client.call(
            "CreateSchema",
            parent=f"projects/{PROJECT}",
            schema={"type": "AVRO", "definition": definition},
            schemaId="flight",
        )
        asked = {"schema": schema, "encoding": "JSON", "firstRevisionId": "00000000"}
        assert (await client.refusal("CreateTopic", name=NAME, schemaSettings=asked)).code == Code.NOT_FOUND
        await create(client, schemaSettings={**asked, "firstRevisionId": made.revision_id})
        (message_id,) = await publish(client, {"data": data(b'{"number": 7}'), "attributes": {"to": "CGN"}})
        assert dict((await event(client, message_id)).headers) == {
            "googclient_schemaname": schema.encode(),
            "googclient_schemaencoding": b"JSON",
            "googclient_schemarevisionid": made.revision_id.encode(),
            "to": b"CGN",
        }
        messages = [{"data": data(b'{"number": 7}')}, {"data": data(b'{"number": "seven"}')}]
        error = await client.refusal("Publish", topic=NAME, messages=messages)
        assert error.code == Code.INVALID_ARGUMENT
        await client.call("DeleteSchema", name=schema)
        await client.server.pass_time(1.1)
        shown = await client.call("GetTopic", topic=NAME)
        assert shown.schema_settings.schema == "_deleted-schema_"
        updated = await client.call("UpdateTopic", topic={"name": NAME}, updateMask="schemaSettings")
        assert not updated.HasField("schema_settings")
        await publish(client, *messages)

    run(test, publisher.handlers, schemas.handlers)


def test_more_than_the_limits_of_the_topic_is_refused_and_nothing_is_published() -> None:
    async def test(client: ServiceClient) -> None:
        await create(client)
        large = data(bytes(10_000_000))
        await publish(client, {"data": large})
        for messages in ([{"data": data(bytes(10_500_000))}], [{"data": "AA=="}, {}], []):
            error = await client.refusal("Publish", topic=NAME, messages=messages)
            assert error.code == Code.INVALID_ARGUMENT
        await client.server.drive(client.server.engine.create_topic("small"))
        with pytest.raises(EventTooLarge):
            await publish(client, {"data": large}, name=f"projects/{PROJECT}/topics/small")
        bounds = await client.server.drive(client.server.engine.bounds("flights", 0))
        assert bounds.end == 1
        await client.server.drive(client.server.engine.publish("small", [NewEvent(b"1")]))

    run(test, publisher.handlers)

"""The SchemaService: schemas with their revisions, over kills, and messages that are compared with them."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any, cast

import pytest

from mainstem.doors.pubsub import schemas
from mainstem.doors.pubsub.calls import Code, RpcError
from mainstem.doors.pubsub.schema_catalog import REVISIONS_MAX, SchemaCatalog
from mainstem.doors.pubsub.schemas import VALIDATED_BYTES_MAX
from tests.doors.pubsub.service_client import ServiceClient, run

PARENT = "projects/airline"
NAME = f"{PARENT}/schemas/flight"
AVRO = json.dumps({"type": "record", "name": "Flight", "fields": [{"name": "number", "type": "int"}]})
AVRO_2 = json.dumps(
    {
        "type": "record",
        "name": "Flight",
        "fields": [{"name": "number", "type": "string"}, {"name": "gate", "type": "string"}],
    }
)
PROTO = 'syntax = "proto3"; message Flight { int32 number = 1; }'
OLD, NEW = b'{"number": 7}', b'{"number": "7", "gate": "A1"}'


async def create(client: ServiceClient, definition: str = AVRO, kind: str = "AVRO") -> Any:
    schema = {"type": kind, "definition": definition}
    return await client.call("CreateSchema", parent=PARENT, schema=schema, schemaId="flight")


async def commit(client: ServiceClient, definition: str) -> Any:
    schema = {"name": NAME, "type": "AVRO", "definition": definition}
    return await client.call("CommitSchema", name=NAME, schema=schema)


def test_a_schema_and_its_revisions_outlive_a_power_cut() -> None:
    async def test(client: ServiceClient) -> None:
        first = await create(client)
        assert (first.name, first.definition, len(first.revision_id)) == (NAME, AVRO, 8)
        assert int(first.revision_id, 16) >= 0
        second = await commit(client, AVRO_2)
        assert second.revision_id != first.revision_id
        await client.crash()
        assert await client.call("GetSchema", name=NAME) == second
        assert await client.call("GetSchema", name=f"{NAME}@{first.revision_id}") == first
        third = await client.call("RollbackSchema", name=NAME, revisionId=first.revision_id)
        assert third.definition == AVRO
        assert third.revision_id not in (first.revision_id, second.revision_id)
        listed = await client.call("ListSchemaRevisions", name=NAME, view="FULL", pageSize=2)
        assert list(listed.schemas) == [third, second]
        rest = await client.call(
            "ListSchemaRevisions", name=NAME, view="FULL", pageSize=2, pageToken=listed.next_page_token
        )
        assert list(rest.schemas) == [first]
        assert rest.next_page_token == ""
        deleted = await client.call("DeleteSchemaRevision", name=f"{NAME}@{third.revision_id}")
        assert deleted == third
        assert await client.call("GetSchema", name=NAME) == second
        assert (await client.call("GetSchema", name=NAME, view="BASIC")).definition == ""
        await client.call("DeleteSchema", name=NAME)
        await client.crash()
        error = await client.refusal("GetSchema", name=NAME)
        assert (error.code, error.message) == (
            Code.NOT_FOUND,
            "Resource not found (resource=flight).",
        )

    run(test, schemas.handlers)


def test_schemas_are_listed_by_project_in_pages_without_their_definitions() -> None:
    async def test(client: ServiceClient) -> None:
        assert list((await client.call("ListSchemas", parent=PARENT)).schemas) == []
        for project, id_ in (("airline", "bbb"), ("airline", "aaa"), ("airline2", "ccc")):
            await client.call(
                "CreateSchema",
                parent=f"projects/{project}",
                schema={"type": "PROTOCOL_BUFFER", "definition": PROTO},
                schemaId=id_,
            )
        page = await client.call("ListSchemas", parent=PARENT, pageSize=1)
        assert [(schema.name, schema.definition) for schema in page.schemas] == [
            (f"{PARENT}/schemas/aaa", "")
        ]
        page = await client.call(
            "ListSchemas", parent=PARENT, pageSize=1, pageToken=page.next_page_token, view="FULL"
        )
        assert [(schema.name, schema.definition) for schema in page.schemas] == [
            (f"{PARENT}/schemas/bbb", PROTO)
        ]
        assert page.next_page_token == ""

    run(test, schemas.handlers)


def test_what_cannot_be_is_refused() -> None:
    async def test(client: ServiceClient) -> None:
        first = await create(client)
        avro = {"type": "AVRO", "definition": AVRO}
        for code, name, fields in (
            (Code.ALREADY_EXISTS, "CreateSchema", {"parent": PARENT, "schema": avro, "schemaId": "flight"}),
            (Code.INVALID_ARGUMENT, "CreateSchema", {"parent": PARENT, "schema": avro, "schemaId": "1"}),
            (Code.INVALID_ARGUMENT, "CreateSchema", {"parent": "airline", "schema": avro, "schemaId": "abc"}),
            (Code.INVALID_ARGUMENT, "CreateSchema", {"parent": PARENT, "schemaId": "abc"}),
            (Code.INVALID_ARGUMENT, "CommitSchema", {"name": NAME, "schema": {"type": "AVRO"}}),
            (
                Code.INVALID_ARGUMENT,
                "CommitSchema",
                {"name": NAME, "schema": {"type": "PROTOCOL_BUFFER", "definition": PROTO}},
            ),
            (Code.NOT_FOUND, "CommitSchema", {"name": f"{NAME}2", "schema": avro}),
            (Code.NOT_FOUND, "GetSchema", {"name": f"{NAME}@00000000"}),
            (Code.NOT_FOUND, "RollbackSchema", {"name": NAME, "revisionId": "00000000"}),
            (Code.INVALID_ARGUMENT, "RollbackSchema", {"name": NAME}),
            (Code.FAILED_PRECONDITION, "DeleteSchemaRevision", {"name": f"{NAME}@{first.revision_id}"}),
            (Code.INVALID_ARGUMENT, "DeleteSchemaRevision", {"name": NAME}),
            (Code.INVALID_ARGUMENT, "DeleteSchema", {"name": f"{NAME}@{first.revision_id}"}),
            (Code.INVALID_ARGUMENT, "ListSchemas", {"parent": PARENT, "pageToken": "x"}),
            (Code.INVALID_ARGUMENT, "ValidateSchema", {"parent": PARENT, "schema": {"type": "AVRO"}}),
        ):
            assert (await client.refusal(name, **fields)).code == code, (name, fields)
        for _ in range(REVISIONS_MAX - 1):
            await commit(client, AVRO)
        with pytest.raises(RpcError, match="20 revisions"):
            await commit(client, AVRO)

    run(test, schemas.handlers)


def test_a_definition_and_a_message_are_validated() -> None:
    async def test(client: ServiceClient) -> None:
        first = await create(client, PROTO, "PROTOCOL_BUFFER")
        schema = {"type": "PROTOCOL_BUFFER", "definition": PROTO}
        await client.call("ValidateSchema", parent=PARENT, schema=schema)
        for spec in ({"schema": schema}, {"name": NAME}, {"name": f"{NAME}@{first.revision_id}"}):
            for encoding, data, is_valid in (
                ("JSON", OLD, True),
                ("BINARY", b"\x08\x07", True),
                ("JSON", b"\x08\x07", False),
                ("ENCODING_UNSPECIFIED", OLD, False),
            ):
                fields = {"message": b64encode(data).decode(), "encoding": encoding}
                if is_valid:
                    await client.call("ValidateMessage", parent=PARENT, **spec, **fields)
                else:
                    error = await client.refusal("ValidateMessage", parent=PARENT, **spec, **fields)
                    assert error.code == Code.INVALID_ARGUMENT

    run(test, schemas.handlers)


def test_validation_needs_a_right_and_is_bounded() -> None:
    """It is work for the server that nothing else bounds."""

    async def test(client: ServiceClient) -> None:
        for name in ("ValidateSchema", "ValidateMessage"):
            assert client.methods[f"/google.pubsub.v1.SchemaService/{name}"].rights
        fields = {"encoding": "BINARY", "message": b64encode(bytes(VALIDATED_BYTES_MAX + 1)).decode()}
        schema = {"type": "AVRO", "definition": '{"type": "array", "items": "boolean"}'}
        error = await client.refusal("ValidateMessage", parent=PARENT, schema=schema, **fields)
        assert error.code == Code.INVALID_ARGUMENT
        assert "at most" in error.message

    run(test, schemas.handlers)


def test_messages_agree_with_the_latest_revision_that_they_fit() -> None:
    async def test(client: ServiceClient) -> None:
        catalog = SchemaCatalog(cast(Any, client.context))

        async def check(*messages: bytes, **revisions: str) -> list[str]:
            return await client.server.drive(catalog.check_messages(NAME, "JSON", messages, **revisions))

        first = (await create(client)).revision_id
        assert await check(OLD, OLD) == [first, first]
        with pytest.raises(RpcError, match="message 1 is not as its schema"):
            await check(OLD, NEW)
        second = (await commit(client, AVRO_2)).revision_id
        assert await check(OLD, NEW) == [first, second]  # though another client has committed it just now
        with pytest.raises(RpcError, match="number"):
            await check(OLD, first_revision=second)
        with pytest.raises(RpcError):
            await check(NEW, last_revision=first)
        with pytest.raises(RpcError, match="deleted"):
            await check(OLD, first_revision="00000000")
        assert await client.server.drive(catalog.exists(NAME))
        await client.call("DeleteSchema", name=NAME)
        await client.server.pass_time(1.1)
        assert not await client.server.drive(catalog.exists(NAME))
        with pytest.raises(RpcError) as caught:
            await check(OLD)
        assert caught.value.code == Code.FAILED_PRECONDITION

    run(test, schemas.handlers)

"""The IAMPolicy service: policies are stored and shown, and permissions are the rights of access control."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from mainstem.access_contract import (
    ANY_HOST,
    Acl,
    Operation,
    PatternType,
    Permission,
    Principal,
    ResourceType,
)
from mainstem.contract import NotAuthorized
from mainstem.doors.pubsub import iam, publisher, schemas, snapshots, subscriber
from mainstem.doors.pubsub.calls import Code
from mainstem.settings import Settings
from tests.doors.pubsub import service_client
from tests.doors.pubsub.service_client import ServiceClient

PROJECT = "projects/airline"
TOPIC = f"{PROJECT}/topics/flights"
NAMES = (TOPIC, f"{PROJECT}/subscriptions/gates", f"{PROJECT}/snapshots/before", f"{PROJECT}/schemas/flight")
READER = {"role": "roles/pubsub.viewer", "members": ["user:ann@shop.example"]}
ALICE = Principal("User", "alice")


def run(test: Any, settings: Settings | None = None) -> None:
    async def prepared(client: ServiceClient) -> None:
        _, subscription, snapshot, _ = NAMES
        await client.call("CreateTopic", name=TOPIC)
        await client.call("CreateSubscription", name=subscription, topic=TOPIC)
        await client.call("CreateSnapshot", name=snapshot, subscription=subscription)
        schema = {"type": "AVRO", "definition": '"string"'}
        await client.call("CreateSchema", parent=PROJECT, schemaId="flight", schema=schema)
        await test(client)

    services = (
        publisher.handlers,
        subscriber.handlers,
        snapshots.handlers,
        schemas.handlers,
        iam.handlers,
    )
    service_client.run(prepared, *services, settings=settings)


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_is_what_was_set_also_after_a_power_cut(name: str) -> None:
    async def test(client: ServiceClient) -> None:
        before = await client.call("GetIamPolicy", resource=name)
        assert (before.etag, list(before.bindings)) == (iam.NO_POLICY_ETAG, [])
        made = await client.call("SetIamPolicy", resource=name, policy={"version": 1, "bindings": [READER]})
        assert [(binding.role, list(binding.members)) for binding in made.bindings] == [
            (READER["role"], READER["members"])
        ]
        assert made.etag not in (b"", before.etag)
        await client.crash()
        assert await client.call("GetIamPolicy", resource=name) == made

    run(test)


def test_a_policy_that_somebody_else_has_changed_is_not_overwritten() -> None:
    async def test(client: ServiceClient) -> None:
        first = await client.call("SetIamPolicy", resource=TOPIC, policy={"bindings": [READER]})
        etag = b64encode(first.etag).decode()
        second = await client.call("SetIamPolicy", resource=TOPIC, policy={"etag": etag})
        assert list(second.bindings) == []
        error = await client.refusal("SetIamPolicy", resource=TOPIC, policy={"etag": etag})
        assert error.code == Code.ABORTED
        unchanged = await client.call(
            "SetIamPolicy", resource=TOPIC, policy={"bindings": [READER]}, updateMask="auditConfigs"
        )
        assert list(unchanged.bindings) == []
        await client.call("DeleteTopic", topic=TOPIC)
        assert (await client.refusal("GetIamPolicy", resource=TOPIC)).code == Code.NOT_FOUND
        await client.call("CreateTopic", name=TOPIC)
        assert (await client.call("GetIamPolicy", resource=TOPIC)).etag == iam.NO_POLICY_ETAG

    run(test)


def test_what_is_no_policy_or_no_resource_is_refused() -> None:
    async def test(client: ServiceClient) -> None:
        member = {"role": "roles/viewer", "members": ["ann"]}
        for code, name, fields in (
            (Code.NOT_FOUND, "GetIamPolicy", {"resource": f"{TOPIC}2"}),
            (Code.NOT_FOUND, "GetIamPolicy", {"resource": f"{PROJECT}/snapshots/other"}),
            (Code.INVALID_ARGUMENT, "GetIamPolicy", {"resource": "flights"}),
            (Code.INVALID_ARGUMENT, "SetIamPolicy", {"resource": TOPIC, "policy": {"version": 2}}),
            (
                Code.INVALID_ARGUMENT,
                "SetIamPolicy",
                {"resource": TOPIC, "policy": {"bindings": [{"role": "viewer"}]}},
            ),
            (Code.INVALID_ARGUMENT, "SetIamPolicy", {"resource": TOPIC, "policy": {"bindings": [member]}}),
            (Code.INVALID_ARGUMENT, "TestIamPermissions", {"resource": TOPIC}),
            (Code.INVALID_ARGUMENT, "TestIamPermissions", {"resource": TOPIC, "permissions": ["pubsub.*"]}),
        ):
            assert (await client.refusal(name, **fields)).code == code, (name, fields)

    run(test)


def test_without_access_control_everybody_has_every_permission() -> None:
    async def test(client: ServiceClient) -> None:
        asked = ["pubsub.topics.publish", "pubsub.topics.update", "storage.buckets.get"]
        response = await client.call("TestIamPermissions", resource=TOPIC, permissions=asked)
        assert list(response.permissions) == asked

    run(test)


def test_with_access_control_permissions_are_the_rights_of_who_calls() -> None:
    async def test(client: ServiceClient) -> None:
        entry = Acl(
            ResourceType.TOPIC,
            "flights",
            PatternType.LITERAL,
            ALICE,
            ANY_HOST,
            Operation.WRITE,
            Permission.ALLOW,
        )
        await client.server.drive(client.server.node.access.create_acls([entry]))
        client.principal = ALICE
        asked = [
            "pubsub.topics.publish",
            "pubsub.topics.get",
            "pubsub.topics.update",
            "pubsub.subscriptions.consume",
            "storage.topics.get",
        ]
        response = await client.call("TestIamPermissions", resource=TOPIC, permissions=asked)
        assert list(response.permissions) == asked[:2]
        for name in NAMES[1:]:
            collection = name.split("/")[2]
            asked = [f"pubsub.{collection}.delete", f"pubsub.{collection}.get"]
            response = await client.call("TestIamPermissions", resource=name, permissions=asked)
            assert list(response.permissions) == []
        await client.call("GetIamPolicy", resource=TOPIC)
        with pytest.raises(NotAuthorized):
            await client.call("SetIamPolicy", resource=TOPIC, policy={})
        error = await client.refusal("GetIamPolicy", resource=f"{TOPIC}2")
        assert error.code == Code.PERMISSION_DENIED

    run(test, Settings(access_control=True))

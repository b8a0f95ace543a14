"""kafka-acls.sh, librdkafka's and franz-go's admin clients against a server with access control."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.compat import apache_kafka
from tests.compat.suites import BUILT
from tests.compat.test_share_tools import tool
from tests.support.server import Server

ACLS = "org.apache.kafka.tools.AclCommand"
SETTINGS = {"access_control": "true", "super_users": "User:ANONYMOUS"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kafka_acls_adds_lists_and_removes_entries(tmp_path: Path) -> None:
    if not list(apache_kafka.JARS.glob("kafka-tools-*.jar")):
        pytest.skip("no Apache Kafka: run `make deps-all`")
    with Server(tmp_path / "data", **SETTINGS).start() as server:
        alice = ("--allow-principal", "User:alice")
        added = tool(server, ACLS, "--add", *alice, "--consumer", "--topic", "orders", "--group", "readers")
        assert "Adding ACLs for resource" in added
        prefix = ("--topic", "log-", "--resource-pattern-type", "prefixed")
        tool(server, ACLS, "--add", "--deny-principal", "User:bob", "--deny-host", "10.0.0.1", *prefix)
        listed = tool(server, ACLS, "--list")
        assert listed.count("principal=User:alice") == 3, "READ and DESCRIBE of the topic, READ of the group"
        assert "principal=User:bob, host=10.0.0.1, operation=ALL, permissionType=DENY" in listed
        assert "resourceType=TOPIC, name=log-, patternType=PREFIXED" in listed
        of_topic = tool(server, ACLS, "--list", "--topic", "log-77", "--resource-pattern-type", "match")
        assert "name=log-" in of_topic
        assert "name=orders" not in of_topic
        tool(server, ACLS, "--remove", "--force", "--topic", "orders", "--group", "readers")
        left = tool(server, ACLS, "--list")
        assert "alice" not in left
        assert "bob" in left


def results(futures: dict[Any, Future[Any]]) -> list[Any]:
    return [future.result(10) for future in futures.values()]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_librdkafka_creates_describes_and_deletes_entries(tmp_path: Path) -> None:
    entry = (
        ResourceType.TOPIC,
        "orders",
        ResourcePatternType.LITERAL,
        "User:alice",
        "*",
        AclOperation.READ,
        AclPermissionType.ALLOW,
    )
    with Server(tmp_path / "data", **SETTINGS).start() as server:
        admin = AdminClient({"bootstrap.servers": server.address})
        created = AclBinding(*entry)
        nameless = AclBinding(ResourceType.TOPIC, "", *entry[2:])
        futures = admin.create_acls([created, nameless])
        assert futures[created].result(10) is None
        with pytest.raises(KafkaException, match="characters"):
            futures[nameless].result(10)
        everything = AclBindingFilter(
            ResourceType.ANY,
            None,
            ResourcePatternType.ANY,
            None,
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        assert admin.describe_acls(everything).result(10) == [created]
        assert results(admin.delete_acls([everything])) == [[created]]
        assert admin.describe_acls(everything).result(10) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_franz_go_creates_describes_and_deletes_entries(tmp_path: Path) -> None:
    program = BUILT / "bin" / "acls"
    if not program.exists():
        pytest.skip("no programs in Go: run `make deps-all`")
    with Server(tmp_path / "data", **SETTINGS).start() as server:
        done = subprocess.run([program, server.address], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    of_topic = [f"TOPIC orders LITERAL User:alice * {operation} ALLOW" for operation in ("READ", "DESCRIBE")]
    of_group = [f"GROUP readers LITERAL User:alice * {operation} ALLOW" for operation in ("READ", "DESCRIBE")]
    denial = "TOPIC log- PREFIXED User:bob 10.0.0.1 ALL DENY"
    assert sorted(reply["created"]) == sorted([*of_topic, *of_group, denial])
    assert sorted(reply["described"]) == sorted(reply["created"])
    assert reply["matching"] == [denial]
    assert sorted(reply["deleted"]) == sorted(of_topic)
    assert sorted(reply["left"]) == sorted([*of_group, denial])

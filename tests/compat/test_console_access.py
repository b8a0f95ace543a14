"""A console with users, rights, masked fields and an audit of its own, in front of a real Apache Kafka that
asks for TLS and a login."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
)
from confluent_kafka.admin import ResourceType as KafkaResourceType

import mainstem as library
from mainstem.access_contract import Operation
from mainstem.cli.exit_codes import ExitCode
from mainstem.contract import NewEvent, NotReachable, Position
from mainstem.engines.kafka.engine import KafkaEngine
from tests.cli.conftest import CommandResult, command
from tests.compat.apache_kafka import JARS
from tests.compat.secured_kafka import GUEST, GUEST_PASSWORD, PASSWORD, USER, SecuredKafka, secured_kafka
from tests.support.certificates import client_files
from tests.support.console_rig import SUPER, ConsoleRig, console

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not list(JARS.glob("kafka_2.13-*.jar")), reason="no Apache Kafka: make deps-all"),
]
READY = re.compile(r"mainstem console ready  https://(\S+)/  kafka=\S+  data=\S+")
CARDS = ["4111111111111111", "5500000000000004"]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """The broker, with orders and secrets."""
    with secured_kafka(tmp_path_factory.mktemp("kafka")) as broker:
        asyncio.run(_fill(broker))
        yield broker


async def _fill(broker: SecuredKafka) -> None:
    engine = await KafkaEngine.connect(broker.address, security=broker.login())
    try:
        for topic in ("orders", "secrets"):
            await engine.create_topic(topic, partitions=1)
            values = [json.dumps({"id": str(number), "card": card}) for number, card in enumerate(CARDS)]
            await engine.publish(topic, [NewEvent(value.encode(), key=b"k") for value in values])
    finally:
        await engine.close()


async def hits(rig: ConsoleRig, user: str, **body: Any) -> list[Any]:
    """The payloads that a search finds."""
    answer = await rig.request(user, "POST", "search", body)
    assert answer.status == 200, answer.body
    return [row["hit"]["value"] for row in answer.body if "hit" in row]


def test_each_request_is_checked_masked_and_audited(kafka: SecuredKafka, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with console(kafka.address, tmp_path / "own", security=kafka.login()) as rig:
            for user in ("reader", "bob"):
                await rig.add_user(user)
            await rig.allow("reader", Operation.READ, "orders")
            rule = {"rule": "cards", "topic": "orders", "path": "card", "kind": "last4"}
            assert (await rig.request(SUPER, "POST", "masking-rules", rule)).status == 200
            await _finds_what_it_may(rig)
            await _asks_for_what_it_may_not(rig)
            await _reads_the_audit(rig)

    asyncio.run(scenario())


async def _finds_what_it_may(rig: ConsoleRig) -> None:
    masked = [{"id": str(number), "card": "…" + card[-4:]} for number, card in enumerate(CARDS)]
    assert await hits(rig, "reader", query="id:1") == masked[1:]
    assert sorted(await hits(rig, "reader", query="id:*"), key=str) == sorted(masked, key=str)
    assert len(await hits(rig, SUPER, query="id:*")) == 4
    assert await hits(rig, SUPER, query=f"card:{CARDS[0]}", topics=["orders"]) == [
        {"id": "0", "card": CARDS[0]}
    ]
    assert await hits(rig, "bob", query="id:*") == []
    exported = await rig.request("reader", "POST", "export", {"query": "id:*", "format": "ndjson"})
    assert [row["value"] for row in exported.body] == masked
    read = await rig.request("reader", "GET", "topics/orders/partitions/0/events")
    assert [event["value"] for event in read.body["events"]] == masked
    counted = (await rig.request("reader", "POST", "facets", {"query": "id:*"})).body
    fields = next(row["facets"]["fields"] for row in reversed(counted) if "facets" in row)
    assert "id" in fields
    assert "card" not in fields


async def _asks_for_what_it_may_not(rig: ConsoleRig) -> None:
    for query in (f"card:{CARDS[0]}", CARDS[0]):
        asked = await rig.request("reader", "POST", "search", {"query": query, "topics": ["orders"]})
        assert "masked" in json.dumps(asked.body)
        assert CARDS[0] not in json.dumps(asked.body).replace(query, "")
    for topic in ("secrets", "not-there", "__mainstem_audit"):
        named = await rig.request("reader", "POST", "search", {"query": "", "topics": [topic]})
        assert "not authorized to READ" in json.dumps(named.body)
    for method, path, body in (
        ("POST", "topics/orders/events", {"value": 1}),
        ("DELETE", "topics/orders", None),
        ("POST", "topics", {"topic": "mine"}),
        ("GET", "topics/secrets", None),
        ("GET", "topics/not-there", None),
        ("POST", "replay", {"matches": {"query": "id:*", "topics": ["orders"]}, "to": "secrets"}),
    ):
        assert (await rig.request("reader", method, path, body)).status == 403, path


async def _reads_the_audit(rig: ConsoleRig) -> None:
    denied = await hits(rig, SUPER, query="outcome:denied", topics=["__mainstem_audit"], limit=1_000)
    assert {"User:reader"} == {row["principal"] for row in denied}
    assert {("delete", "orders"), ("write", "orders"), ("read", "secrets")} <= {
        (row["action"], row["resource"]) for row in denied
    }
    exports = await hits(rig, SUPER, query="action:export", topics=["__mainstem_audit"])
    assert [(row["principal"], row["outcome"]) for row in exports] == [("User:reader", "done")]


def test_the_cluster_sees_the_one_account_whatever_the_console_allows(
    kafka: SecuredKafka, tmp_path: Path
) -> None:
    """The guest may do nothing in Kafka, so no user of its console may; an entry for a user of the console
    changes nothing in Kafka, and one for the guest does."""
    admin = AdminClient({"bootstrap.servers": kafka.address, "log_level": 0, **kafka.login().librdkafka()})

    def allow_in_kafka(principal: str) -> None:
        (added,) = admin.create_acls(
            [
                AclBinding(
                    KafkaResourceType.TOPIC,
                    "orders",
                    ResourcePatternType.LITERAL,
                    principal,
                    "*",
                    AclOperation.READ,
                    AclPermissionType.ALLOW,
                )
            ]
        ).values()
        added.result(20)

    async def scenario() -> None:
        security = kafka.login(GUEST, GUEST_PASSWORD)
        read = "topics/orders/partitions/0/events"
        async with console(kafka.address, tmp_path / "own", security=security) as rig:
            await rig.add_user("reader")
            await rig.allow("reader", Operation.READ, "orders")
            await asyncio.to_thread(allow_in_kafka, "User:reader")
            for user in (SUPER, "reader"):
                assert (await rig.request(user, "GET", read)).status in (403, 404)
            await asyncio.to_thread(allow_in_kafka, f"User:{GUEST}")
            for _ in range(100):  # until Kafka's metadata log has been applied
                if (await rig.request("reader", "GET", read)).status == 200:
                    break
                await asyncio.sleep(0.1)
            assert (await rig.request("reader", "GET", read)).status == 200
            assert (await rig.request(SUPER, "POST", "topics/orders/events", {"value": 1})).status in (
                403,
                404,
            )

    asyncio.run(scenario())


def private(path: Path, text: str) -> str:
    """A file with a secret."""
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


@contextmanager
def console_process(data: Path, *options: str) -> Iterator[tuple[str, list[str]]]:
    """`mainstem console --secure` as a process: the address of its HTTP door, and the options of its
    administrator."""
    arguments = ["--http", "127.0.0.1:0", "--data", str(data), "--secure"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mainstem", "console", *arguments, *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        secured, ready = process.stdout.readline(), READY.match(process.stdout.readline())
        assert secured.startswith("secure  user=admin password-file=")
        assert ready is not None
        files = data / "secure"
        login = ["--user", "admin", "--password-file", str(files / "admin-password")]
        yield f"https://{ready[1]}", ["--ca", str(files / "ca.pem"), *login]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        process.stdout.close()


@pytest.mark.parametrize("way", ["password", "certificate", "properties"])
def test_the_console_logs_in_to_the_cluster(kafka: SecuredKafka, tmp_path: Path, way: str) -> None:
    cert = client_files(USER)
    options = {
        "password": [
            *("--at", kafka.address, "--ca", str(kafka.ca), "--user", USER, "--sasl-mechanism", "PLAIN"),
            *("--password-file", private(tmp_path / "password", PASSWORD)),
        ],
        "certificate": [
            *("--at", kafka.cert_address, "--ca", str(kafka.ca)),
            *("--cert", str(cert.cert), "--cert-key", str(cert.key)),
        ],
        "properties": ["--client-config", str(kafka.write_properties(tmp_path / "client.properties"))],
    }[way]
    with console_process(tmp_path / "own", *options) as (door, login):
        done = command("search", "id:1", "--topic", "orders", "--json", *login, address=door)
        assert (done.code, json.loads(done.out)["value"]["card"]) == (0, CARDS[1]), done.err


def test_a_person_is_administered_and_works_by_commands(kafka: SecuredKafka, tmp_path: Path) -> None:
    """Before the first start on the folder, then by the console's HTTP door."""
    data = tmp_path / "own"
    secret = private(tmp_path / "anna", "of anna")

    def offline(*arguments: str) -> CommandResult:
        done = command(*arguments, "--data", str(data))
        assert done.code == 0, done.err
        return done

    offline("users", "add", "anna", "--new-password-file", secret)
    offline("acls", "add", "--allow", "anna", "--operation", "read", "--topic", "orders")
    offline("masking-rules", "add", "cards", "--topic", "orders", "--path", "card", "--kind", "hidden")
    token = offline("tokens", "add", "anna", "--name", "ci").out.strip()
    account = ["--client-config", str(kafka.write_properties(tmp_path / "client.properties"))]
    with console_process(data, *account) as (door, admin):
        ca = admin[:2]
        anna = [*ca, "--user", "anna", "--password-file", secret]
        by_token = [*ca, "--token-file", private(tmp_path / "token", token)]
        for login in (anna, by_token):
            done = command("search", "id:1", "--json", *login, address=door)
            assert (done.code, json.loads(done.out)["value"]) == (0, {"id": "1", "card": "[hidden]"})
            exported = command("export", "--topic", "orders", *login, address=door)
            assert exported.code == 0, exported.err
            assert CARDS[0] not in exported.out
        named = command("search", "", "--topic", "secrets", *anna, address=door)
        assert (named.code, named.err) == (
            ExitCode.USAGE,
            "mainstem: not authorized to READ topic secrets\n",
        )
        assert command("users", "list", *anna, address=door).code == ExitCode.FAILED
        assert [row[0] for row in command("users", "list", *admin, address=door).rows] == ["admin", "anna"]
        assert len(command("tokens", "list", *admin, address=door).rows) == 1
        assert command("users", "delete", "anna", "--yes", *admin, address=door).code == 0
        for login in (anna, by_token):
            ended = command("search", "id:1", *login, address=door)
            assert (ended.code, "a login is needed" in ended.err) == (ExitCode.USAGE, True), ended.err


def test_a_console_that_the_cluster_refuses_does_not_start(kafka: SecuredKafka, tmp_path: Path) -> None:
    wrong = kafka.write_properties(tmp_path / "wrong.properties", password="wrong")
    start = ("console", "--http", "127.0.0.1:0", "--data", str(tmp_path / "own"), "--secure")
    done = command(*start, "--client-config", str(wrong))
    assert done.code == ExitCode.NOT_REACHABLE
    assert f"the login as {USER} is refused" in done.err
    done = command(*start, address=kafka.address)
    assert done.code == ExitCode.NOT_REACHABLE
    assert "it expects TLS: --ca FILE" in done.err
    done = command(*start, "--ca", str(kafka.ca), address=kafka.address)
    assert done.code == ExitCode.NOT_REACHABLE
    assert "it expects a login, by PLAIN: add --user NAME" in done.err


def test_the_python_api_logs_in_to_the_cluster(kafka: SecuredKafka) -> None:
    async def scenario() -> None:
        async with library.connect(kafka.address, security=kafka.login()) as stream:
            position = await stream.publish("secrets", "by Python")
            assert position == Position("secrets", 0, len(CARDS))
        with pytest.raises(NotReachable, match=f"the login as {USER} is refused"):
            async with library.connect(kafka.address, security=kafka.login(password="wrong")):
                pass

    asyncio.run(scenario())

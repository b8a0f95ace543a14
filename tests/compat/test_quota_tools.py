"""Client quotas: Kafka's own tool sets and shows them, a producer keeps to them, and raw requests get the
answers that Apache Kafka gives."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mainstem.kafka_protocol.message import Message
from tests.compat import apache_kafka
from tests.compat.share_lab import Caller
from tests.compat.test_share_tools import CONFIGS, tool
from tests.doors.kafka.kit import batch, produce_request
from tests.support.server import Server

NAMES: tuple[str | None, ...] = (None, "a", "b", "")
VALUES = (1.0, 1024.0, 1.5, 0.0, -1.0)
KEYS = (
    "producer_byte_rate",
    "consumer_byte_rate",
    "request_percentage",
    "connection_creation_rate",
    "nothing",
)
LEARNED_S = 10.0


def need_kafka() -> None:
    if not list(apache_kafka.JARS.glob("kafka-tools-*.jar")):
        pytest.skip("no Apache Kafka: run `make deps-all`")


def caller(address: str) -> Caller:
    host, port = address.rsplit(":", 1)
    return Caller((host, int(port)))


def entities() -> list[list[tuple[str, str | None]]]:
    """Of all types, alone and together, with names, defaults, and mistakes."""
    alone = [[(kind, name)] for kind in ("user", "client-id") for name in NAMES]
    both = [[("user", user), ("client-id", client)] for user in NAMES for client in NAMES]
    ips = [[("ip", name)] for name in (None, "10.0.0.1", "")]
    wrong: list[list[tuple[str, str | None]]] = [
        [],
        [("colour", "red")],
        [("user", "a"), ("user", "b")],
        [("ip", "10.0.0.1"), ("user", "a")],
    ]
    return [*alone, *both, *ips, *wrong]


def transcript(address: str, expected: Sequence[Any] = ()) -> list[Any]:
    """The error codes of many changes, and what is described after each round of them: when it is what is
    expected, for Kafka's broker learns later of what its controller has."""
    client, out = caller(address), list[Any]()

    def describe(components: list[Message], strict: bool) -> None:
        give_up_s, now = time.monotonic() + LEARNED_S, described(client, components, strict)
        while expected and now != expected[len(out)] and time.monotonic() < give_up_s:
            time.sleep(0.01)
            now = described(client, components, strict)
        out.append(now)

    for key, value in [*itertools.product(KEYS, VALUES), *((key, None) for key in KEYS)]:
        change = Message(key=key, value=value or 0.0, remove=value is None)
        entries = [
            Message(entity=[Message(entity_type=k, entity_name=n) for k, n in entity], ops=[change])
            for entity in entities()
        ]
        # Kafka answers in no order, and names each entity once: one request each.
        for entry in entries:
            reply = client.call(49, 1, Message(entries=[entry], validate_only=False))
            out.append((key, value, [(p.entity_type, p.entity_name) for p in entry.entity]))
            out.append([result.error_code for result in reply.entries])
        describe([], False)
    for components in itertools.product(FILTERS, FILTERS):
        for strict in (False, True):
            describe([c for c in components if c is not None], strict)
    client.close()
    return out


FILTERS = (
    None,
    Message(entity_type="user", match_type=0, match="a"),
    Message(entity_type="user", match_type=1, match=None),
    Message(entity_type="client-id", match_type=2, match=None),
    Message(entity_type="client-id", match_type=0, match="b"),
    Message(entity_type="ip", match_type=2, match=None),
)


def described(client: Caller, components: list[Message], strict: bool) -> Any:
    reply = client.call(48, 1, Message(components=components, strict=strict))
    entries = (
        (
            sorted((part.entity_type, part.entity_name or "") for part in entry.entity),
            sorted((value.key, value.value) for value in entry.values),
        )
        for entry in reply.entries or ()
    )
    return reply.error_code, sorted(entries)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_quotas_are_altered_and_described_as_by_apache_kafka(tmp_path: Path) -> None:
    need_kafka()
    with Server(tmp_path / "data").start() as server:
        ours = transcript(server.address)
    with apache_kafka.apache_kafka() as address:
        theirs = transcript(address, expected=ours)
    for number, (mine, kafkas) in enumerate(zip(ours, theirs, strict=True)):
        assert mine == kafkas, (number, ours[number - 1])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kafkas_tool_sets_quotas_and_a_producer_keeps_to_them(tmp_path: Path) -> None:
    need_kafka()
    with Server(tmp_path / "data") as server:
        entity = ("--entity-type", "users", "--entity-name", "ANONYMOUS")
        rate = "producer_byte_rate=100000,request_percentage=150"
        assert "Completed updating config" in tool(server, CONFIGS, *entity, "--alter", "--add-config", rate)
        shown = tool(server, CONFIGS, *entity, "--describe")
        assert "producer_byte_rate=100000.0" in shown
        assert "request_percentage=150.0" in shown
        default = ("--entity-type", "clients", "--entity-default")
        tool(server, CONFIGS, *default, "--alter", "--add-config", "consumer_byte_rate=5000")
        assert "consumer_byte_rate=5000.0" in tool(server, CONFIGS, *default, "--describe")
        ip = ("--entity-type", "ips", "--entity-name", "10.0.0.1")
        tool(server, CONFIGS, *ip, "--alter", "--add-config", "connection_creation_rate=7")
        assert "connection_creation_rate=7.0" in tool(server, CONFIGS, *ip, "--describe")

        client = caller(server.address)
        made = Message(name="t", num_partitions=1, replication_factor=1, assignments=[], configs=[])
        client.call(19, 7, Message(topics=[made], timeout=20_000, validate_only=False))
        throttled_ms, began = 0, time.monotonic()
        for _ in range(13):
            request = produce_request("t", batch(b"x" * 100_000), transactional_id=None)
            throttled_ms += client.call(0, 9, request).throttle_time
        assert 1_000 < throttled_ms < 5_000, "ten seconds at once, and three more"
        assert time.monotonic() - began > 1.5, "the last reply but one was waited for"
        client.close()

        tool(server, CONFIGS, *entity, "--alter", "--delete-config", "producer_byte_rate,request_percentage")
        assert "producer_byte_rate" not in tool(server, CONFIGS, *entity, "--describe")
        performance = tool(
            server,
            "org.apache.kafka.tools.ProducerPerformance",
            *("--topic", "t", "--num-records", "1000", "--record-size", "1000", "--throughput", "-1"),
        )
        assert "1000 records sent" in performance, performance

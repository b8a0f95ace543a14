"""Kafka's own tools for share groups against a server: settings, consuming, offsets, members, deleting."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mainstem.clock import BlockingClock
from tests.cli.conftest import command
from tests.compat import apache_kafka
from tests.support.server import Server

TOOL_TIMEOUT_S = 120
CONFIGS = "org.apache.kafka.tools.ConfigCommand"
SHARE_GROUPS = "org.apache.kafka.tools.consumer.group.ShareGroupCommand"
CONSUMER = "org.apache.kafka.tools.consumer.ConsoleShareConsumer"
WAIT_S = 60


def tool(server: Server, name: str, *arguments: str) -> str:
    """What a tool prints."""
    arguments = ("--bootstrap-server", server.address, *arguments)
    done = subprocess.run(
        apache_kafka.java("256m", name, *arguments),
        capture_output=True,
        text=True,
        timeout=TOOL_TIMEOUT_S,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tools_of_share_groups(tmp_path: Path) -> None:
    if not list(apache_kafka.JARS.glob("kafka-tools-*.jar")):
        pytest.skip("no Apache Kafka: run `make deps-all`")
    with Server(tmp_path / "data") as server:
        command("topics", "create", "t", "--partitions", "2", address=server.address)
        produced = command("produce", "t", address=server.address, stdin="".join(f"{n}\n" for n in range(20)))
        assert produced.code == 0
        entity = ("--entity-type", "groups", "--entity-name", "g")
        changed = tool(
            server, CONFIGS, *entity, "--alter", "--add-config", "share.auto.offset.reset=earliest"
        )
        assert "Completed updating config" in changed
        shown = tool(server, CONFIGS, *entity, "--describe")
        assert "share.auto.offset.reset=earliest" in shown

        consumed = tool(server, CONSUMER, "--topic", "t", "--group", "g", "--max-messages", "20")
        numbers = sorted(int(line) for line in consumed.splitlines() if line.isdigit())
        assert numbers == list(range(20))

        assert "g" in tool(server, SHARE_GROUPS, "--list").split()
        state = tool(server, SHARE_GROUPS, "--describe", "--group", "g", "--state")
        assert "Empty" in state, "the consumer has left"
        offsets = [
            line.split() for line in tool(server, SHARE_GROUPS, "--describe", "--group", "g").splitlines()
        ]
        rows = [row for row in offsets if row[:2] == ["g", "t"]]
        assert sum(int(row[3]) for row in rows) == 20, "START-OFFSET of both partitions"
        assert [row[4] for row in rows] == ["0", "0"], "LAG"

        reset = tool(
            server,
            SHARE_GROUPS,
            "--reset-offsets",
            "--group",
            "g",
            "--all-topics",
            "--to-earliest",
            "--execute",
        )
        assert "Error" not in reset
        again = tool(server, CONSUMER, "--topic", "t", "--group", "g", "--max-messages", "20")
        assert sorted(int(line) for line in again.splitlines() if line.isdigit()) == numbers

        running = subprocess.Popen(
            apache_kafka.java(
                "256m", CONSUMER, "--bootstrap-server", server.address, "--topic", "t", "--group", "g"
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            clock = BlockingClock()
            deadline_s = clock.monotonic() + WAIT_S
            while ["g", "Stable", "share"] not in command("groups", "list", address=server.address).rows:
                assert clock.monotonic() < deadline_s, "the consumer did not join"
                clock.sleep(0.5)
            members = tool(server, SHARE_GROUPS, "--describe", "--group", "g", "--members")
            assert "console-share-consumer" in members
            assert "not EMPTY" in tool(server, SHARE_GROUPS, "--delete", "--group", "g")
        finally:
            running.terminate()
            running.wait(30)
        deadline_s = clock.monotonic() + WAIT_S
        while ["g", "Empty", "share"] not in command("groups", "list", address=server.address).rows:
            assert clock.monotonic() < deadline_s, "the consumer did not leave"
            clock.sleep(0.5)
        assert "was successful" in tool(server, SHARE_GROUPS, "--delete", "--group", "g")
        assert command("groups", "list", address=server.address).rows == []

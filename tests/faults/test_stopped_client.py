"""A client that is stopped with its connections open, like a closed laptop: other members get its
partitions."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.faults.client import QUIET, WAIT_S, wait_for
from tests.support.server import Server

MEMBER = """
import sys
from confluent_kafka import Consumer
consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": "billing", "session.timeout.ms": 6000})
consumer.subscribe(["orders"], on_assign=lambda _, held: print(len(held), flush=True))
while True:
    consumer.poll(0.1)
"""


@pytest.mark.slow
def test_the_partitions_of_a_stopped_client_are_assigned_to_the_others(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
        admin.create_topics([NewTopic("orders", 4, 1)])["orders"].result(WAIT_S)
        still = subprocess.Popen(
            [sys.executable, "-c", MEMBER, server.address],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert still.stdout is not None
            assert still.stdout.readline() == "4\n"
            still.send_signal(signal.SIGSTOP)
            other = Consumer(
                {
                    "bootstrap.servers": server.address,
                    "group.id": "billing",
                    "session.timeout.ms": 6000,
                    "max.poll.interval.ms": 10_000,
                    **QUIET,
                }
            )
            other.subscribe(["orders"])

            def has_all() -> bool:
                other.poll(0.2)
                return len(other.assignment()) == 4

            wait_for(has_all, "the stopped client keeps its partitions")
            other.close()
        finally:
            still.kill()
            still.wait()
            if still.stdout is not None:
                still.stdout.close()
        assert "Traceback" not in server.logs()

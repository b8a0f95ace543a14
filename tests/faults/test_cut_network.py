"""A network that goes away under a member of a group: no packet informs the server of the loss.

The member runs in a network namespace of its own, behind a pair of virtual interfaces, whose end here is then
taken down: what either side sends is lost, and no connection is reset. It needs root; without, the test is
skipped, and says so.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.faults.attacks import descriptors
from tests.faults.client import QUIET, WAIT_S, wait_for
from tests.faults.test_stopped_client import MEMBER
from tests.support.interfaces import interfaces
from tests.support.server import Server


def _ip(*arguments: str) -> None:
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("NOT SHOWN HERE: there is no `ip`")
    if done.returncode:
        pytest.skip(f"NOT SHOWN HERE: no network namespace can be made: {done.stderr.strip()}")


class NetworkNamespace:
    """A network namespace behind a cable. `here` is this machine's address on it, `there` the other one."""

    def __init__(self) -> None:
        self.name = f"mainstem{os.getpid()}"
        self._end = f"ms{os.getpid()}"
        net = f"169.254.{os.getpid() % 250}"
        self.here, self.there = f"{net}.1", f"{net}.2"

    def lay(self) -> None:
        """Make it."""
        _ip("netns", "add", self.name)
        _ip("link", "add", self._end, "type", "veth", "peer", "name", "far", "netns", self.name)
        _ip("addr", "add", f"{self.here}/30", "dev", self._end)
        _ip("link", "set", self._end, "up")
        _ip("-n", self.name, "addr", "add", f"{self.there}/30", "dev", "far")
        _ip("-n", self.name, "link", "set", "far", "up")

    def cut(self) -> None:
        """Cut the cable: packets are lost from now on, and no side is notified."""
        _ip("-n", self.name, "link", "set", "far", "down")

    def established(self) -> int:
        """Connections from there that somebody here holds open."""
        command = ["ss", "-tnH", "state", "established", "dst", self.there]
        return len(subprocess.run(command, capture_output=True, check=True).stdout.splitlines())

    def remove(self) -> None:
        """With all that is behind it."""
        for command in (["link", "del", self._end], ["netns", "del", self.name]):
            subprocess.run(["ip", *command], capture_output=True, check=False)


@contextlib.contextmanager
def wire() -> Iterator[NetworkNamespace]:
    """A cable and a namespace, removed at the end."""
    namespace = NetworkNamespace()
    with interfaces(change=True):
        try:
            namespace.lay()
            yield namespace
        finally:
            namespace.remove()


@pytest.mark.slow
@pytest.mark.timeout(300)  # it may wait for tests with a browser
def test_the_partitions_of_a_client_behind_a_cut_network_go_to_the_others(tmp_path: Path) -> None:
    with wire() as cable:
        settings = {"kafka": f"{cable.here}:0", "allow_anonymous": "true", "connections_max_idle_ms": 8000}
        with Server(tmp_path / "data", **settings) as server:
            admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
            admin.create_topics([NewTopic("orders", 4, 1)])["orders"].result(WAIT_S)
            far = subprocess.Popen(
                ["ip", "netns", "exec", cable.name, sys.executable, "-c", MEMBER, server.address],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            try:
                assert far.stdout is not None
                assert far.stdout.readline() == "4\n"
                wait_for(lambda: cable.established() >= 2, "one connection to fetch, one for the group")
                cable.cut()
                _another_gets_all(server)
                assert far.poll() is None, "it lives, and knows nothing"
                wait_for(lambda: cable.established() == 0, "connections to the lost client stay open")
                wait_for(lambda: descriptors(server, "socket") < 12, "descriptors are left")
            finally:
                far.kill()
                far.wait()
                if far.stdout is not None:
                    far.stdout.close()
            assert "Traceback" not in server.logs(), server.logs()


def _another_gets_all(server: Server) -> None:
    other = Consumer(
        {"bootstrap.servers": server.address, "group.id": "billing", "session.timeout.ms": 6000, **QUIET}
    )
    other.subscribe(["orders"])

    def has_all() -> bool:
        other.poll(0.2)
        return len(other.assignment()) == 4

    wait_for(has_all, "the client behind the cut network keeps its partitions")
    other.close()

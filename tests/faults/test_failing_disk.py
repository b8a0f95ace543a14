"""A disk that fails: fsync says EIO, once or for good, on a real file system under a real server and client.

strace makes the system call fail in the process that waits for the disk; an ext4 whose image lies in a tmpfs
that is too small makes the kernel's own write-back fail, after the write call had said that all is well.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import disks
from tests.faults.client import Client, wait_for
from tests.support.server import Server


def helper_of(server: Server) -> int:
    """The process that waits for the disk."""
    assert server.process is not None
    pid = server.process.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


@contextlib.contextmanager
def injected(server: Server, fault: str) -> Iterator[None]:
    """System calls of the helper fail as `fault` says (strace --inject) until the end of the block."""
    if shutil.which("strace") is None:
        pytest.skip("NOT SHOWN HERE: there is no strace")
    command = [
        "strace",
        "-f",
        "-qq",
        "-e",
        f"inject={fault}",
        "-p",
        str(helper_of(server)),
        "-o",
        "/dev/null",
    ]
    tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(0.5)  # it says nowhere that it is attached
        if tracer.poll() is not None:
            assert tracer.stderr is not None
            pytest.skip(f"NOT SHOWN HERE: strace may not attach: {tracer.stderr.read().strip()}")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=10)


@pytest.mark.slow
def test_a_sync_that_fails_once_costs_what_was_in_flight_and_no_more(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        client = Client(server.at)
        client.create("orders")
        client.write("orders", 20, 1000)
        with injected(server, "fdatasync:error=EIO:when=1"):
            client.write("orders", 1, 1000)
            wait_for(lambda: "failed" in server.logs(), "no sync failed: nothing was tested")
        client.write("orders", 20, 1000)
        assert len(client.acknowledged) == 41
        assert client.lost("orders") == []
        assert len(client.read("orders")) == 41, "what was refused is not there"
        server.restart(kill=True)
        assert client.lost("orders") == []
        assert len(client.read("orders")) == 41
        assert "Traceback" not in server.logs()


@pytest.mark.slow
def test_when_every_sync_fails_it_is_read_only_until_the_next_start(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        client = Client(server.at)
        client.create("orders")
        client.write("orders", 20, 1000)
        journal = tmp_path / "data" / "journal"
        wait_for(lambda: len(list(journal.glob("*.jnl"))) >= 4, "the journal's files are not made")
        with injected(server, "fdatasync,fsync:error=EIO"):
            client.write("orders", 3, 1000, timeout_ms=4000)
            assert len(client.acknowledged) == 20
            assert len(client.refusals) == 3
            assert "the whole log is read-only" in server.logs()
            assert client.read("orders") == client.acknowledged
        client.write("orders", 1, 1000, timeout_ms=2000)
        assert len(client.acknowledged) == 20, (
            "a disk that failed twice is not trusted because it says yes again"
        )
        server.restart()
        assert client.read("orders") == client.acknowledged
        client.write("orders", 1, 1000)
        assert len(client.acknowledged) == 21
        assert "Traceback" not in server.logs()


@pytest.mark.slow
def test_a_disk_that_stalls_holds_up_events_and_nothing_else(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        client = Client(server.at)
        client.create("orders")
        client.write("orders", 20, 1000)
        with injected(server, "fdatasync,fsync:delay_enter=5000000"):
            producer = client.producer(timeout_ms=60_000)
            producer.produce("orders", b"patient", on_delivery=client.answered)
            producer.poll(0.5)
            assert client.admin.list_topics(timeout=3).topics.keys() >= {"orders"}
            assert client.read("orders") == client.acknowledged[:20]
            assert len(client.acknowledged) == 20, "acknowledged before it was durable"
        assert producer.flush(40) == 0
        assert client.acknowledged[-1] == (20, b"patient")


@pytest.mark.slow
def test_write_back_that_fails_after_a_good_write_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """The file system says that there is room, and the device below has none: write calls work, a later fsync
    fails, and in the end the file system is read-only."""
    with disks.ext4(tmp_path / "disk", 600, backed_megabytes=270) as disk:
        server = Server(disk / "data", disk_reserve_bytes=0)
        server.log_path = tmp_path / "server.log"  # not on the disk that fails
        with server:
            client = Client(server.at)
            client.create("orders")
            client.write("orders", 20, 1000)
            wait_for(lambda: len(list((disk / "data" / "journal").glob("*.jnl"))) >= 4, "no journal")
            client.write("orders", 120, 700_000, timeout_ms=6000)
            assert client.refusals, "the disk took everything: nothing was tested"
            told = (
                "read-only: the disk failed",
                "writing failed",
            )  # fsync was first, or the file system gave up
            assert any(line in server.logs() for line in told), server.logs()
            assert client.lost("orders") == []
            server.kill()
        disks.replace_device(disk, 600)
        with server.start():
            client.at = server.at
            assert client.lost("orders") == []
            client.write("orders", 1, 1000)
            assert client.lost("orders") == []
            assert "Traceback" not in server.logs()

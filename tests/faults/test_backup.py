"""A backup of a server at work: all that was acknowledged before it began is in it, and is served."""

from __future__ import annotations

import copy
import hashlib
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from crc32c import crc32c

from mainstem.cli.exit_codes import ExitCode
from mainstem.coordinator.producer_ids import BLOCK_IDS, LOST_IDS_MAX
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.log.commit import checkpoint
from mainstem.log.disk.contract import Disk
from mainstem.log.offline.doctor import ReadOnlyDisk
from mainstem.log.storage.record_batch import build
from tests.doors.kafka.kit import init_producer_id, produce_request
from tests.faults import kill9
from tests.faults.ack_checker import Ledger
from tests.faults.attacks import SocketClient
from tests.faults.client import AcknowledgedClient
from tests.support.server import Server


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mainstem", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def epochs(folder: Path) -> list[int]:
    """Leader epochs, as the newest checkpoint has them."""
    disk: Disk = ReadOnlyDisk(str(folder))  # type: ignore[assignment]
    newest = checkpoint.load(disk)
    assert newest is not None
    return [row.epoch for row in newest.rows]


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def frozen(ledger: Ledger) -> Ledger:
    """What is promised up to now."""
    with ledger._lock:
        promised, positions = copy.deepcopy((ledger._promised, ledger._positions))
    return Ledger(_sent=ledger._sent, _promised=promised, _positions=positions)


def judge(before: Ledger, address: str) -> None:
    """All that was promised is at this server, and no position is behind it or ahead of it."""
    there = kill9.read_all_events(address)
    broken = before.judge(there)
    assert not broken, "\n".join(map(str, broken[:20]))
    now = kill9.committed_positions(address)
    for (group, where), known in before._positions.items():
        ends = 1 + max((offset for offset, _ in there[where]), default=-1)
        assert known.acknowledged <= now.get((group, where), -1) <= ends


def linked(backup: Path) -> list[Path]:
    """The segments that it shares with the folder: sealed, and behind a checkpoint, which takes a while."""
    return [path for path in backup.rglob("*.log") if path.stat().st_nlink > 1]


@pytest.mark.slow
def test_all_that_was_acknowledged_before_a_backup_is_in_it(tmp_path: Path) -> None:
    ledger, rng = Ledger(), random.Random(4)
    befores: list[Ledger] = []
    backup = tmp_path
    with Server(tmp_path / "data", log_level="warning") as server:
        admin = AdminClient({"bootstrap.servers": server.address, **kill9.CLIENT})
        config = {"segment.bytes": str(kill9.SEGMENT_BYTES)}
        topic = NewTopic(kill9.TOPIC, kill9.PARTITIONS, 1, config=config)
        admin.create_topics([topic])[kill9.TOPIC].result(30)
        with kill9.under_load(server.address, ledger, rng) as (writers, reader):
            for writer in writers:
                writer.gate.set()
            deadline = time.monotonic() + 80
            while len(befores) < 3 or not linked(backup):
                assert time.monotonic() < deadline, "nothing was sealed: links were not tested"
                time.sleep(1.5)
                befores.append(frozen(ledger))
                backup = tmp_path / f"backup-{len(befores) - 1}"
                made = run("backup", server.data, backup)
                assert made.returncode == ExitCode.DONE, made.stderr
            for writer in writers:
                writer.settle()
            assert reader.commits
        assert server.stop() == 0
    assert befores[-1].promises > befores[0].promises > 100
    for number, before in list(enumerate(befores))[-3:]:
        backup = tmp_path / f"backup-{number}"
        as_made = content(backup)
        done = run("restore", backup, tmp_path / f"restored-{number}")
        assert done.returncode == ExitCode.DONE, done.stdout + done.stderr
        with Server(tmp_path / f"restored-{number}") as restored:
            judge(before, restored.address)
            AcknowledgedClient(restored.address).write(kill9.TOPIC, 3, 1000)
        assert content(backup) == as_made
        assert min(epochs(restored.data)) > max(epochs(server.data))


@pytest.mark.slow
def test_a_restored_folder_has_the_producer_ids_of_the_backup(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        client = SocketClient(server)
        first = client.call(22, 4, init_producer_id()).producer_id
        client.close()
        assert run("backup", server.data, tmp_path / "backup").returncode == ExitCode.DONE
    assert run("restore", tmp_path / "backup", tmp_path / "restored").returncode == ExitCode.DONE
    with Server(tmp_path / "restored") as server:
        client = SocketClient(server)
        client.create("orders")
        claim = build([(None, b"forged", (), 0)])
        struct.pack_into(">qhi", claim, 43, first - 1, 0, 0)
        struct.pack_into(">I", claim, 17, crc32c(claim[21:]))
        refused = client.call(0, 9, produce_request("orders", claim))
        ((partition,),) = [topic.partition_responses for topic in refused.responses]
        assert partition.error_code == ErrorCode.INVALID_RECORD, "the server's own id is the same"
        assert client.call(22, 4, init_producer_id(first, 0)).producer_id == first
        lost = first + BLOCK_IDS  # of a producer that the server got to know after the backup
        assert client.call(22, 4, init_producer_id()).producer_id == lost + LOST_IDS_MAX
        assert client.call(22, 4, init_producer_id(lost, 0)).producer_id == lost
        client.close()


@pytest.mark.slow
def test_a_copy_by_other_means_is_detected(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        client = AcknowledgedClient(server.address)
        client.create("orders")
        client.write("orders", 5, 100)
    subprocess.run(["cp", "-a", tmp_path / "data", tmp_path / "copy"], check=True)
    (tmp_path / "data").rename(tmp_path / "moved")
    before = max(epochs(tmp_path / "moved"))
    for name, is_copy in (("moved", False), ("copy", True)):
        with Server(tmp_path / name) as server:
            client.address = server.address
            assert client.lost("orders") == []
        assert ("is a copy of another" in server.logs()) == is_copy
        assert (max(epochs(tmp_path / name)) > before + 60_000) == is_copy
    raised = max(epochs(tmp_path / "copy"))
    with Server(tmp_path / "copy"):
        pass
    assert max(epochs(tmp_path / "copy")) == raised, "it is a folder of its own now"


@pytest.mark.slow
def test_a_backup_or_restore_that_is_not_possible_is_refused_in_one_line(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        client = AcknowledgedClient(server.address)
        client.create("orders")
        client.write("orders", 5, 100)
        refused = [
            run("backup", tmp_path / "missing", tmp_path / "backup"),
            run("backup", server.data, server.data / "backup"),
            run("backup", server.data, tmp_path),
            run("restore", tmp_path / "missing", tmp_path / "new"),
            run("restore", server.data, tmp_path / "new"),
        ]
        assert [done.returncode for done in refused] == [ExitCode.FOLDER] * 4 + [ExitCode.LOCKED]
        assert all(done.stderr.count("\n") == 1 for done in refused), refused
        assert run("backup", server.data, tmp_path / "backup").returncode == ExitCode.DONE
    assert run("restore", tmp_path / "backup", tmp_path / "data").returncode == ExitCode.FOLDER
    (tmp_path / "backup" / "meta.properties").unlink()
    assert run("restore", tmp_path / "backup", tmp_path / "again").returncode == ExitCode.FOLDER


@pytest.mark.slow
def test_a_damaged_backup_is_reported_when_it_is_restored(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        client = AcknowledgedClient(server.address)
        client.create("orders")
        client.write("orders", 5, 100)
    assert run("backup", server.data, tmp_path / "backup").returncode == ExitCode.DONE
    (path,) = [
        segment for segment in tmp_path.glob("backup/partitions/*/*.log") if b"4 \0" in segment.read_bytes()
    ]
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    done = run("restore", tmp_path / "backup", tmp_path / "restored")
    assert done.returncode == ExitCode.BAD_INPUT
    assert done.stdout.startswith("damage\torders\t0\t")
    assert "1 places are damaged" in done.stderr


def test_a_start_changes_no_file_that_a_backup_shares(tmp_path: Path) -> None:
    """A segment is one file with a copy's (hard link), and the start has to write to it and to cut it."""
    with Server(tmp_path / "data") as server:
        client = AcknowledgedClient(server.address)
        client.create("orders")
        client.write("orders", 20, 1000)
        server.kill()
        (segment,) = [path for path in server.data.glob("partitions/*/*.log") if path.stat().st_size > 20_000]
        with segment.open("ab") as file:
            file.write(b"torn" * 50)
        os.link(segment, tmp_path / "copy")
        before = segment.read_bytes()
        server.start()
        assert "cut 200 bytes" in server.logs(), server.logs()
        assert (tmp_path / "copy").read_bytes() == before
        assert segment.read_bytes() == before[:-200]
        client.address = server.address
        assert client.lost("orders") == []

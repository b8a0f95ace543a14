"""`mainstem doctor` with a real server: refused while the server runs; afterwards it reports the damage."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Producer

from mainstem.cli.exit_codes import ExitCode
from tests.faults.client import AcknowledgedClient
from tests.support.server import Server


def doctor(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mainstem", "doctor", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("kill", [False, True])
def test_a_folder_is_examined_when_its_server_has_stopped(tmp_path: Path, kill: bool) -> None:
    data = tmp_path / "data"
    with Server(data) as server:
        producer = Producer({"bootstrap.servers": server.address, "log_level": 0})
        for number in range(50):
            producer.produce("orders", f"order {number}".encode() * 50)
            producer.flush(30)
        done = doctor("--data", data)
        assert (done.returncode, done.stdout) == (ExitCode.LOCKED, "")
        assert "a server uses the data folder" in done.stderr
        if kill:
            server.kill()
    done = doctor("--data", data)
    assert done.returncode == ExitCode.DONE, done.stdout
    assert ("not stopped cleanly" in done.stdout) == kill
    assert done.stderr.endswith("; no damage\n")


def test_damage_is_reported_by_topic_and_offset(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Server(data) as server:
        producer = Producer({"bootstrap.servers": server.address, "log_level": 0})
        for number in range(3):
            producer.produce("orders", f"order {number}".encode() * 50)
            producer.flush(30)
    (path,) = [segment for segment in data.glob("partitions/*/*.log") if b"order 1" in segment.read_bytes()]
    content = bytearray(path.read_bytes())
    content[content.index(b"order 1")] ^= 1
    path.write_bytes(content)
    done = doctor("--data", data, "--json")
    assert done.returncode == ExitCode.BAD_INPUT
    damage, summary = map(json.loads, done.stdout.splitlines())
    assert (damage["verdict"], damage["topic"], damage["partition"]) == ("damage", "orders", 0)
    assert (damage["first"], damage["last"]) == (1, 1)
    assert summary["damaged"] == 1
    assert doctor("--data", data).stdout.split("\t")[:5] == ["damage", "orders", "0", "1", "1"]
    assert content == path.read_bytes()


@pytest.mark.slow
def test_a_repair_reports_its_changes_and_clients_skip_the_gap(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Server(data) as server:
        client = AcknowledgedClient(server.address)
        client.create("orders")
        for _ in range(3):
            client.write("orders", 1, 1000)
    (path,) = [segment for segment in data.glob("partitions/*/*.log") if segment.stat().st_size > 3000]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    done = doctor("--data", data, "--repair")
    assert done.returncode == ExitCode.DONE, done.stdout + done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert ["damage", "orders", "0", "1", "1"] in [row[:5] for row in rows]
    assert "an empty batch replaces them" in [row[7] for row in rows]
    assert "1 places are damaged" in done.stderr
    assert done.stderr.endswith("; no damage\n")
    assert doctor("--data", data).returncode == ExitCode.DONE
    with Server(data) as server:
        client.address = server.address
        assert [offset for offset, _ in client.read("orders")] == [0, 2]
        client.write("orders", 1, 1000)
        assert [offset for offset, _ in client.read("orders")] == [0, 2, 3]


def test_a_file_in_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = doctor("--data", tmp_path / "file")
    assert done.returncode == ExitCode.FOLDER
    assert "is a file; give --data a folder" in done.stderr


def test_a_path_that_is_not_a_folder_is_reported_and_unchanged(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        done = doctor("--data", folder)
        assert done.returncode == ExitCode.FOLDER
        assert done.stderr.count("\n") == 1
        assert ("there is no such folder" in done.stderr) is not folder.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_index_that_cannot_be_built_is_noted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Server(data) as server:
        create = ["topics", "create", "orders", "--at", server.address, "--config", "mainstem.search=indexed"]
        subprocess.run([sys.executable, "-m", "mainstem", *create], check=True, timeout=60)
    assert doctor("--data", data).stdout == ""
    without = "import sys; sys.modules['tantivy'] = None; from mainstem.cli import main; main()"
    command = [sys.executable, "-c", without, "doctor", "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == ExitCode.DONE
    assert done.stdout.startswith("note")
    assert "topic orders is set mainstem.search=indexed, but tantivy is not installed: pip" in done.stdout

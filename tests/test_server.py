"""`mainstem serve` as its operator meets it: what it prints, what it refuses, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mainstem.cli.exit_codes import ExitCode
from mainstem.doors.net.address import AddressError, HostPort
from mainstem.serve.descriptors import DESCRIPTORS_NEEDED
from mainstem.serve.listener_names import ListenerNames
from mainstem.serve.server import data_folder
from mainstem.settings import Settings
from tests.cli.conftest import CommandResult, command
from tests.support.server import READY, Server


def refused(tmp_path: Path, *arguments: str) -> CommandResult:
    """A start that fails: one line on standard error, nothing on standard output."""
    done = command("serve", "--doors", "kafka", "--data", str(tmp_path / "data"), *arguments)
    assert done.out == ""
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith("mainstem: ")
    return done


def test_the_ready_line_is_all_that_standard_output_gets(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", durability="os").start()
    match = READY.match(server.ready_line)
    assert match is not None
    assert (match[1], match[3], match[4]) == ("127.0.0.1", str(tmp_path / "data"), "os")
    process = server.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert "stopped cleanly" in server.logs()


def test_too_few_open_files_refuse_the_start_and_the_line_says_how_many_are_needed(tmp_path: Path) -> None:
    arguments = f"--data {tmp_path / 'data'} --kafka 127.0.0.1:0 --doors kafka"
    shell = f"ulimit -n 24 && exec {sys.executable} -m mainstem serve {arguments}"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (ExitCode.REFUSED, "", 1)
    assert done.stderr.startswith("mainstem: only 24 files may be open, and a server needs at least ")
    needed = int(done.stderr.split("at least ")[1].split(",")[0])
    assert needed - 16 < DESCRIPTORS_NEEDED < needed
    assert not (tmp_path / "data").exists()


def test_ctrl_c_stops_cleanly_too_and_the_next_start_knows(tmp_path: Path) -> None:
    server = Server(tmp_path / "data").start()
    assert server.process is not None
    server.process.send_signal(signal.SIGINT)
    out, _ = server.process.communicate(timeout=20)
    assert (server.process.returncode, out) == (0, "")
    server.process = None
    with server.start():
        assert "the last stop was clean" in server.logs()


def test_events_are_there_after_a_restart_and_after_a_kill(tmp_path: Path) -> None:
    server = Server(tmp_path / "data").start()
    assert command("produce", "t", address=server.address, stdin="one\n").code == 0
    server.restart()
    assert command("produce", "t", address=server.address, stdin="two\n").code == 0
    server.restart(kill=True)
    done = command("tail", "t", "--from", "earliest", "--until", "latest", address=server.address)
    assert [row[5] for row in done.rows] == ["one", "two"]
    server.stop()


def test_logs_can_be_json(tmp_path: Path) -> None:
    with Server(tmp_path / "data", log_json="true") as server:
        pass
    lines = [json.loads(line) for line in server.logs().splitlines()]
    assert lines
    assert {"time", "level", "logger", "message"} <= lines[0].keys()


def test_a_port_in_use_fails_the_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = refused(tmp_path, "--kafka", address)
    assert done.code == ExitCode.ADDRESS
    assert done.err.startswith(f"mainstem: cannot listen on {address}: address already in use; ")


def test_a_second_server_on_the_folder_is_refused(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        done = refused(tmp_path, "--kafka", "127.0.0.1:0")
        assert done.code == ExitCode.LOCKED
        assert f"data folder {tmp_path / 'data'} is in use by another server" in done.err
        assert command("topics", "list", address=server.address).code == 0


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    done = refused(tmp_path, "--kafka", "127.0.0.1:0")
    assert done.code == ExitCode.FOLDER
    assert "is a file; give --data a folder" in done.err


def test_a_folder_without_a_name_is_not_the_working_directory(tmp_path: Path) -> None:
    done = refused(tmp_path, "--kafka", "127.0.0.1:0", "--data", "")
    assert done.code == ExitCode.FOLDER
    assert "has no name; give --data a folder" in done.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_writable_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o500)
    done = refused(tmp_path, "--kafka", "127.0.0.1:0")
    assert done.code == ExitCode.FOLDER
    assert "is not writable" in done.err


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    Server(tmp_path / "data").start().stop()
    meta = tmp_path / "data" / "meta.properties"
    lines = meta.read_text().splitlines()
    meta.write_text("".join(f"{'version=999' if line.startswith('version') else line}\n" for line in lines))
    done = refused(tmp_path, "--kafka", "127.0.0.1:0")
    assert done.code == ExitCode.FOLDER
    assert "999" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kafka", "0.0.0.0:0"], "add --allow-anonymous if the network is trusted"),
        (["--kafka", "[::]:0"], "add --allow-anonymous if the network is trusted"),
        (["--kafka", ":0"], "add --allow-anonymous if the network is trusted"),
        (["--kafka", "192.0.2.1:0"], "there is no authentication"),
        (["--kafka", "example.org:0"], "there is no authentication"),
        (["--kafka", "0.0.0.0:0", "--allow-anonymous"], "add --advertise HOST:PORT"),
        (["--kafka", "127.0.0.1:0", "--advertise", "0.0.0.0:9092"], "clients cannot connect to a wildcard"),
    ],
)
def test_what_strangers_could_reach_is_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = refused(tmp_path, *arguments)
    assert done.code == ExitCode.REFUSED
    assert message in done.err


def test_what_is_allowed_is_served_and_advertised(tmp_path: Path) -> None:
    settings = {"kafka": "0.0.0.0:0", "allow_anonymous": "true", "advertise": "127.0.0.1"}
    with Server(tmp_path / "data", **settings) as server:
        assert server.host == "0.0.0.0"
        assert f"clients are directed to 127.0.0.1:{server.port}" in server.logs()
        assert command("topics", "list", address=f"127.0.0.1:{server.port}").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kafka", "nonsense"], "--kafka: 'nonsense' is not HOST:PORT"),
        (["--kafka", "::1:0"], "--kafka: '::1:0' is not HOST:PORT (IPv6: [HOST]:PORT)"),
        (["--kafka", "127.0.0.1:70000"], "is not HOST:PORT"),
    ],
)
def test_an_address_that_is_none_is_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = refused(tmp_path, *arguments)
    assert done.code == ExitCode.USAGE
    assert message in done.err


def test_a_bad_setting_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text("durabilty = 'os'")
    done = refused(tmp_path, "--config", str(tmp_path / "m.toml"))
    assert done.code == ExitCode.USAGE
    assert "did you mean durability?" in done.err
    assert not (tmp_path / "data").exists()


def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    server = Server(tmp_path / "data").start()
    process = server.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)  # so that both are there when it looks
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=20)
    assert process.returncode in (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)
    with Server(tmp_path / "data"):
        pass


def test_it_starts_without_clients_and_tools() -> None:
    """What makes a start slow is what it imports: none of these is for a server that was just started."""
    check = (
        "import sys, mainstem.serve.server, mainstem.node, mainstem.doors.kafka.server\n"
        "from mainstem.doors.kafka.handlers import discover; discover()\n"
        "heavy = {'confluent_kafka', 'rich', 'aiokafka', 'kio', 'tomllib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_addresses_are_read_and_written() -> None:
    assert str(HostPort.parse("[::1]:9092", "--kafka")) == "[::1]:9092"
    assert HostPort.parse("stream.example.org", "--advertise", port=0) == HostPort("stream.example.org", 0)
    assert HostPort.parse("[::1]", "--advertise", port=7) == HostPort("::1", 7)
    bound = HostPort("127.0.0.1", 4711)
    for advertise, expected in (
        (None, bound),
        ("a.example:0", HostPort("a.example", 4711)),
        ("a.example:9,SSL://b.example:9", HostPort("a.example", 9)),
        ("ssl://b.example:9", bound),
    ):
        names = ListenerNames(Settings(advertise=advertise))
        assert names.advertised("PLAINTEXT", bound) == expected
    with pytest.raises(AddressError):
        HostPort.parse("a:b", "--kafka")


def test_the_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = data_folder(str(tmp_path / "a" / "b"))
    assert folder.is_absolute()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_flag_of_an_earlier_version_is_refused_with_what_replaces_it(tmp_path: Path) -> None:
    done = command("serve", "--data", str(tmp_path / "data"), "--no-http")
    assert done.code == ExitCode.USAGE
    assert done.err.startswith("mainstem: --no-http was replaced: use --doors kafka")
    assert not (tmp_path / "data").exists()

"""`mainstem run` finds its stream, answers health checks, and watches files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest

from mainstem.api.runner import LAG_S_MAX
from mainstem.api.subscriber_state import SubscriberState
from mainstem.cli import run
from mainstem.cli.commands import run as run_command
from mainstem.cli.exit_codes import ExitCode
from mainstem.cli.health_server import REQUEST_S_MAX, health_server
from mainstem.cli.source_watch import SourceWatch
from mainstem.cli.subscriber_health import METRICS, HealthPage, ProcessReport, added_up, answer

STATE = SubscriberState(
    topic="orders",
    group="billing",
    joined=True,
    read=12,
    done=9,
    failed=2,
    dead=1,
    in_flight=3,
    retrying=1,
    lag=40,
    rate=2.5,
    last_error="ValueError: bad",
)

PROGRAM = """
import mainstem
stream = mainstem.connect("127.0.0.1:1")
empty = mainstem.connect()
number = 4

@stream.subscriber("orders", group="billing")
async def bill(order: dict[str, object]) -> None: ...
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"program_{os.getpid()}"
    (tmp_path / f"{name}.py").write_text(PROGRAM)
    (tmp_path / f"{name}_broken.py").write_text("import a_module_that_is_missing\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return iter([name])


@pytest.mark.parametrize(
    ("target", "code", "message"),
    [
        ("no_such_module:stream", ExitCode.USAGE, "there is no module no_such_module"),
        ("{0}:other", ExitCode.USAGE, "has no other: name its stream"),
        ("{0}:number", ExitCode.USAGE, "is no stream of mainstem, but a int"),
        ("{0}:empty", ExitCode.USAGE, "has no subscribers"),
        ("{0}.py", ExitCode.USAGE, "is a file: name the module"),
        (":stream", ExitCode.USAGE, "is not MODULE:NAME"),
        ("{0}", ExitCode.NOT_REACHABLE, "127.0.0.1:1"),
    ],
)
def test_a_target_that_cannot_run_is_said_in_one_line(
    program: Iterator[str], target: str, code: ExitCode, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", target.format(next(program))]) == code
    assert message in capsys.readouterr().err


def test_an_error_inside_the_program_is_shown_as_it_is(program: Iterator[str]) -> None:
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_missing"):
        run(["run", f"{next(program)}_broken"])


def test_an_address_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "m:stream", "--health", "8081"]) == ExitCode.USAGE
    assert "HOST:PORT" in capsys.readouterr().err


def test_the_program_gets_what_the_options_say_and_nothing_of_another_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contexts = tmp_path / "contexts.toml"
    contexts.write_text('[shop]\nat = "SSL://shop:1"\nca = "ca.pem"\n[other]\nuser = "bob"\n')
    contexts.chmod(0o600)
    environ = {"MAINSTEM_CONTEXTS": str(contexts), "MAINSTEM_CONTEXT": "other", "MAINSTEM_CA": "old.pem"}
    monkeypatch.setattr(os, "environ", environ)
    command_line = ["--context", "shop", "run", "no_such_module", "--cert", "me.pem", "--ca", "new.pem"]
    assert run(command_line) == ExitCode.USAGE
    assert "there is no module no_such_module" in capsys.readouterr().err
    assert {name: value for name, value in environ.items() if name.startswith("MAINSTEM_")} == {
        "MAINSTEM_CONTEXTS": str(contexts),
        "MAINSTEM_AT": "SSL://shop:1",
        "MAINSTEM_CA": "new.pem",
        "MAINSTEM_CERT": "me.pem",
    }


def test_credentials_that_make_no_sense_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "program", "--user", "bob"]) == ExitCode.USAGE
    assert "--user bob needs --password-file FILE" in capsys.readouterr().err


def test_ready_are_those_whose_groups_have_all_joined() -> None:
    lost = replace(STATE, group="audit", joined=False)
    assert answer("/livez", ProcessReport([lost])) == HealthPage(200, "ok\n")
    assert answer("/readyz", ProcessReport([STATE])) == HealthPage(200, "ok\n")
    page = answer("/readyz", ProcessReport([STATE, lost], ["worker 2 does not report"]))
    assert page.status == 503
    assert page.text.splitlines() == [
        "worker 2 does not report",
        "group audit of topic orders has not joined: ValueError: bad",
    ]
    assert answer("/", ProcessReport([])).status == 404


def test_a_process_whose_server_does_not_respond_is_alive_and_says_what_it_knows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def report(with_lag: bool) -> ProcessReport:
        if with_lag:
            await asyncio.Event().wait()
        return ProcessReport([STATE])

    async def statuses() -> list[bytes]:
        async with run_command._health_pages(("127.0.0.1", 0), report):
            port = int(capsys.readouterr().err.rpartition(":")[2].partition("/")[0])
            replies = []
            for path in (b"/livez", b"/readyz"):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
                replies.append((await reader.read()).partition(b"\r\n")[0])
                writer.close()
                await writer.wait_closed()
            return replies

    assert [status.split()[1] for status in asyncio.run(statuses())] == [b"200", b"200"]
    assert LAG_S_MAX < REQUEST_S_MAX, "metrics are shown without the lag before their request is given up"


@pytest.mark.parametrize("text", ["127.0.0.1:8081", "[::1]:8081", "shop.example:0"])
def test_workers_get_the_address_of_health_as_it_was_given(text: str) -> None:
    option = next(given for given in run_command.command.params if given.name == "health")
    context = click.Context(run_command.command)
    address = option.type_cast_value(context, text)
    assert option.callback is not None
    assert run_command._health_option(option.callback(context, option, address)) == ("--health", text)


def test_metrics_are_prometheus_text() -> None:
    page = answer("/metrics", ProcessReport([STATE, replace(STATE, group="audit", lag=-1)]))
    lines = page.text.splitlines()
    assert 'mainstem_subscriber_lag{topic="orders",group="billing"} 40' in lines
    assert 'mainstem_subscriber_rate{topic="orders",group="audit"} 2.5' in lines
    assert not any(line.startswith("mainstem_subscriber_lag") and "audit" in line for line in lines)
    assert sum(line.startswith("# TYPE") for line in lines) == len(METRICS)


def test_the_states_of_workers_are_added_up() -> None:
    (total,) = added_up([[STATE], [replace(STATE, joined=False, lag=38, last_error="")]])
    assert (total.done, total.in_flight, total.rate, total.lag, total.retrying) == (18, 6, 5.0, 40, 1)
    assert (total.joined, total.last_error) == (False, "ValueError: bad")


def ask(request: bytes) -> bytes:
    async def page_of(path: str) -> HealthPage:
        return HealthPage(200, f"page {path}\n")

    async def go() -> bytes:
        async with health_server("127.0.0.1", 0, page_of) as (host, port):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(request)
            writer.write_eof()
            reply = await reader.read()
            writer.close()
            await writer.wait_closed()
            return reply

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("request_bytes", "begin", "end"),
    [
        (b"GET /livez?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200", b"page /livez\n"),
        (b"HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200", b"\r\n\r\n"),
        (b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 405", b"GET only\n"),
        (b"\x16\x03\x01 not HTTP\r\n\r\n", b"", b""),
        (b"GET /" + b"x" * 20_000, b"", b""),
        (b"", b"", b""),
    ],
)
def test_the_health_server_answers_get_and_closes(request_bytes: bytes, begin: bytes, end: bytes) -> None:
    reply = ask(request_bytes)
    assert reply.startswith(begin)
    assert reply.endswith(end)
    assert bool(reply) == bool(begin)


def test_a_watch_sees_files_that_change_come_and_go_and_no_packages(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / ".venv").mkdir()
    source = tmp_path / "shop" / "events.py"
    source.write_text("a = 1\n")
    watch = SourceWatch(tmp_path)
    assert watch.changed() is None
    (tmp_path / ".venv" / "other.py").write_text("")
    (tmp_path / "notes.txt").write_text("")
    assert watch.changed() is None
    os.utime(source, ns=(1, 1))
    assert watch.changed() == os.path.join("shop", "events.py")
    (tmp_path / "new.py").write_text("")
    assert watch.changed() == "new.py"
    source.unlink()
    assert watch.changed() == os.path.join("shop", "events.py")
    assert watch.changed() is None

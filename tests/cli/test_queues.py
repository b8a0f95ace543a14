"""`mainstem queues` and `mainstem work` against an HTTP door."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstem.cli import http_door, run
from mainstem.cli.exit_codes import ExitCode
from mainstem.contract import NewEvent
from tests.cli.conftest import CommandResult, command
from tests.doors.http.door_kit import RunningHttpDoor, until
from tests.doors.http.test_subscriptions import running_queues


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    with running_queues(tmp_path_factory.mktemp("cli-queues")) as running:
        yield running


class Terminal:
    """Runs the command line in this process against the door."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: str) -> CommandResult:
        code = run(list(arguments))
        printed = self._capfd.readouterr()
        return CommandResult(code, printed.out, printed.err)


@pytest.fixture
def mainstem(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Terminal:
    async def require_door(address: str) -> str:
        return door.address

    monkeypatch.setattr(http_door, "require_door", require_door)
    return Terminal(capfd)


@pytest.fixture
def topic(request: pytest.FixtureRequest, door: RunningHttpDoor) -> str:
    """A topic with three events, each with a key and headers."""
    name = door.create_topic(request.node.name[5:60])
    events = [
        NewEvent(b"payload %d" % number, key=b"k%d" % number, headers=(("trace-id", b"t\xc3\xa4"),))
        for number in range(3)
    ]
    door.run(lambda engine: engine.publish(name, events))
    return name


def test_subscriptions_are_managed(mainstem: Terminal, door: RunningHttpDoor, topic: str) -> None:
    created = mainstem(
        *("queues", "create", "jobs", "--topic", topic, "--failures-max", "3"),
        *(
            "--config",
            "lock_ms=5000",
            "--config",
            "backoff_factor=1.5",
            "--config",
            "accepts_late_acks=false",
        ),
    )
    assert (created.code, created.out) == (0, "created jobs\n"), created.err
    assert mainstem("queues", "create", "jobs", "--topic", topic).code == ExitCode.FAILED
    listed = mainstem("queues", "list")
    assert ["jobs", "3", "0", "0", "0", "0", "0", topic] in listed.rows
    rows = mainstem("queues", "describe", "jobs").rows
    assert rows[0] == ["subscription", "jobs", topic, f"{topic}/0/0", rows[0][4]]
    for row in (
        ["depth", "jobs", "ready", "3"],
        ["counter", "jobs", "acked", "0"],
        ["setting", "jobs", "lock_ms", "5000"],
        ["setting", "jobs", "accepts_late_acks", "False"],
        ["setting", "jobs", "dead_letter_topic", ""],
    ):
        assert row in rows
    described = json.loads(mainstem("queues", "describe", "jobs", "--json").out)
    assert described["settings"]["backoff_factor"] == 1.5
    browsed = mainstem("queues", "browse", "jobs", "-n", "2")
    assert browsed.rows == [
        [topic, "0", "0", "ready", "0", "0", "", "", "k0", "payload 0"],
        [topic, "0", "1", "ready", "0", "0", "", "", "k1", "payload 1"],
    ]
    line = json.loads(mainstem("queues", "browse", "jobs", "--after", f"{topic}/0/1", "--json").out)
    assert (line["state"], line["offset"], line["value"]) == ("ready", 2, "payload 2")
    assert mainstem("queues", "delete", "jobs").code == ExitCode.USAGE
    assert mainstem("queues", "delete", "jobs", "--yes").out == "deleted jobs\n"
    missing = mainstem("queues", "describe", "jobs")
    assert (missing.code, missing.err) == (
        ExitCode.FAILED,
        "mainstem: subscription jobs: there is no such subscription\n",
    )


def test_a_subscription_is_moved_purged_and_redriven(
    mainstem: Terminal, door: RunningHttpDoor, topic: str
) -> None:
    mainstem("queues", "create", "moved", "--topic", topic)
    shown = mainstem("queues", "seek", "moved", "--to", "latest")
    assert shown.rows == [["moved", "3", "0"]]
    assert shown.err == "dry run: nothing was changed; add --execute to make the change\n"
    done = mainstem("queues", "seek", "moved", "--to", f"{topic}/0/1", "--execute", "--json")
    assert json.loads(done.out) == {"subscription": "moved", "before": 3, "events": 2, "done": True}
    assert mainstem("queues", "purge", "moved").code == ExitCode.USAGE
    assert mainstem("queues", "purge", "moved", "--yes").out == "purged moved: 2 events\n"
    assert mainstem("queues", "redrive", "moved").code == ExitCode.USAGE
    assert mainstem("queues", "redrive", "moved", "nonsense").code == ExitCode.USAGE
    assert mainstem("queues", "redrive", "moved", f"{topic}/0/1", "--since", "1h").code == ExitCode.USAGE
    dry = mainstem("queues", "redrive", "moved", f"{topic}/0/1", "--dry-run")
    assert dry.out == "would redrive 1 event\n"
    assert mainstem("queues", "redrive", "moved", f"{topic}/0/1", f"{topic}/0/2").out == "redrove 2 events\n"
    refused = mainstem("queues", "redrive", "moved", "--all")
    assert (refused.code, "no dead-letter topic" in refused.err) == (ExitCode.FAILED, True)


def test_a_subscription_is_pushed(
    mainstem: Terminal, door: RunningHttpDoor, topic: str, tmp_path: Path
) -> None:
    secret, headers = tmp_path / "secret", tmp_path / "headers"
    secret.write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    headers.write_text("Authorization: Bearer hidden\n\nX-A: 1\n")
    created = mainstem(
        *("queues", "create", "hooks", "--topic", topic, "--push-endpoint", "http://localhost:1/a?b=hidden"),
        *("--push-payload", "unwrapped", "--push-secret-file", str(secret), "--push-deadline", "2s"),
        *("--push-header", f"@{headers}", "--push-header", "X-B: 2", "--push-concurrency", "3"),
    )
    assert created.code == 0, created.err
    described = mainstem("queues", "describe", "hooks")
    assert [row[2:] for row in described.rows if row[0] == "push"] == [
        ["endpoint", "http://localhost:1/a?…"],
        ["headers", "Authorization,X-A,X-B"],
        ["signed", "True"],
        ["token_audience", ""],
        ["deadline_ms", "2000"],
        ["concurrency", "3"],
        ["payload", "unwrapped"],
    ]
    assert "hidden" not in described.out
    assert mainstem("queues", "create", "h", "--topic", topic, "--push-concurrency", "3").code == 2
    missing = mainstem("queues", "create", "h", "--topic", topic, "--push-secret-file", "/no/such/file")
    assert (missing.code, "No such file" in missing.err) == (2, True)


def test_settings_are_altered_and_what_has_changed_is_shown(
    mainstem: Terminal, door: RunningHttpDoor, topic: str
) -> None:
    mainstem("queues", "create", "changed", "--topic", topic, "--config", "ttl_ms=1h30m")
    change = ("queues", "alter", "changed", "--config", "lock_ms=1m", "--failures-max", "3")
    rows = [["lock_ms", "30000", "60000"], ["failures_max", "0", "3"]]
    dry = mainstem(*change, "--dry-run")
    assert (dry.code, dry.rows, dry.err) == (0, rows, "dry run: nothing was changed\n")
    done = mainstem(*change)
    assert (done.code, done.rows, done.err) == (0, rows, "altered changed\n")
    assert mainstem(*change).rows == []
    settings = door.get("subscriptions/changed")["settings"]
    assert (settings["lock_ms"], settings["failures_max"], settings["ttl_ms"]) == (60_000, 3, 5_400_000)
    pushed = mainstem("queues", "alter", "changed", "--push-endpoint", "http://localhost:1/a?secret")
    assert ["push endpoint", "", "http://localhost:1/a?…"] in pushed.rows
    narrowed = mainstem("queues", "alter", "changed", "--push-concurrency", "5")
    assert narrowed.rows == [["push concurrency", "32", "5"]]
    assert ["push endpoint", "http://localhost:1/a?…", ""] in mainstem(
        "queues", "alter", "changed", "--no-push"
    ).rows


def test_a_change_that_is_refused_is_refused_in_a_dry_run_too(
    mainstem: Terminal, door: RunningHttpDoor, topic: str
) -> None:
    mainstem("queues", "create", "fixed", "--topic", topic)
    for refused in (("--config", "filter=a"), ("--config", "in_key_order=true"), ("--topic", "none")):
        dry = mainstem("queues", "alter", "fixed", *refused, "--dry-run")
        done = mainstem("queues", "alter", "fixed", *refused)
        assert (dry.code, dry.err) == (done.code, done.err)
        assert dry.code == ExitCode.FAILED, dry.err
    assert mainstem("queues", "alter", "none", "--failures-max", "1").code == ExitCode.FAILED


def test_events_that_wait_are_woken_and_cancelled(
    mainstem: Terminal, door: RunningHttpDoor, topic: str
) -> None:
    mainstem("queues", "create", "delayed", "--topic", topic)
    pulled = door.post("subscriptions/delayed:pull", {"consumer": "w-1"}).json()["deliveries"]
    leased = mainstem("queues", "browse", "delayed", "--consumer", "w-1").rows
    assert [row[3] for row in leased] == ["leased"] * 3
    assert mainstem("queues", "browse", "delayed", "--consumer", "w-2").rows == []
    tokens = [delivery["token"] for delivery in pulled]
    assert door.post("subscriptions/delayed:nack", {"tokens": tokens, "delay_ms": 600_000}).status_code == 200
    place = f"{topic}/0/1"
    assert mainstem("queues", "wake", "delayed", place, "--dry-run").out == "would wake 1 event\n"
    assert mainstem("queues", "wake", "delayed", place).out == "woke 1 event\n"
    assert mainstem("queues", "wake", "delayed").code == ExitCode.USAGE
    assert mainstem("queues", "cancel", "delayed", place, "--all", "--yes").code == ExitCode.USAGE
    assert mainstem("queues", "cancel", "delayed", place).code == ExitCode.USAGE  # no terminal to ask
    assert mainstem("queues", "cancel", "delayed", place, "--yes").out == "cancelled 1 event\n"
    assert mainstem("queues", "cancel", "delayed", "--all", "--dry-run").out == "would cancel 2 events\n"
    assert mainstem("queues", "wake", "delayed", "--all").out == "woke 2 events\n"
    redriven = mainstem("queues", "redrive", "delayed", place, "--rate", "5")
    assert (redriven.code, redriven.out) == (0, "redrove 1 event\n")


def test_a_subscription_goes_back_to_a_snapshot(mainstem: Terminal, topic: str) -> None:
    mainstem("queues", "create", "kept", "--topic", topic)
    (row,) = mainstem("queues", "snapshot", "kept", "before").rows
    assert (row[0], row[2]) == ("before", "3")
    assert mainstem("queues", "purge", "kept", "--yes").code == 0
    assert mainstem("queues", "snapshot", "kept").rows == [row]
    dry = mainstem("queues", "seek", "kept", "--snapshot", "before")
    assert (dry.rows, "nothing was changed" in dry.err) == ([["kept", "0", "3"]], True)
    assert mainstem("queues", "seek", "kept", "--snapshot", "before", "--execute").code == 0
    assert ["depth", "kept", "ready", "3"] in mainstem("queues", "describe", "kept").rows
    assert mainstem("queues", "snapshot", "kept", "before", "--delete").out == "deleted before\n"
    assert mainstem("queues", "snapshot", "kept", "--json").out == ""
    assert mainstem("queues", "seek", "kept", "--snapshot", "before").code == ExitCode.FAILED


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "s", "--topic", "t", "--config", "lock_ms"),
        ("create", "s", "--topic", "t", "--config", "lock_ms=1"),
        ("create", "s", "--topic", "t", "--config", "unknown=1"),
        ("create", "s", "--topic", "a b"),
        ("redrive", "s", "t/0/99999999999999999999"),
        ("seek", "s"),
        ("seek", "s", "--to", "latest", "--snapshot", "x"),
        ("snapshot", "s", "--delete"),
        ("alter", "s"),
        ("alter", "s", "--no-push", "--push-endpoint", "http://localhost"),
        ("alter", "s", "--config", "lock_ms=1"),
    ],
)
def test_what_no_server_would_accept_is_a_usage_error(mainstem: Terminal, arguments: tuple[str, ...]) -> None:
    assert mainstem("queues", *arguments).code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("lock_ms=1", "lock_ms is a whole number, 1,000 or more"),
        ("lock_ms=soon", "lock_ms: 'soon' is not a duration; write 500ms, 30s, 5m, 1h30m or 2d, or a number"),
        ("lock_ms=20h", "lock_ms is a whole number, 43,200,000 or less"),
        ("backoff_factor=0.5", "backoff_factor is a number, 1 or more"),
        ("from_latest=1", "from_latest is true or false"),
        ("dead_letter_topic=a/b", "dead_letter_topic is letters, digits and the characters . _ -"),
        ("lock=1", "there is no lock; there are accepts_late_acks, "),
    ],
)
def test_an_invalid_setting_is_refused_in_words(mainstem: Terminal, setting: str, expected: str) -> None:
    refused = mainstem("queues", "create", "s", "--topic", "t", "--config", setting)
    assert refused.code == ExitCode.USAGE
    assert expected in refused.err.replace("\n", " ")
    assert not any(raw in refused.err for raw in ("`", "$", "regex", "Expected"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("seek", "s", "--to", "17"), "'17' is not earliest, latest, a time"),
        (("browse", "s", "--after", "t/1"), "'t/1' is not topic/partition/offset"),
        (("snapshot", "s", "before release"), "'before release' is no name of a snapshot: 1 to 249 letters"),
        (("seek", "s", "--snapshot", "a/b"), "'a/b' is no name of a snapshot"),
        (("redrive", "s", "t/0/" + 5_000 * "9"), "is not topic/partition/offset"),
    ],
)
def test_a_place_that_is_none_is_refused_in_words(
    mainstem: Terminal, arguments: tuple[str, ...], expected: str
) -> None:
    refused = mainstem("queues", *arguments)
    assert (refused.code, expected in refused.err, "matching regex" in refused.err) == (2, True, False)


def test_a_command_is_run_for_each_event(
    mainstem: Terminal, door: RunningHttpDoor, topic: str, tmp_path: Path
) -> None:
    letters = door.create_topic("worked-dead")
    mainstem("queues", "create", "worked", "--topic", topic, "--dead-letter-topic", letters)
    script = (
        "import json, os, sys\n"
        "names = ['SUBSCRIPTION', 'TOPIC', 'PARTITION', 'OFFSET', 'KEY', 'ATTEMPT', 'HEADER_TRACE_ID']\n"
        "row = {name: os.environ['MAINSTEM_' + name] for name in names}\n"
        "row |= {'payload': sys.stdin.read(), 'headers': json.loads(os.environ['MAINSTEM_HEADERS'])}\n"
        "print(json.dumps(row), flush=True)\n"
        "sys.exit({'1': 65, '2': 75}.get(os.environ['MAINSTEM_OFFSET'], 0))\n"
    )
    worked = mainstem(
        *("work", "worked", "--until-empty", "--consumer", "me", "--retry-after", "1h"),
        *("--", sys.executable, "-c", script),
    )
    assert worked.code == 0, worked.err
    rows = [json.loads(line) for line in worked.out.splitlines()]
    assert rows[0] == {
        "SUBSCRIPTION": "worked",
        "TOPIC": topic,
        "PARTITION": "0",
        "OFFSET": "0",
        "KEY": "k0",
        "ATTEMPT": "1",
        "HEADER_TRACE_ID": "tä",
        "payload": "payload 0",
        "headers": [{"name": "trace-id", "value": "tä"}],
    }
    assert worked.err.splitlines() == [
        f"mainstem: {topic}/0/1 (attempt 1): exit code 65, rejected",
        f"mainstem: {topic}/0/2 (attempt 1): exit code 75, failed",
        "mainstem: 3 events: 1 acknowledged, 1 failed, 1 rejected",
    ]
    until(lambda: bool(door.get(f"topics/{letters}/partitions/0/events")["events"]))
    (dead_letter,) = door.get(f"topics/{letters}/partitions/0/events")["events"]
    headers = {header["name"]: header["value"] for header in dead_letter["headers"]}
    assert headers["mainstem-dead-letter-detail"] == "me: exit code 65"
    (waiting,) = door.get("subscriptions/worked:browse")["events"]
    assert (waiting["event"]["offset"], waiting["state"]) == (2, "waiting")


def test_a_command_that_does_not_read_its_input_is_no_failure(
    mainstem: Terminal, door: RunningHttpDoor
) -> None:
    topic = door.create_topic("deaf")
    door.run(lambda engine: engine.publish(topic, [NewEvent(b"x" * 500_000)]))
    mainstem("queues", "create", "deaf", "--topic", topic)
    worked = mainstem("work", "deaf", "--until-empty", "--", "true")
    assert worked.err == "mainstem: 1 event: 1 acknowledged, 0 failed, 0 rejected\n"


def test_a_signal_ends_the_worker_after_its_commands(
    mainstem: Terminal, door: RunningHttpDoor, topic: str, tmp_path: Path
) -> None:
    mainstem("queues", "create", "stopped", "--topic", topic)
    begun = tmp_path / "begun"
    script = f"touch {begun}; sleep 0.5; echo done"

    def interrupt() -> None:
        until(begun.exists)
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=interrupt)
    killer.start()
    worked = mainstem("work", "stopped", "--", "sh", "-c", script)
    killer.join()
    assert (worked.code, worked.out) == (0, "done\n")
    assert worked.err == "mainstem: 1 event: 1 acknowledged, 0 failed, 0 rejected\n"
    assert door.get("subscriptions/stopped")["depth"]["ready"] == 2


def test_a_second_signal_ends_the_commands_too(
    mainstem: Terminal, door: RunningHttpDoor, topic: str, tmp_path: Path
) -> None:
    mainstem("queues", "create", "aborted", "--topic", topic)
    begun = tmp_path / "begun"

    def interrupt() -> None:
        until(begun.exists)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(0.2)

    killer = threading.Thread(target=interrupt)
    killer.start()
    worked = mainstem("work", "aborted", "--", "sh", "-c", f"touch {begun}; sleep 60")
    killer.join()
    assert worked.code == ExitCode.INTERRUPTED
    assert worked.err == "mainstem: 0 events: 0 acknowledged, 0 failed, 0 rejected\n"
    shown = door.get("subscriptions/aborted")
    assert (shown["depth"]["ready"], shown["failed"]) == (3, 0)


def test_a_command_that_does_not_exist_is_a_usage_error(mainstem: Terminal) -> None:
    done = mainstem("work", "s", "--", "/no/such/command")
    assert done.code == ExitCode.USAGE
    assert "there is no command /no/such/command" in done.err
    assert mainstem("work", "s").code == ExitCode.USAGE
    assert mainstem("work", "s", "--retry-after", "soon", "--", "true").code == ExitCode.USAGE


def test_a_server_without_an_http_door_is_named(tmp_path: Path) -> None:
    refused = command("queues", "list", address="127.0.0.1:1")
    assert refused.code == ExitCode.NOT_REACHABLE

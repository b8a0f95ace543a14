"""Standard output that cannot be written, help without arguments, and completion by shells."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mainstem.cli.exit_codes import ExitCode
from tests.cli.conftest import Mainstem, command
from tests.support.server import Server


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        pytest.param(["topics", "list"], marks=pytest.mark.slow),
        pytest.param(["topics", "describe", "orders"], marks=pytest.mark.slow),
        ["tail", "orders", "--from", "earliest"],
        pytest.param(["search", "7"], marks=pytest.mark.slow),
        pytest.param(["export", "7"], marks=pytest.mark.slow),
    ],
    ids=lambda arguments: arguments[0],
)
def test_output_that_cannot_be_written_is_reported_in_one_line(
    server: Server, mainstem: Mainstem, arguments: list[str], unbuffered: str
) -> None:
    assert mainstem("produce", "orders", "-", stdin='{"id": 7}\n').code == 0
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mainstem", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            env={**os.environ, "MAINSTEM_AT": server.address, "PYTHONUNBUFFERED": unbuffered},
        )
    lines = done.stderr.decode().splitlines()
    assert lines[-1] == "mainstem: standard output cannot be written: No space left on device"
    assert all(line.startswith("mainstem: ") for line in lines), lines  # the other: that it serves no HTTP
    assert done.returncode == ExitCode.OUTPUT


@pytest.mark.parametrize("arguments", [[], ["topics"]], ids=["mainstem", "mainstem topics"])
def test_a_command_that_needs_another_shows_them_without_one(arguments: list[str]) -> None:
    done = command(*arguments)
    assert (done.code, done.err) == (0, "")
    assert done.out == command(*arguments, "--help").out


def test_a_command_that_does_not_exist_is_an_error_with_a_suggestion() -> None:
    done = command("topic", "list")
    assert (done.code, done.out) == (ExitCode.USAGE, "")
    assert done.err.splitlines() == [
        "mainstem: No such command 'topic'. Did you mean 'topics'?",
        "Try: mainstem --help",
    ]


def test_shells_complete_commands_and_options() -> None:
    def completed(words: str, index: int) -> list[str]:
        environ = {"_MAINSTEM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(index)}
        return command(**environ).out.splitlines()

    assert completed("mainstem to", 1) == ["plain,topics", "plain,tokens"]
    assert completed("mainstem topics d", 2) == ["plain,delete", "plain,describe"]
    assert "plain,--from" in completed("mainstem tail --f", 2)
    for shell in ("bash", "zsh", "fish"):
        assert "_MAINSTEM_COMPLETE" in command(_MAINSTEM_COMPLETE=f"{shell}_source").out

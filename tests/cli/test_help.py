"""What every command has in common: help, documentation, exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mainstem.cli import mainstem, run
from mainstem.cli.exit_codes import ExitCode
from mainstem.timespec import format_iso, parse_iso
from tests.cli.conftest import command

PAGE = Path(__file__).parents[2] / "docs" / "CLI.md"


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands below a group, groups included."""
    context = click.Context(group)
    for name in group.list_commands(context):
        subcommand = group.get_command(context, name)
        assert subcommand is not None
        yield (*path, name), subcommand
        if isinstance(subcommand, click.Group):
            yield from commands(subcommand, (*path, name))


ALL = dict(commands(mainstem))


def exit_codes_table() -> str:
    """The table of docs/CLI.md."""
    return "\n".join(
        ["| code | meaning |", "|---|---|", *(f"| {int(code)} | {code.meaning} |" for code in ExitCode)]
    )


def test_the_page_lists_every_exit_code() -> None:
    page = PAGE.read_text()
    begin, end = page.index("<!-- exit codes -->"), page.index("<!-- /exit codes -->")
    assert page[begin + len("<!-- exit codes -->") : end].strip() == exit_codes_table(), (
        "run: python -m tests.cli.test_help"
    )


def test_the_page_lists_every_command() -> None:
    page = PAGE.read_text()
    for path, subcommand in ALL.items():
        if not isinstance(subcommand, click.Group):
            assert f"| `mainstem {' '.join(path)}` |" in page


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_describes_each_command_and_option(path: tuple[str, ...]) -> None:
    subcommand = ALL[path]
    assert subcommand.help
    for option in subcommand.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
    names = [parameter.name for parameter in subcommand.params]
    assert len(names) == len(set(names)), "of two parameters of a name, each gets what is given for the other"
    # With the settings of the command line: click keeps the first help option of a command.
    context = click.Context(subcommand, info_name=f"mainstem {' '.join(path)}", **mainstem.context_settings)
    assert subcommand.get_help(context).startswith(f"Usage: mainstem {' '.join(path)}")


def test_the_list_of_commands_cuts_no_sentence_off() -> None:
    page = command("--help", COLUMNS="100").out
    assert "..." not in page.partition("Commands:")[2]


def test_help_imports_no_client_no_server_and_no_rich() -> None:
    check = (
        "import sys, click\n"
        "from mainstem.cli import run\n"
        f"for path in {[list(path) for path in ALL]!r}:\n"
        "    assert run([*path, '--help']) == 0\n"
        "heavy = {'confluent_kafka', 'rich', 'asyncio', 'uvloop', 'msgspec', 'aiokafka'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_wrong_command_is_reported_with_advice() -> None:
    done = command("tial", "x")
    assert done.code == ExitCode.USAGE
    assert done.err.startswith("mainstem: No such command 'tial'.")
    done = command("tail")
    assert (done.code, done.err) == (2, "mainstem: Missing argument 'TOPIC...'.\nTry: mainstem tail --help\n")
    assert command("--version").out.startswith("mainstem 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        ("produce", "t", "--header", "caf\udce9=x"),
        ("produce", "t\udce9"),
        ("tail", "t\udce9"),
        ("search", "word", "--topic", "t\udce9"),
        ("groups", "describe", "g\udce9"),
        ("topics", "create", "t", "--config", "a=\udce9"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_argument_that_is_not_utf8_is_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*arguments, "--at", "127.0.0.1:1"]) == ExitCode.USAGE
    assert capsys.readouterr().err.splitlines()[-2].endswith(" is not UTF-8")


def test_a_time_that_no_calendar_has_is_read_as_it_is_written() -> None:
    for time_ms in (1_796_004_605_127_000_123, 2**63 - 1, 9_999_999_999_999_999):
        assert parse_iso(format_iso(time_ms)) == time_ms
    assert format_iso(parse_iso("20130601")) == "2013-06-01T00:00:00.000Z"
    with pytest.raises(ValueError, match="month"):
        parse_iso(str(2**63))


if __name__ == "__main__":
    before, rest = PAGE.read_text().split("<!-- exit codes -->")
    after = rest.split("<!-- /exit codes -->")[1]
    PAGE.write_text(f"{before}<!-- exit codes -->\n{exit_codes_table()}\n<!-- /exit codes -->{after}")

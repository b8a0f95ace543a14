"""What every command has in common: help, documentation, exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mainstem.cli import mainstem
from mainstem.cli.exit_codes import ExitCode
from tests.cli.conftest import command

PAGE = Path(__file__).parents[2] / "docs" / "CLI.md"


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands below a group, groups included."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield (*path, name), found
        if isinstance(found, click.Group):
            yield from commands(found, (*path, name))


ALL = dict(commands(mainstem))


def exit_codes_table() -> str:
    """The table of docs/CLI.md."""
    return "\n".join(
        ["| code | meaning |", "|---|---|", *(f"| {int(each)} | {each.meaning} |" for each in ExitCode)]
    )


def test_the_page_lists_every_exit_code() -> None:
    page = PAGE.read_text()
    begin, end = page.index("<!-- exit codes -->"), page.index("<!-- /exit codes -->")
    assert page[begin + len("<!-- exit codes -->") : end].strip() == exit_codes_table(), (
        "run: python -m tests.cli.test_help"
    )


def test_the_page_lists_every_command() -> None:
    page = PAGE.read_text()
    for path, found in ALL.items():
        if not isinstance(found, click.Group):
            assert f"| `mainstem {' '.join(path)}` |" in page


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_tells_what_each_command_and_option_is(path: tuple[str, ...]) -> None:
    found = ALL[path]
    assert found.help
    for option in found.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
    text = found.get_help(click.Context(found, info_name="mainstem " + " ".join(path)))
    assert text.startswith(f"Usage: mainstem {' '.join(path)}")


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


def test_a_wrong_word_is_told_with_what_to_try() -> None:
    done = command("tial", "x")
    assert done.code == ExitCode.USAGE
    assert done.err.startswith("mainstem: No such command 'tial'.")
    done = command("tail")
    assert (done.code, done.err) == (2, "mainstem: Missing argument 'TOPIC...'.\nTry: mainstem tail --help\n")
    assert command("--version").out.startswith("mainstem 0.")


if __name__ == "__main__":
    before, rest = PAGE.read_text().split("<!-- exit codes -->")
    after = rest.split("<!-- /exit codes -->")[1]
    PAGE.write_text(f"{before}<!-- exit codes -->\n{exit_codes_table()}\n<!-- /exit codes -->{after}")

"""The command line. One file per command; a command's module is imported when it is called or listed.

Owns: `main`, how errors reach people (`mainstem: what, where, what to do`) and which exit code they give.
Refuses: imports of clients, servers or rich here: `mainstem --help` answers in the time of importing click.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from mainstem import __version__
from mainstem.cli.exit_codes import ExitCode

COMMANDS = (
    "serve",
    "produce",
    "tail",
    "search",
    "trace",
    "export",
    "replay",
    "console",
    "topics",
    "groups",
    "inspect",
    "doctor",
    "backup",
    "restore",
)


class LazyGroup(click.Group):
    """Commands by name, from the module of the same name, attribute `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"mainstem.cli.commands.{cmd_name}").command
        return found


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="mainstem", message="%(prog)s %(version)s")
def mainstem() -> None:
    """One durable event stream for your services.

    \b
    mainstem serve                     run the server here
    mainstem produce TOPIC FILE...     write events
    mainstem tail TOPIC                read them, now and as they come
    mainstem search QUERY              find them in all topics

    Commands for events, topics and groups talk to the server (or any Kafka cluster) at --at HOST:PORT.
    """


def main() -> None:
    """The `mainstem` command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; the exit code."""
    try:
        # Not `mainstem.main()`: on Ctrl-C it writes an empty line, and a closed pipe is its exit code 1.
        with mainstem.make_context("mainstem", arguments) as context:
            code = mainstem.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.UsageError as error:
        complain(error.format_message())
        if error.ctx is not None:
            click.echo(f"Try: {error.ctx.command_path} --help", err=True)
        return ExitCode.USAGE
    except click.ClickException as error:
        complain(error.format_message())
        return ExitCode.FAILED
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Python would complain about the pipe once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.PIPE_CLOSED
    except Exception as error:
        return _failed(error)
    return int(code or ExitCode.DONE)


def _failed(error: Exception) -> int:
    """Say what went wrong in one line, if it is one of ours; anything else is a bug and shows its
    traceback."""
    from mainstem.contract import NotReachable, StreamError

    if not isinstance(error, StreamError):
        raise error
    complain(str(error))
    return ExitCode.NOT_REACHABLE if isinstance(error, NotReachable) else ExitCode.FAILED


def complain(message: str) -> None:
    """One line on standard error."""
    click.echo(f"mainstem: {message}", err=True)

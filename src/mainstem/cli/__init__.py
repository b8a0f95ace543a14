"""The command line. Each command is a module of `commands`, imported only when it is used or listed.

Owns: `main`, how errors are reported (`mainstem: what, where, what to do`) and the exit code of each.
Refuses: to import a client, a server or rich here, so that `mainstem --help` takes only as long as importing
click.
"""

from __future__ import annotations

import importlib
import io
import os
import sys

import click

from mainstem.cli.common import print_error
from mainstem.cli.credentials import keep_context
from mainstem.cli.exit_codes import ExitCode
from mainstem.version import __version__

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
    "queues",
    "work",
    "run",
    "users",
    "acls",
    "quotas",
    "masking-rules",
    "tokens",
    "inspect",
    "doctor",
    "backup",
    "restore",
    "import",
    "certs",
)


MODULES = {"import": "import_definitions"}
"""The commands whose modules could not have their names."""


class LazyGroup(click.Group):
    """Imports a command when it is asked for: attribute `command` of the module of the same name, with `_` in
    the place of `-`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = MODULES.get(cmd_name, cmd_name.replace("-", "_"))
        command: click.Command = importlib.import_module(f"mainstem.cli.commands.{module}").command
        return command


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--context",
    envvar="MAINSTEM_CONTEXT",
    expose_value=False,
    callback=keep_context,
    metavar="NAME",
    help="Connect as this context says, see docs/CLI.md; also MAINSTEM_CONTEXT.",
)
@click.version_option(__version__, prog_name="mainstem", message="%(prog)s %(version)s")
def mainstem() -> None:
    """A durable event log for your services.

    \b
    mainstem serve                     run the server on this machine
    mainstem produce TOPIC FILE...     write events
    mainstem tail TOPIC                read events as they are written
    mainstem search QUERY              find events in all topics

    Commands for events, topics and groups connect to the server (or any Kafka cluster) at --at HOST:PORT.
    """


def main() -> None:
    """Entry point of the `mainstem` command: run the command line and exit with its code."""
    set_output_encodings()
    sys.exit(run(sys.argv[1:]))


def set_output_encodings() -> None:
    """Let output never fail for a character: in a pipe it is UTF-8, whatever the locale; on a terminal that
    has not the character, it is escaped (`\\u20ac`)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if not stream.isatty():
                stream.reconfigure(encoding="utf-8")
            stream.reconfigure(errors="backslashreplace")


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        # Not `mainstem.main()`: on Ctrl-C it writes an empty line, and for a closed pipe it exits with 1.
        with mainstem.make_context("mainstem", arguments) as context:
            code = mainstem.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.UsageError as error:
        print_error(error.format_message())
        if error.ctx is not None:
            click.echo(f"Try: {error.ctx.command_path} --help", err=True)
        return ExitCode.USAGE
    except click.ClickException as error:
        print_error(error.format_message())
        return ExitCode.FAILED
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Otherwise Python would report the closed pipe again when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.PIPE_CLOSED
    except Exception as error:
        return _report_failure(error)
    return int(code or ExitCode.DONE)


def _report_failure(error: Exception) -> int:
    """Report an error of the contract in one line. Any other exception is a bug and is raised with its
    traceback."""
    from mainstem.contract import NotReachable, StreamError

    if not isinstance(error, StreamError):
        raise error
    print_error(str(error))
    return ExitCode.NOT_REACHABLE if isinstance(error, NotReachable) else ExitCode.FAILED

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
from typing import TYPE_CHECKING

import click
from click.shell_completion import shell_complete

from mainstem.cli.common import print_error
from mainstem.cli.credentials import keep_context
from mainstem.cli.exit_codes import ExitCode
from mainstem.version import __version__

if TYPE_CHECKING:
    from typing_extensions import Buffer as ReadableBuffer

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
    "pubsub",
    "certs",
)


COMPLETE = "_MAINSTEM_COMPLETE"
"""The variable by which a shell's script for completion asks, as click names it."""

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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in COMMANDS or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches

        near = ", ".join(map(repr, sorted(get_close_matches(name, COMMANDS))))
        suggestion = f" (Did you mean one of: {near}?)" if ", " in near else f" Did you mean {near}?"
        raise click.UsageError(f"No such command {name!r}.{suggestion if near else ''}", ctx)


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
    """Entry point of the `mainstem` command: run the command line and exit with its code. With the variable
    `_MAINSTEM_COMPLETE`, print what a shell needs to complete a command line."""
    set_output_encodings()
    if instruction := os.environ.get(COMPLETE):
        sys.exit(shell_complete(mainstem, {}, "mainstem", COMPLETE, instruction))
    sys.exit(run(sys.argv[1:]))


def set_output_encodings() -> None:
    """Let output never fail for a character: in a pipe it is UTF-8, whatever the locale; on a terminal that
    has not the character, it is escaped (`\\u20ac`). Another failure is `OutputFailed`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _reporting(sys.stdout)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if not stream.isatty():
                stream.reconfigure(encoding="utf-8")
            stream.reconfigure(errors="backslashreplace")


class OutputFailed(Exception):
    """Standard output cannot be written; the text says why. A closed pipe is BrokenPipeError as ever."""


class _ReportingFile(io.FileIO):
    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:  # commands handle OSError as an error of the file or socket that they use
            raise OutputFailed(error.strerror) from error


def _reporting(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """The stream in a form that says when its file cannot be written."""
    file = _ReportingFile(stream.fileno(), "w", closefd=False)
    unbuffered = isinstance(stream.buffer, io.RawIOBase)  # python -u
    return io.TextIOWrapper(
        file if unbuffered else io.BufferedWriter(file),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        # Not `mainstem.main()`: on Ctrl-C it writes an empty line, and for a closed pipe it exits with 1.
        with mainstem.make_context("mainstem", arguments) as context:
            code = mainstem.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return ExitCode.DONE
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
        _discard_output()
        return ExitCode.PIPE_CLOSED
    except OutputFailed as error:
        _discard_output()
        print_error(f"standard output cannot be written: {error}")
        return ExitCode.OUTPUT
    except Exception as error:
        return _report_failure(error)
    return int(code or ExitCode.DONE)


def _discard_output() -> None:
    """Otherwise Python would report the output that fails again when it flushes it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report_failure(error: Exception) -> int:
    """Report an error of the contract in one line. Any other exception is a bug and is raised with its
    traceback."""
    from mainstem.contract import NotReachable, StreamError

    if not isinstance(error, StreamError):
        raise error
    print_error(str(error))
    return ExitCode.NOT_REACHABLE if isinstance(error, NotReachable) else ExitCode.FAILED

"""Passwords of users that a command sets, and the verifiers made of them.

Owns: where such a password comes from, and that it goes no further: servers get verifiers. Refuses: passwords
as arguments, which every process of the machine can read.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mainstem.access_contract import ITERATIONS_MAX, ITERATIONS_MIN, ScramMechanism
from mainstem.cli.common import print_error

if TYPE_CHECKING:
    from mainstem.access_contract import ScramVerifier

F = TypeVar("F", bound=Callable[..., Any])

MECHANISMS = {"SCRAM-SHA-256": ScramMechanism.SHA_256, "SCRAM-SHA-512": ScramMechanism.SHA_512}
PASSWORD_BYTES_MAX = 1_024


def password_options(command: F) -> F:
    """Add the options of a new password to a command: `file`, `mechanisms`, `iterations`."""
    for option in (
        click.option(
            "--iterations",
            type=click.IntRange(ITERATIONS_MIN, ITERATIONS_MAX),
            default=ITERATIONS_MIN,
            show_default=True,
            metavar="N",
            help="How often the password is hashed: what each guess costs, and each login.",
        ),
        click.option(
            "--mechanism",
            "mechanisms",
            multiple=True,
            type=click.Choice(tuple(MECHANISMS)),
            help="A mechanism to log in with; may be repeated. If not given, both.",
        ),
        click.option(
            "--new-password-file",
            "file",
            metavar="FILE",
            help="Take the password from the first line of this file, - for standard input; else ask.",
        ),
    ):
        command = option(command)
    return command


def new_verifiers(file: str | None, mechanisms: Sequence[str], iterations: int) -> list[ScramVerifier]:
    """The verifiers of a new password: from a file, or asked for on the terminal, twice."""
    return verifiers_of(_new_password(file), mechanisms or tuple(MECHANISMS), iterations)


def verifiers_of(password: str, mechanisms: Sequence[str], iterations: int) -> list[ScramVerifier]:
    """The verifiers of a password, each with a salt of its own."""
    from mainstem.authentication.scram import SALT_BYTES, make_verifier

    return [
        make_verifier(MECHANISMS[name], password, os.urandom(SALT_BYTES), iterations)
        for name in dict.fromkeys(mechanisms)
    ]


def checked_name(text: str) -> str:
    """The name of a user in its prepared form. UsageError: no user can have it."""
    from mainstem.authentication.names import user_name

    try:
        return user_name(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _new_password(file: str | None) -> str:
    if file is None:
        if not sys.stdin.isatty():
            raise click.UsageError(
                "there is no terminal to ask on: add --new-password-file FILE, or - for standard input"
            )
        password: str = click.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = _first_line(file)
    if not password:
        raise click.UsageError("the password is empty")
    if len(password.encode(errors="replace")) > PASSWORD_BYTES_MAX:
        raise click.UsageError(f"the password is longer than {PASSWORD_BYTES_MAX} bytes")
    return password


def _first_line(file: str) -> str:
    try:
        if file == "-":
            line = sys.stdin.buffer.readline(PASSWORD_BYTES_MAX + 2)
        else:
            with open(file, "rb") as opened:
                mode = os.fstat(opened.fileno()).st_mode
                if stat.S_ISREG(mode) and mode & 0o077:
                    print_error(f"warning: {file} can be read by others: chmod 600 {file}")
                line = opened.readline(PASSWORD_BYTES_MAX + 2)
        return line.decode().rstrip("\r\n")
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"{file}: the password is not UTF-8") from None

"""The command `mainstem users`: who may log in, and with which password.

Owns: its options and columns. Refuses: a password as an argument, and to delete without a confirmation. A
password is hashed here; the server gets SCRAM verifiers.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mainstem.cli.access_client import AccessClient, access_options, delete_each, with_access
from mainstem.cli.common import json_option, plural, print_error, print_list
from mainstem.cli.exit_codes import ExitCode
from mainstem.cli.passwords import checked_name, new_verifiers, password_options
from mainstem.printable import escape_controls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mainstem.access_contract import ScramVerifier
    from mainstem.http_api.access import UserJson, VerifierJson


REQUESTS_OF_IMPORT = 8
"""Requests at the same time: one commit of the server serves several."""


@click.group("users")
def command() -> None:
    """List, add and delete users, and change their passwords.

    A user may log in; what a user may do is decided by `mainstem acls` and the setting super_users.
    """


@command.command("list")
@access_options
@json_option
def list_users(address: str, data: str | None, as_json: bool) -> None:
    """List the users.

    Columns: user, mechanisms with their iterations, whether it is a super user.
    """

    async def work(access: AccessClient) -> Sequence[UserJson]:
        return await access.users()

    users = with_access(address, data, work)
    print_list(users, ("user", "mechanisms", "super"), _row, as_json=as_json, none="no users")


def _row(user: UserJson) -> tuple[object, ...]:
    mechanisms = ",".join(f"{way.mechanism}:{way.iterations}" for way in user.mechanisms)
    return user.user, mechanisms, "yes" if user.super else "no"


def _bodies(verifiers: Sequence[ScramVerifier]) -> list[VerifierJson]:
    from mainstem.http_api.access import verifier_json

    return [verifier_json(verifier) for verifier in verifiers]


@command.command("add")
@click.argument("name", metavar="USER")
@access_options
@password_options
def add_user(
    name: str, address: str, data: str | None, file: str | None, mechanisms: tuple[str, ...], iterations: int
) -> None:
    """Add a user. The password is asked for, or read from a file; it does not leave this machine."""
    user = checked_name(name)
    bodies = _bodies(new_verifiers(file, mechanisms, iterations))

    async def work(access: AccessClient) -> None:
        await access.add_user(user, bodies)

    with_access(address, data, work, may_make_folder=True)
    click.echo(f"added {escape_controls(user)}")


@command.command("passwd")
@click.argument("name", metavar="USER")
@access_options
@password_options
def change_password(
    name: str, address: str, data: str | None, file: str | None, mechanisms: tuple[str, ...], iterations: int
) -> None:
    """Change the password of a user. Connections of the user stay as they are."""
    user = checked_name(name)
    bodies = _bodies(new_verifiers(file, mechanisms, iterations))

    async def work(access: AccessClient) -> None:
        await access.change_user(user, bodies)

    with_access(address, data, work)
    click.echo(f"changed the password of {escape_controls(user)}")


@command.command("delete")
@click.argument("names", metavar="USER...", nargs=-1, required=True)
@access_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only report what would be done.")
def delete_users(names: tuple[str, ...], address: str, data: str | None, yes: bool, dry_run: bool) -> None:
    """Delete users, and end their connections. Access control entries about them stay."""

    async def delete(access: AccessClient, user: str, dry: bool) -> None:
        await access.delete_user(user, dry_run=dry)

    delete_each(address, data, map(checked_name, names), delete, yes=yes, dry_run=dry_run)


@command.command("import")
@click.argument("file", metavar="FILE")
@access_options
@click.option("--replace", is_flag=True, help="Change the passwords of users that exist already.")
def import_users(file: str, address: str, data: str | None, replace: bool) -> int:
    """Add users from the lines of FILE, - for standard input.

    A line is USER:MECHANISM:SALT:STORED_KEY:SERVER_KEY:ITERATIONS with base64, as other servers keep SCRAM
    verifiers, or Kafka's SCRAM-SHA-256=[name=USER,password=PASSWORD]. A user may have a line for each
    mechanism. Empty lines, and those that begin with #, are left out. If a line is bad, nothing is imported
    and the exit code is 4.
    """
    import asyncio

    users, problems = _read_file(file)
    for problem in problems:
        print_error(f"{file}: {problem}")
    if problems:
        print_error(f"{file}: nothing was imported")
        return ExitCode.BAD_INPUT

    async def work(access: AccessClient) -> tuple[int, list[str]]:
        existing = {user.user for user in await access.users()}
        taken = sorted(existing & users.keys())
        if taken and not replace:
            return 0, taken
        slots = asyncio.Semaphore(REQUESTS_OF_IMPORT)

        async def put(user: str, verifiers: Sequence[ScramVerifier]) -> None:
            async with slots:
                change = access.change_user if user in existing else access.add_user
                await change(user, _bodies(verifiers))

        await asyncio.gather(*(put(user, verifiers) for user, verifiers in users.items()))
        return len(users), taken

    imported, taken = with_access(address, data, work, may_make_folder=True)
    if taken and not imported:
        names = ", ".join(map(escape_controls, taken[:10]))
        print_error(f"nothing was imported: there are users of these names already: {names}; add --replace")
        return ExitCode.FAILED
    click.echo(f"imported {plural(imported, 'user', 'users')}")
    return ExitCode.DONE


def _read_file(file: str) -> tuple[Mapping[str, Sequence[ScramVerifier]], Sequence[str]]:
    from mainstem.cli.user_lines import read_users

    try:
        if file == "-":
            return read_users(sys.stdin.buffer.read().decode().splitlines())
        with open(file, encoding="utf-8") as opened:
            return read_users(opened)
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"{file} is not UTF-8") from None

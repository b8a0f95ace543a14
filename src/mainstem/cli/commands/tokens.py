"""The command `mainstem tokens`: API tokens, by which programs log in over HTTP.

Owns: its options and columns. Refuses: to show a token that was made before, and to delete without a
confirmation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from mainstem.cli.access_client import AccessClient, access_options, with_access
from mainstem.cli.common import (
    confirm,
    json_option,
    plural,
    print_list,
)
from mainstem.printable import escape_controls
from mainstem.timespec import parse_duration_ms

if TYPE_CHECKING:
    from mainstem.http_api.tokens import ApiTokenJson, MadeApiTokenJson

COLUMNS = ("id", "user", "name", "scopes", "expires", "last used")
EXPIRES = "30d"


@click.group("tokens")
def command() -> None:
    """List, add and delete API tokens.

    A program sends a token over HTTP as `Authorization: Bearer mst_…`. It has the rights of its user, as far
    as its scopes go, until it expires.
    """


@command.command("list")
@access_options
@json_option
def list_tokens(address: str, data: str | None, as_json: bool) -> None:
    """List the API tokens.

    Columns: id, user, what it is for, scopes, when it expires, when it was last used since the server
    started.
    """

    async def work(access: AccessClient) -> Sequence[ApiTokenJson]:
        return await access.tokens()

    print_list(with_access(address, data, work), COLUMNS, _row, as_json=as_json, none="no tokens")


def _row(token: ApiTokenJson) -> tuple[object, ...]:
    expires = "expired" if token.expired else token.expires
    return token.id, token.user, token.name, " ".join(token.scopes) or "all", expires, token.last_used


@command.command("add")
@click.argument("owner", metavar="USER")
@click.option("--name", required=True, metavar="TEXT", help="What it is for.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    help="read-only, topics:PREFIX, groups:PREFIX or subscriptions:PREFIX; may be repeated. Without: all.",
)
@click.option("--expires", default=EXPIRES, metavar="TIME", help=f"How long it lasts [default: {EXPIRES}].")
@access_options
def add_token(
    owner: str, name: str, scopes: tuple[str, ...], expires: str, address: str, data: str | None
) -> None:
    """Add an API token of a user, and print it: this once, on standard output, with nothing else there."""
    from mainstem.http_api.tokens import SCOPE_PATTERN, NewApiTokenJson

    try:
        expires_in_ms = parse_duration_ms(expires)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expires") from None
    for scope in scopes:
        if not re.fullmatch(SCOPE_PATTERN, scope):
            raise click.BadParameter(f"{scope!r} is not a scope", param_hint="--scope")
    token = NewApiTokenJson(name=name, expires_in_ms=expires_in_ms, user=owner, scopes=list(scopes))

    async def work(access: AccessClient) -> MadeApiTokenJson:
        return await access.make_token(token)

    made = with_access(address, data, work)
    click.echo(f"token {made.about.id} of {escape_controls(owner)}, until {made.about.expires}", err=True)
    click.echo(made.token)


@command.command("delete")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@access_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_tokens(ids: tuple[str, ...], address: str, data: str | None, yes: bool) -> None:
    """Delete API tokens, and end the requests that came with them."""
    wanted = list(dict.fromkeys(ids))
    confirm(f"Delete {plural(len(wanted), 'token', 'tokens')}?", yes=yes)

    async def work(access: AccessClient) -> None:
        for id_ in wanted:
            await access.delete_token(id_)
            click.echo(f"deleted {escape_controls(id_)}")

    with_access(address, data, work)

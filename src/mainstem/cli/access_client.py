"""What the commands of access work on: a server, or a folder without one.

Owns: `AccessClient`, the choice between the two, and deletion by name. Refuses: a folder that a server uses,
and to delete without a confirmation.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from mainstem.cli.common import at_option, confirm, print_error
from mainstem.cli.exit_codes import CANNOT_SERVE, ExitCode
from mainstem.printable import escape_controls

if TYPE_CHECKING:
    from mainstem.http_api.access import (
        AccessAnswerJson,
        AccessQuestionJson,
        AclJson,
        AclsQuery,
        UserJson,
        VerifierJson,
    )
    from mainstem.http_api.masking import MaskRuleJson
    from mainstem.http_api.quotas import (
        ChangedQuotaJson,
        DeleteQuotaJson,
        QuotaJson,
        QuotasQuery,
        SetQuotaJson,
    )
    from mainstem.http_api.tokens import ApiTokenJson, MadeApiTokenJson, NewApiTokenJson

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class AccessClient(Protocol):
    """Users, entries, masking rules, quotas and API tokens. Every call may raise StreamError."""

    async def users(self) -> Sequence[UserJson]:
        """All users, by name."""

    async def add_user(self, user: str, verifiers: Sequence[VerifierJson]) -> None:
        """Add a user, unless there is one of its name."""

    async def change_user(self, user: str, verifiers: Sequence[VerifierJson]) -> None:
        """Replace the verifiers of a user."""

    async def delete_user(self, user: str, *, dry_run: bool) -> None:
        """Delete a user."""

    async def acls(self, query: AclsQuery) -> Sequence[AclJson]:
        """All entries that match, whatever the limit of the query."""

    async def add_acls(self, acls: Sequence[AclJson], *, dry_run: bool) -> Sequence[AclJson]:
        """Add entries; returns those that are new."""

    async def delete_acls(self, acls: Sequence[AclJson], *, dry_run: bool) -> Sequence[AclJson]:
        """Delete entries; returns those that existed."""

    async def test(self, question: AccessQuestionJson) -> AccessAnswerJson:
        """Whether somebody may do something."""

    async def masking_rules(self) -> Sequence[MaskRuleJson]:
        """All masking rules, by name."""

    async def put_masking_rule(self, rule: MaskRuleJson, *, dry_run: bool) -> MaskRuleJson:
        """Add a masking rule, or replace the one of its name; returns it as it is kept."""

    async def delete_masking_rule(self, rule: str, *, dry_run: bool) -> None:
        """Delete a masking rule."""

    async def quotas(self, query: QuotasQuery) -> Sequence[QuotaJson]:
        """The entities that match, with their quotas, whatever the limit of the query."""

    async def tokens(self) -> Sequence[ApiTokenJson]:
        """All API tokens, by user and time."""

    async def make_token(self, token: NewApiTokenJson) -> MadeApiTokenJson:
        """Make an API token."""

    async def delete_token(self, id_: str) -> None:
        """Delete an API token."""

    async def change_quotas(self, body: SetQuotaJson | DeleteQuotaJson) -> ChangedQuotaJson:
        """Set or delete quotas of an entity; returns what it had and has."""


def access_options(command: F) -> F:
    """Add the options of the place to a command: `address` and `data`."""
    with_data = click.option(
        "--data",
        metavar="DIR",
        help="Work on this data folder, which no server uses, instead of a server.",
    )(command)
    return at_option(with_data)


def with_access(
    address: str,
    data: str | None,
    work: Callable[[AccessClient], Awaitable[T]],
    *,
    may_make_folder: bool = False,
) -> T:
    """Run `work` on the server at `address`, or on the folder `data` if it is given. Raises as
    `http_door.with_door`; ends the command if the folder cannot be used."""
    if data is not None:
        if not may_make_folder and not os.path.isdir(data):
            print_error(f"there is no data folder {data}")
            raise click.exceptions.Exit(ExitCode.FOLDER)
        return _with_folder(data, work)
    from mainstem.cli.http_door import with_door

    async def connected(door: str) -> T:
        from mainstem.cli.remote_access import RemoteAccess

        return await work(RemoteAccess(door))

    return with_door(address, connected)


def delete_each(
    address: str,
    data: str | None,
    names: Iterable[str],
    delete: Callable[[AccessClient, str, bool], Awaitable[None]],
    *,
    yes: bool,
    dry_run: bool,
) -> None:
    """Delete what has these names, by `delete(access, name, dry_run)`, and report each. First a dry run looks
    whether all of them can be deleted, and then a confirmation is needed. Raises as `with_access`."""
    chosen = list(dict.fromkeys(names))

    async def work(access: AccessClient, dry: bool) -> None:
        for name in chosen:
            await delete(access, name, dry)
            if dry == dry_run:
                click.echo(f"{'would delete' if dry else 'deleted'} {escape_controls(name)}")

    with_access(address, data, lambda access: work(access, True))
    if not dry_run:
        confirm(f"Delete {', '.join(map(escape_controls, chosen))}?", yes=yes)
        with_access(address, data, lambda access: work(access, False))


def _with_folder(data: str, work: Callable[[AccessClient], Awaitable[T]]) -> T:
    import asyncio
    import logging

    from mainstem.cli.common import refuse_broken_text
    from mainstem.cli.local_access import LocalAccess
    from mainstem.serve import offline_access
    from mainstem.serve.errors import CannotServe

    refuse_broken_text()
    logger = logging.getLogger("mainstem")
    level = logger.level
    logger.setLevel(logging.ERROR)

    async def opened(access: offline_access.OfflineAccess) -> T:
        return await work(LocalAccess(access))

    try:
        return asyncio.run(offline_access.with_access(data, os.environ, opened))
    except CannotServe as error:
        hint = "; without --data the command asks the server at --at" if error.reason == "locked" else ""
        print_error(f"{error}{hint}")
        raise click.exceptions.Exit(CANNOT_SERVE[error.reason]) from None
    finally:
        logger.setLevel(level)

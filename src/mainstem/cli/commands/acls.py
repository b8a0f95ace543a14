"""The command `mainstem acls`: what principals may do, by access control entries as Kafka's.

Owns: its options and columns. Refuses: to delete without a confirmation, and to delete everything because no
option says what.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import click

from mainstem.cli.access_client import AccessClient, access_options, with_access
from mainstem.cli.acl_options import (
    operation_words,
    principal_text,
    resource_options,
    resources_of,
)
from mainstem.cli.common import confirm, is_terminal, json_option, plural, print_json, print_list, print_rows
from mainstem.cli.exit_codes import ExitCode
from mainstem.printable import escape_controls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mainstem.http_api.access import AclJson, AclsQuery

COLUMNS = ("type", "name", "pattern", "principal", "host", "operation", "permission")


@click.group("acls")
def command() -> None:
    """List, add, delete and test access control entries.

    They hold while the setting access_control is on: then what no entry allows is denied to all but super
    users. A denial wins over what allows.
    """


def _print(acls: Sequence[AclJson], *, as_json: bool) -> None:
    print_list(acls, COLUMNS, _row, as_json=as_json, none="no access control entries")


def _row(acl: AclJson) -> tuple[object, ...]:
    return acl.resource_type, acl.name, acl.pattern, acl.principal, acl.host, acl.operation, acl.permission


@command.command("add")
@click.option(
    "--allow",
    multiple=True,
    metavar="PRINCIPAL",
    callback=principal_text,
    help="Whom to allow: alice, Role:ops.",
)
@click.option(
    "--deny",
    multiple=True,
    metavar="PRINCIPAL",
    callback=principal_text,
    help="Whom to deny; * is everybody.",
)
@click.option(
    "--operation",
    "operations",
    multiple=True,
    required=True,
    metavar="WORDS",
    callback=operation_words,
    help="What: read, write, describe ... or all; with commas.",
)
@resource_options
@click.option("--prefixed", is_flag=True, help="The names are how names of resources begin.")
@click.option("--host", "hosts", multiple=True, default=("*",), metavar="ADDRESS", help="Only from there.")
@access_options
@json_option
@click.option("--dry-run", is_flag=True, help="Only report what would be done.")
def add_acls(
    address: str,
    data: str | None,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    operations: tuple[str, ...],
    prefixed: bool,
    hosts: tuple[str, ...],
    as_json: bool,
    dry_run: bool,
    **resources: Any,
) -> None:
    """Add entries: one for each combination of principal, operation, resource and host.

    Prints those that are new; columns: type, name, pattern, principal, host, operation, permission.
    """
    named = resources_of(resources)
    principals = [(name, "ALLOW") for name in allow] + [(name, "DENY") for name in deny]
    if not named or not principals:
        raise click.UsageError("name a resource, such as --topic orders, and whom to --allow or --deny")
    acls = _entries(named, principals, operations, hosts, "PREFIXED" if prefixed else "LITERAL")

    async def work(access: AccessClient) -> Sequence[AclJson]:
        return await access.add_acls(acls, dry_run=dry_run)

    added = with_access(address, data, work, may_make_folder=not dry_run)
    _print(added, as_json=as_json)
    verb = "would be added" if dry_run else "added"
    click.echo(f"{plural(len(added), 'entry', 'entries')} {verb}", err=True)


def _entries(
    named: Sequence[tuple[str, str]],
    principals: Sequence[tuple[str, str]],
    operations: Sequence[str],
    hosts: Sequence[str],
    pattern: str,
) -> list[AclJson]:
    import msgspec

    from mainstem.http_api.access import AclJson, check_hosts

    rows = [
        {
            "resource_type": resource_type,
            "name": name,
            "pattern": "LITERAL" if name == "*" or resource_type == "CLUSTER" else pattern,
            "principal": principal,
            "permission": permission,
            "operation": operation,
            "host": host,
        }
        for (resource_type, name), (principal, permission), operation, host in itertools.product(
            named, principals, operations, hosts
        )
    ]
    try:
        check_hosts(hosts)
        return msgspec.convert(rows, list[AclJson])
    except (msgspec.ValidationError, ValueError) as error:
        raise click.UsageError(str(error)) from None


def filter_options(function: Any) -> Any:
    """Add the options that choose entries to a command."""
    for option in (
        click.option("--deny", "denials", is_flag=True, help="Only those that deny."),
        click.option("--allow", "permits", is_flag=True, help="Only those that allow."),
        click.option("--host", metavar="ADDRESS", help="Only those for exactly this host, or *."),
        click.option(
            "--operation",
            "operations",
            multiple=True,
            metavar="WORD",
            callback=operation_words,
            help="Only of it.",
        ),
        click.option(
            "--principal", metavar="PRINCIPAL", callback=principal_text, help="Only of this principal."
        ),
        click.option(
            "--matching", is_flag=True, help="Also those of prefixes and of *, that are about the name."
        ),
        resource_options,
    ):
        function = option(function)
    return function


def _queries(options: dict[str, Any]) -> list[AclsQuery]:
    """The queries whose results together are what the options choose."""
    import msgspec

    from mainstem.http_api.access import AclsQuery

    if options["permits"] and options["denials"]:
        raise click.UsageError("--allow and --deny exclude each other")
    permission = "ALLOW" if options["permits"] else "DENY" if options["denials"] else None
    common = {
        "principal": options["principal"],
        "host": options["host"],
        "permission": permission,
        "pattern": "MATCH" if options["matching"] else None,
    }
    named: list[tuple[str | None, str | None]] = [*resources_of(options)]
    rows = [
        {**common, "resource_type": resource_type, "name": name, "operation": operation}
        for resource_type, name in named or [(None, None)]
        for operation in options["operations"] or [None]
    ]
    try:
        return msgspec.convert(rows, list[AclsQuery])
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from None


async def _find(access: AccessClient, queries: Sequence[AclsQuery]) -> list[AclJson]:
    return list(dict.fromkeys([acl for query in queries for acl in await access.acls(query)]))


@command.command("list")
@filter_options
@access_options
@json_option
def list_acls(address: str, data: str | None, as_json: bool, **options: Any) -> None:
    """List entries.

    Columns: type, name, pattern, principal, host, operation, permission.
    """
    queries = _queries(options)
    _print(with_access(address, data, lambda access: _find(access, queries)), as_json=as_json)


@command.command("delete")
@filter_options
@access_options
@json_option
@click.option("--all", "everything", is_flag=True, help="Delete every entry, if no other option says which.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only report what would be done.")
def delete_acls(
    address: str, data: str | None, as_json: bool, everything: bool, yes: bool, dry_run: bool, **options: Any
) -> None:
    """Delete the entries that the options choose, and print them as `list` does."""
    if everything == any(options.values()):
        raise click.UsageError("say which entries, such as --topic orders, or --all")
    queries = _queries(options)
    chosen = with_access(address, data, lambda access: _find(access, queries))
    if not dry_run and chosen:
        confirm(f"Delete {plural(len(chosen), 'entry', 'entries')}?", yes=yes)

        async def work(access: AccessClient) -> Sequence[AclJson]:
            return await access.delete_acls(chosen, dry_run=False)

        chosen = list(with_access(address, data, work))
    _print(chosen, as_json=as_json)
    verb = "would be deleted" if dry_run else "deleted"
    click.echo(f"{plural(len(chosen), 'entry', 'entries')} {verb}", err=True)


@command.command("test")
@click.argument("principal", metavar="PRINCIPAL", callback=principal_text)
@click.argument("operation", metavar="OPERATION")
@resource_options
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="The client's address."
)
@click.option(
    "--role", "roles", multiple=True, metavar="NAME", help="A role that a login would give; may be repeated."
)
@access_options
@json_option
def test_acls(
    principal: str,
    operation: str,
    address: str,
    data: str | None,
    host: str,
    roles: tuple[str, ...],
    as_json: bool,
    **resources: Any,
) -> int:
    """Say whether somebody may do something, and which entry decides: `test alice read --topic orders`.

    The exit code is 0 for yes and 1 for no. In a pipe, columns: yes or no, what decided.
    """
    import msgspec

    from mainstem.http_api.access import AccessQuestionJson

    named = resources_of(resources)
    (word,) = operation_words(click.get_current_context(), None, (operation,))  # type: ignore[arg-type]
    if len(named) != 1:
        raise click.UsageError("name one resource, such as --topic orders")
    question = {
        "principal": principal,
        "operation": word,
        "resource_type": named[0][0],
        "name": named[0][1],
        "host": host,
        "roles": [role if ":" in role else f"Role:{role}" for role in roles],
    }
    try:
        asked = msgspec.convert(question, AccessQuestionJson)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from None
    answer = with_access(address, data, lambda access: access.test(asked))
    verdict = "yes" if answer.allowed else "no"
    why = answer.reason if answer.acl is None else _text(answer.acl)
    if as_json:
        print_json(answer)
    elif is_terminal():
        click.echo(f"{verdict}: {escape_controls(why)}")
    else:
        print_rows(("answer", "why"), [(verdict, why)])
    return ExitCode.DONE if answer.allowed else ExitCode.FAILED


def _text(acl: AclJson) -> str:
    """An entry as a sentence: `ALLOW User:alice READ on TOPIC or... from *`."""
    name = f"{acl.name}…" if acl.pattern == "PREFIXED" else acl.name
    return f"{acl.permission} {acl.principal} {acl.operation} on {acl.resource_type} {name} from {acl.host}"

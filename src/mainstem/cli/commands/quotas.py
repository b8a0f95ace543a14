"""The command `mainstem quotas`: how much of the server clients may use, by quotas as Kafka's.

Owns: its options and columns. Refuses: to delete without a confirmation, and entities that are named by no
option. The option that names a user is not `--user`, which is who logs in. Neither is its parameter: of two
options with the same parameter, click gives each what is given for the other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from mainstem.cli.access_client import AccessClient, access_options, with_access
from mainstem.cli.common import confirm, json_option, plural, print_list

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mainstem.http_api.quotas import ChangedQuotaJson, DeleteQuotaJson, QuotaJson, SetQuotaJson

QUOTAS = {
    "producer_byte_rate": ("BYTES", "Bytes a second that are published."),
    "consumer_byte_rate": ("BYTES", "Bytes a second that are read."),
    "request_percentage": ("PERCENT", "Time of requests, in percent of the thread that serves them."),
    "connection_creation_rate": ("NUMBER", "New connections a second, of an address."),
}
"""Kafka's name -> unit and help."""
COLUMNS = ("user", "client", "ip", *QUOTAS)
EVERY = "<default>"
"""How Kafka's tools write the entity of all that have no quota by name."""
PARTS = {
    "user": ("user", "NAME", "Of this user", "Of every user that has none by name."),
    "client_id": ("client", "ID", "Of this client id", "Of every client id that has none by name."),
    "ip": ("ip", "ADDRESS", "Of this IP address", "Of every address that has none of its own."),
}
"""Part of an entity -> its word in options, what is given for it, and help."""


@click.group("quotas")
def command() -> None:
    """List, set and delete client quotas: of users, client ids, both, and addresses.

    A client that uses more is slowed down. Of several quotas the most specific counts: see
    docs/OPERATIONS.md.
    """


def entity_options(function: Any) -> Any:
    """Add the options that name an entity to a command."""
    for part, (word, metavar, text, every_text) in reversed(PARTS.items()):
        function = click.option(f"--for-every-{word}", f"every_{part}", is_flag=True, help=every_text)(
            function
        )
        function = click.option(f"--for-{word}", f"of_{part}", metavar=metavar, help=f"{text}.")(function)
    return function


def _entity(options: dict[str, Any]) -> dict[str, str]:
    """The parts of the entity that the options name."""
    entity = {}
    for part, (word, *_) in PARTS.items():
        name, is_every = options[f"of_{part}"], options[f"every_{part}"]
        if name is not None and is_every:
            raise click.UsageError(f"--for-{word} and --for-every-{word} exclude each other")
        if name == "":
            raise click.UsageError(f"--for-{word} needs a name; --for-every-{word} is for all of them")
        if name is not None or is_every:
            entity[part] = "" if is_every else name
    return entity


def _required_entity(options: dict[str, Any]) -> dict[str, str]:
    entity = _entity(options)
    if not entity:
        raise click.UsageError("say whose, such as --for-user alice or --for-every-user")
    return entity


def _print(quotas: Sequence[QuotaJson], *, as_json: bool) -> None:
    print_list(quotas, COLUMNS, _row, as_json=as_json, none="no quotas")


def _row(quota: QuotaJson) -> list[object]:
    names = [EVERY if name == "" else name for name in (quota.user, quota.client_id, quota.ip)]
    return [*names, *(_number(getattr(quota, key)) for key in QUOTAS)]


def _number(value: float | None) -> float | int | None:
    return int(value) if value is not None and value.is_integer() else value


@command.command("list")
@entity_options
@access_options
@json_option
def list_quotas(address: str, data: str | None, as_json: bool, **options: Any) -> None:
    """List quotas; with options only those of entities that have all of these parts.

    Columns: user, client, ip (<default>: every one; empty: not looked at), producer_byte_rate,
    consumer_byte_rate, request_percentage, connection_creation_rate.
    """
    import msgspec

    from mainstem.http_api.quotas import QuotasQuery

    try:
        query = msgspec.convert(_entity(options), QuotasQuery)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from None

    async def work(access: AccessClient) -> Sequence[QuotaJson]:
        return await access.quotas(query)

    _print(with_access(address, data, work), as_json=as_json)


def quota_options(function: Any) -> Any:
    """Add an option for the value of each quota to a command."""
    for key, (unit, text) in reversed(QUOTAS.items()):
        flag = "--" + key.replace("_", "-")
        function = click.option(flag, key, type=float, metavar=unit, help=text)(function)
    return function


@command.command("set")
@entity_options
@quota_options
@access_options
@json_option
@click.option("--dry-run", is_flag=True, help="Only report what would be done.")
def set_quotas(address: str, data: str | None, as_json: bool, dry_run: bool, **options: Any) -> None:
    """Set quotas of a user, a client id, both, or an address. Those that are not given stay as they are.

    Prints what the entity then has, as `list` does.
    """
    import msgspec

    from mainstem.http_api.quotas import SetQuotaJson

    values = {key: options[key] for key in QUOTAS if options[key] is not None}
    if not values:
        raise click.UsageError("say which quota, such as --producer-byte-rate 1048576")
    if not all(map(math.isfinite, values.values())):
        raise click.UsageError("a quota is a number; `mainstem quotas delete` removes one")
    try:
        body = msgspec.convert(_required_entity(options) | values | {"dry_run": dry_run}, SetQuotaJson)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from None
    changed = _change(address, data, body, may_make_folder=not dry_run)
    _print([changed.after] if changed.after else [], as_json=as_json)
    verb = "would be set" if dry_run else "set"
    click.echo(f"{plural(len(values), 'quota', 'quotas')} {verb}", err=True)


@command.command("delete")
@entity_options
@click.option(
    "--quota",
    "keys",
    multiple=True,
    type=click.Choice(list(QUOTAS)),
    help="Which; may be repeated. Without: all that the entity has.",
)
@access_options
@json_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only report what would be done.")
def delete_quotas(
    address: str,
    data: str | None,
    keys: tuple[str, ...],
    as_json: bool,
    yes: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Delete quotas of a user, a client id, both, or an address, and print those as `list` does."""
    import msgspec

    from mainstem.http_api.quotas import DeleteQuotaJson

    asked = {**_required_entity(options), "quotas": list(dict.fromkeys(keys)), "dry_run": True}
    try:
        body = msgspec.convert(asked, DeleteQuotaJson)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from None
    changed = _change(address, data, body)
    if not dry_run and changed.before != changed.after:
        count = len(_deleted(changed))
        confirm(f"Delete {plural(count, 'quota', 'quotas')}?", yes=yes)
        changed = _change(address, data, msgspec.structs.replace(body, dry_run=False))
    deleted = _deleted(changed)
    if deleted and changed.before:
        others = {key: None for key in QUOTAS if key not in deleted}
        _print([msgspec.structs.replace(changed.before, **others)], as_json=as_json)
    verb = "would be deleted" if dry_run else "deleted"
    click.echo(f"{plural(len(deleted), 'quota', 'quotas')} {verb}", err=True)


def _change(
    address: str, data: str | None, body: SetQuotaJson | DeleteQuotaJson, *, may_make_folder: bool = False
) -> ChangedQuotaJson:
    async def work(access: AccessClient) -> ChangedQuotaJson:
        return await access.change_quotas(body)

    return with_access(address, data, work, may_make_folder=may_make_folder)


def _deleted(changed: ChangedQuotaJson) -> list[str]:
    """The quotas that the entity had and has no longer."""
    return [key for key in QUOTAS if getattr(changed.before, key, None) != getattr(changed.after, key, None)]

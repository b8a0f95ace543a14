"""The command `mainstem masking-rules`: which fields of events are hidden, and from whom.

Owns: its options and columns. Refuses: to replace a rule that it was not asked to, and to delete without a
confirmation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mainstem.cli.access_client import AccessClient, access_options, delete_each, with_access
from mainstem.cli.acl_options import principal_text
from mainstem.cli.common import (
    at_option,
    is_terminal,
    json_option,
    plural,
    print_json,
    print_list,
    print_rows,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mainstem.http_api.masking import MaskedEventJson, MaskPreviewJson, MaskRuleJson

COLUMNS = ("rule", "topic", "pattern", "path", "kind", "for", "but not for")
PREVIEW_COLUMNS = ("partition", "offset", "masked", "key", "headers", "value")
KINDS = ("hidden", "hashed", "last4")
EVENTS = 5


@click.group("masking-rules")
def command() -> None:
    """List, add, delete and preview masking rules.

    A rule hides a field of the events of a topic from users and roles; super users see everything.
    """


def _print(rules: Sequence[MaskRuleJson], *, as_json: bool) -> None:
    print_list(rules, COLUMNS, _row, as_json=as_json, none="no masking rules")


def _row(rule: MaskRuleJson) -> tuple[object, ...]:
    pattern = "PREFIXED" if rule.prefixed else "LITERAL"
    principals, exempt = ",".join(rule.principals), ",".join(rule.exempt) or None
    return rule.rule, rule.topic, pattern, rule.path, rule.kind, principals, exempt


@command.command("list")
@access_options
@json_option
def list_rules(address: str, data: str | None, as_json: bool) -> None:
    """List the masking rules.

    Columns: rule, topic, pattern, path, kind, for whom, but not for whom.
    """

    async def work(access: AccessClient) -> Sequence[MaskRuleJson]:
        return await access.masking_rules()

    _print(with_access(address, data, work), as_json=as_json)


def rule_options(function: Any) -> Any:
    """Add the options that say what a rule masks to a command."""
    for option in (
        click.option(
            "--kind",
            type=click.Choice(KINDS),
            default="hidden",
            show_default=True,
            help="What is shown in the place of the value.",
        ),
        click.option(
            "--path",
            required=True,
            metavar="PATH",
            help="customer.card, *.pin, header.authorization, key; $ is the whole payload.",
        ),
    ):
        function = option(function)
    return function


@command.command("add")
@click.argument("name", metavar="RULE")
@click.option("--topic", required=True, metavar="NAME", help="The topic; * for every topic.")
@click.option("--prefixed", is_flag=True, help="The name is how names of topics begin.")
@rule_options
@click.option(
    "--for",
    "principals",
    multiple=True,
    default=("*",),
    metavar="PRINCIPAL",
    callback=principal_text,
    help="For whom: alice, Role:ops; may be repeated. Without: for everybody.",
)
@click.option(
    "--exempt",
    multiple=True,
    metavar="PRINCIPAL",
    callback=principal_text,
    help="Who of these sees the value all the same; may be repeated.",
)
@click.option("--replace", is_flag=True, help="Replace the rule of this name, if there is one.")
@access_options
@json_option
@click.option("--dry-run", is_flag=True, help="Only report what would be done.")
def add_rule(
    name: str, address: str, data: str | None, replace: bool, as_json: bool, dry_run: bool, **fields: Any
) -> None:
    """Add a masking rule. What is shown from then on is masked by it.

    Prints the rule as `list` does.
    """
    from mainstem.contract import InvalidArgument

    rule = _rule({"rule": name, **fields})

    async def work(access: AccessClient) -> MaskRuleJson:
        if not replace and any(known.rule == name for known in await access.masking_rules()):
            raise InvalidArgument(f"there is a masking rule {name!r} already; add --replace")
        return await access.put_masking_rule(rule, dry_run=dry_run)

    _print([with_access(address, data, work, may_make_folder=not dry_run)], as_json=as_json)
    click.echo(f"1 rule {'would be added' if dry_run else 'added'}", err=True)


def _rule(fields: dict[str, Any]) -> MaskRuleJson:
    import msgspec

    from mainstem.http_api.masking import MaskRuleJson

    try:
        rule = msgspec.convert(fields, MaskRuleJson)
        rule.parsed()
    except (msgspec.ValidationError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    return rule


@command.command("delete")
@click.argument("names", metavar="RULE...", nargs=-1, required=True)
@access_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only report what would be done.")
def delete_rules(names: tuple[str, ...], address: str, data: str | None, yes: bool, dry_run: bool) -> None:
    """Delete masking rules. What they masked is shown from then on."""

    async def delete(access: AccessClient, rule: str, dry: bool) -> None:
        await access.delete_masking_rule(rule, dry_run=dry)

    delete_each(address, data, names, delete, yes=yes, dry_run=dry_run)


@command.command("preview")
@click.argument("topic", metavar="TOPIC")
@rule_options
@click.option(
    "--events",
    type=click.IntRange(1, 20),
    default=EVENTS,
    show_default=True,
    help="How many of its newest events.",
)
@at_option
@json_option
def preview_rule(topic: str, address: str, as_json: bool, events: int, **fields: Any) -> None:
    """Show the newest events of a topic as a rule would show them. Nothing is changed.

    Columns: partition, offset, whether the rule masks something of the event, and its key, headers and value
    as they would be shown, as JSON. With --json each event is also there as you see it now.
    """
    from mainstem.cli.http_client import request_json
    from mainstem.cli.http_door import with_door
    from mainstem.cli.remote_access import RULES
    from mainstem.http_api.masking import MaskPreviewJson, MaskPreviewRequestJson

    rule = _rule({"rule": "preview", "topic": topic, **fields})
    body = MaskPreviewRequestJson(rule, topic, events)

    async def work(door: str) -> MaskPreviewJson:
        return await request_json(door, "POST", RULES + ":preview", body, MaskPreviewJson)

    rows = with_door(address, work).events
    if as_json:
        for row in rows:
            print_json(row)
        return
    if rows or not is_terminal():
        print_rows(PREVIEW_COLUMNS, [_preview_row(row) for row in rows])
    masked = sum(row.is_masked for row in rows)
    click.echo(f"{masked} of {plural(len(rows), 'event', 'events')} would be masked", err=True)


def _preview_row(row: MaskedEventJson) -> tuple[object, ...]:
    import msgspec

    event = row.masked
    parts = (event.key, event.headers or None, event.value)
    texts = [None if part is None else msgspec.json.encode(part).decode() for part in parts]
    return event.partition, event.offset, "yes" if row.is_masked else "no", *texts

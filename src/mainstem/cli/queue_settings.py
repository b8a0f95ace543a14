"""The settings of a subscription on the command line: how they are written, and the command that alters them.

Owns: the option `--config`, `mainstem queues alter`, and the lines that show a change. Refuses: to know the
ranges of settings; the server does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mainstem.cli.common import at_option, json_option, print_json, print_rows
from mainstem.cli.http_door import with_door
from mainstem.cli.push_options import push_options
from mainstem.printable import escape_controls
from mainstem.timespec import parse_duration_ms

if TYPE_CHECKING:
    from mainstem.http_api.subscriptions import SubscriptionDetailJson

AnyCommand = TypeVar("AnyCommand", bound=Callable[..., Any])


def _settings(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE pairs. A value that is JSON is this JSON, one of a setting in ms may be a duration, and any
    other one is text."""
    settings: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", ctx, param)
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = _duration_ms(name, value, ctx, param) if name.endswith("_ms") else value
    return settings


def _duration_ms(name: str, value: str, ctx: click.Context, param: click.Parameter) -> int:
    try:
        return parse_duration_ms(value)
    except ValueError as error:
        raise click.BadParameter(f"{name}: {error}, or a number of milliseconds", ctx, param) from None


def settings_option(command: AnyCommand) -> AnyCommand:
    """Decorate a command with `--config`. It gets `settings`, a dict."""
    option = click.option(
        "--config",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_settings,
        help="Another setting, such as lock_ms=60000 or ttl_ms=1h (docs/QUEUES.md); may be repeated.",
    )
    return option(command)


def checked_request(body: dict[str, Any], request_type: type[Any]) -> Any:
    """The request to create or change a subscription. click.UsageError: a value is invalid."""
    import msgspec

    from mainstem.cli.validation import invalid_value
    from mainstem.http_api.subscriptions import SubscriptionSettingsJson

    try:
        return msgspec.convert(body, request_type)
    except msgspec.ValidationError as error:
        raise click.UsageError(invalid_value(error, SubscriptionSettingsJson.__struct_fields__)) from None


@click.command("alter")
@click.argument("name", metavar="SUBSCRIPTION")
@at_option
@click.option("--topic", "topics", multiple=True, help="Read this topic, and no other; may be repeated.")
@click.option("--failures-max", type=click.IntRange(min=0), metavar="N", help="Give up after N failures.")
@click.option("--dead-letter-topic", metavar="TOPIC", help="Topic for events that are given up.")
@push_options
@click.option("--no-push", is_flag=True, help="Let consumers pull the events, in place of sending them.")
@settings_option
@click.option("--dry-run", is_flag=True, help="Only check the change, and show it.")
@json_option
def alter_queue(
    name: str,
    address: str,
    topics: tuple[str, ...],
    failures_max: int | None,
    dead_letter_topic: str | None,
    no_push: bool,
    settings: dict[str, Any],
    dry_run: bool,
    as_json: bool,
    **push: Any,
) -> None:
    """Change settings of a subscription, and show what has changed. What is not named stays.

    A setting is null to be without one (--config dead_letter_topic=null). Columns: setting, value before,
    value now.
    """
    given_push = {option: value for option, value in push.items() if value not in (None, {})}
    push_part = {option.removeprefix("push_"): value for option, value in given_push.items()}
    if no_push and push_part:
        raise click.UsageError("--no-push contradicts the other push options")
    named: dict[str, Any] = {"failures_max": failures_max, "dead_letter_topic": dead_letter_topic}
    given = {setting: value for setting, value in named.items() if value is not None} | settings
    if no_push or push_part:
        given["push"] = push_part or None
    if not given and not topics:
        raise click.UsageError("nothing to change: give --config NAME=VALUE or another option")
    body = {"settings": given, "dry_run": dry_run} | ({"topics": topics} if topics else {})

    async def work(door: str) -> tuple[SubscriptionDetailJson, SubscriptionDetailJson]:
        from mainstem.cli.http_client import door_client
        from mainstem.engines.remote.subscription_calls import SubscriptionCalls
        from mainstem.http_api.subscriptions import ChangedSubscriptionJson

        queues = SubscriptionCalls(door_client(door))
        request = checked_request(body, ChangedSubscriptionJson)
        return await queues.describe(name), await queues.alter(name, request)

    before, now = with_door(address, work)
    if as_json:
        print_json(now)
    else:
        print_rows(("setting", "before", "now"), _changes(before, now))
    if dry_run:
        click.echo("dry run: nothing was changed", err=True)
    elif not as_json:
        click.echo(f"altered {escape_controls(name)}", err=True)


def _changes(before: SubscriptionDetailJson, now: SubscriptionDetailJson) -> list[tuple[str, str, str]]:
    """(setting, value before, value now) of those that are others now."""
    old, new = _shown_settings(before), _shown_settings(now)
    names = dict.fromkeys((*old, *new))
    return [(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name)]


def _shown_settings(info: SubscriptionDetailJson) -> dict[str, str]:
    shown = {"topics": ",".join(info.topics)}
    for name in info.settings.__struct_fields__:
        if name != "push":
            shown[name] = _text(getattr(info.settings, name))
    push = info.settings.push
    if push:
        for name in push.__struct_fields__:
            if name != "secret":
                shown[f"push {name}"] = _text(getattr(push, name))
    return shown


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)

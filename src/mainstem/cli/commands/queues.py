"""The command `mainstem queues`: manages subscriptions, through the server's HTTP door.

Owns: its options and columns. Refuses: to move a subscription without `--execute` (seek), and to purge or
delete without a confirmation.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

from mainstem.cli.common import (
    at_option,
    confirm,
    is_terminal,
    json_option,
    plural,
    print_json,
    print_list,
    print_rows,
    style,
    tab_cell,
)
from mainstem.cli.http_door import with_door
from mainstem.cli.push_options import push_options, push_settings
from mainstem.cli.queue_events import COMMANDS
from mainstem.cli.queue_settings import alter_queue, checked_request, settings_option
from mainstem.printable import escape_controls
from mainstem.timespec import format_age

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mainstem.http_api.subscriptions import (
        BrowsedEventJson,
        SnapshotJson,
        SubscriptionDetailJson,
        SubscriptionJson,
    )

STATES = ("ready", "leased", "waiting", "parked", "dying")
DEPTHS = (*STATES, "ahead")
COUNTERS = (
    *("delivered", "redelivered", "acked", "nacked", "rejected", "expired", "failed"),
    *("dead_lettered", "dropped", "trimmed", "expiring", "unreadable"),
)


@click.group("queues")
def command() -> None:
    """List, create, describe, browse, move and delete subscriptions.

    The events of a subscription are acknowledged one by one; `mainstem work` does their work.
    """


@command.command("list")
@at_option
@json_option
def list_queues(address: str, as_json: bool) -> None:
    """List the subscriptions with how many of their events are in each state.

    Columns: subscription, ready, leased, waiting, parked, dying, ahead, topics.
    """

    async def work(door: str) -> Sequence[SubscriptionJson]:
        from mainstem.cli.http_client import door_client
        from mainstem.engines.remote.subscription_calls import SubscriptionCalls

        return [row async for row in SubscriptionCalls(door_client(door)).list()]

    columns = ("subscription", *DEPTHS, "topics")
    none = f"no subscriptions at {address}"
    print_list(with_door(address, work), columns, _row, as_json=as_json, none=none)


def _row(row: SubscriptionJson) -> tuple[object, ...]:
    return row.subscription, *(getattr(row.depth, state) for state in DEPTHS), ",".join(row.topics)


@command.command("create")
@click.argument("name", metavar="SUBSCRIPTION")
@at_option
@click.option("--topic", "topics", multiple=True, required=True, help="A topic to read; may be repeated.")
@click.option("--filter", "query", metavar="QUERY", help="Deliver only events that match (docs/SEARCH.md).")
@click.option(
    "--from",
    "start",
    type=click.Choice(("earliest", "latest")),
    default="earliest",
    show_default=True,
    help="Begin with the oldest events, or with those that are published from now on.",
)
@click.option(
    "--in-key-order",
    is_flag=True,
    help="Deliver events of the same key in their order, to one consumer at a time.",
)
@click.option("--failures-max", type=click.IntRange(min=1), metavar="N", help="Give up after N failures.")
@click.option("--dead-letter-topic", metavar="TOPIC", help="Topic for events that are given up.")
@push_options
@settings_option
def create_queue(
    name: str,
    address: str,
    topics: tuple[str, ...],
    query: str | None,
    start: str,
    in_key_order: bool,
    failures_max: int | None,
    dead_letter_topic: str | None,
    settings: dict[str, Any],
    **push: Any,
) -> None:
    """Create a subscription of one or more topics."""
    named: dict[str, Any] = {
        "filter": query,
        "failures_max": failures_max,
        "dead_letter_topic": dead_letter_topic,
        "push": push_settings(push),
    }
    given = {setting: value for setting, value in named.items() if value is not None}
    given |= {"from_latest": start == "latest", "in_key_order": in_key_order} | settings

    async def work(door: str) -> None:
        from mainstem.cli.http_client import door_client
        from mainstem.engines.remote.subscription_calls import SubscriptionCalls
        from mainstem.http_api.subscriptions import NewSubscriptionJson

        body = {"subscription": name, "topics": topics, "settings": given}
        request = checked_request(body, NewSubscriptionJson)
        await SubscriptionCalls(door_client(door)).create(request)

    with_door(address, work)
    click.echo(f"created {escape_controls(name)}")


@command.command("describe")
@click.argument("names", metavar="SUBSCRIPTION...", nargs=-1, required=True)
@at_option
@json_option
def describe_queues(names: tuple[str, ...], address: str, as_json: bool) -> None:
    """Show settings, depth by state, counters and consumers of subscriptions.

    In a pipe, the first column is the type of the line: `subscription` (name, topics, oldest outstanding
    event, its age in seconds), `depth` (subscription, state, events), `counter` (subscription, name, number),
    `setting` (subscription, name, value), `push` (subscription, name, value), `consumer` (subscription, name,
    events, deadline), `active` (subscription, name of the active consumer), `problem` (subscription, text).
    """

    async def work(door: str) -> list[SubscriptionDetailJson]:
        from mainstem.cli.http_client import door_client
        from mainstem.engines.remote.subscription_calls import SubscriptionCalls

        queues = SubscriptionCalls(door_client(door))
        return [await queues.describe(name) for name in names]

    for info in with_door(address, work):
        if as_json:
            print_json(info)
        elif is_terminal():
            _print_for_people(info)
        else:
            _print_for_programs(info)


def _settings_of(info: SubscriptionDetailJson) -> list[tuple[str, object]]:
    names = [name for name in info.settings.__struct_fields__ if name != "push"]
    return [(name, getattr(info.settings, name)) for name in names]


def _push_of(info: SubscriptionDetailJson) -> list[tuple[str, object]]:
    """Push settings, and how pushing goes, by name."""
    rows: list[tuple[str, object]] = []
    for part in (info.settings.push, info.push):
        if part:
            rows += [(name, getattr(part, name)) for name in part.__struct_fields__ if name != "secret"]
    return [(name, ",".join(value) if isinstance(value, dict) else value) for name, value in rows]


def _print_for_programs(info: SubscriptionDetailJson) -> None:
    name = info.subscription
    age_s = None if info.oldest_age_ms is None else f"{info.oldest_age_ms / 1000:.3f}"
    rows: list[tuple[object, ...]] = [("subscription", name, ",".join(info.topics), info.oldest, age_s)]
    rows += [("depth", name, state, getattr(info.depth, state)) for state in DEPTHS]
    rows += [("counter", name, counter, getattr(info, counter)) for counter in COUNTERS]
    rows += [("setting", name, setting, value) for setting, value in _settings_of(info)]
    rows += [("push", name, field, value) for field, value in _push_of(info)]
    rows += [("consumer", name, row.consumer, row.leased, row.deadline) for row in info.consumers]
    if info.active_consumer is not None:
        rows.append(("active", name, info.active_consumer))
    rows += [("problem", name, problem) for problem in info.problems]
    for row in rows:
        click.echo("\t".join(tab_cell(cell) for cell in row))


def _print_for_people(info: SubscriptionDetailJson) -> None:
    name = style(escape_controls(info.subscription), bold=True)
    oldest = "nothing outstanding"
    if info.oldest is not None:
        oldest = f"oldest {info.oldest}, {format_age(info.oldest_age_ms or 0)} ago"
    click.echo(f"{name}  of {', '.join(info.topics)}  {oldest}")
    for problem in info.problems:
        click.echo(f"  problem: {escape_controls(problem)}")
    print_rows(DEPTHS, [[getattr(info.depth, state) for state in DEPTHS]], indent="  ")
    headings = [counter.replace("_", " ") for counter in COUNTERS]
    print_rows(headings, [[getattr(info, counter) for counter in COUNTERS]], indent="  ")
    if info.active_consumer is not None:
        click.echo(f"  active consumer: {escape_controls(info.active_consumer)}")
    if info.consumers:
        rows = [(row.consumer, row.leased, row.deadline) for row in info.consumers]
        print_rows(("consumer", "events", "deadline"), rows, indent="  ")
    for field, value in _push_of(info):
        click.echo(escape_controls(f"  push {field:<15}  {'' if value is None else value}"))
    for setting, value in _settings_of(info):
        click.echo(style(escape_controls(f"  {setting:<17}  {value}"), dim=True))


def _position(ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    from mainstem.http_api.subscriptions import POSITION_PATTERN

    if text is not None and not re.fullmatch(POSITION_PATTERN, text):
        raise click.BadParameter(f"{text!r} is not topic/partition/offset", ctx, param)
    return text


def _snapshot_name(ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    from mainstem.http_api.subscriptions import SNAPSHOT_PATTERN

    if text is not None and not re.fullmatch(SNAPSHOT_PATTERN, text):
        expected = "1 to 249 letters, digits and the characters . _ -"
        raise click.BadParameter(f"{text!r} is no name of a snapshot: {expected}", ctx, param)
    return text


def _place_to_seek(ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    from mainstem.http_api.subscriptions import SEEK_PATTERN

    if text is not None and not re.fullmatch(SEEK_PATTERN, text):
        expected = "earliest, latest, a time (2013-06-01T12:00Z), an age (-10m) or topic/partition/offset"
        raise click.BadParameter(f"{text!r} is not {expected}", ctx, param)
    return text


@command.command("browse")
@click.argument("name", metavar="SUBSCRIPTION")
@at_option
@click.option("--state", type=click.Choice(STATES), help="Only events in this state.")
@click.option(
    "--after",
    metavar="POSITION",
    callback=_position,
    help="Only events after this one: topic/partition/offset.",
)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="N",
    help="Show at most N events.",
)
@click.option("--consumer", metavar="NAME", help="Only events that this consumer has.")
@json_option
def browse_queue(
    name: str,
    address: str,
    state: str | None,
    after: str | None,
    count: int,
    consumer: str | None,
    as_json: bool,
) -> None:
    """Show the outstanding events of a subscription, and why each is not delivered now. Changes nothing.

    Columns: topic, partition, offset, state, attempts, failures, why it is not delivered now, what a consumer
    said last, key, value.
    """

    async def work(door: str) -> list[BrowsedEventJson]:
        from mainstem.cli.http_client import door_client
        from mainstem.engines.remote.subscription_calls import SubscriptionCalls

        calls = SubscriptionCalls(door_client(door))
        return [event async for event in calls.browse(name, state, after, count, consumer)]

    events = with_door(address, work)
    from mainstem.cli.event_format import json_line, text_or_base64
    from mainstem.engines.remote.event_decoding import decode_event

    rows = []
    for browsed in events:
        event = decode_event(browsed.event)
        if as_json:
            fields: dict[str, object] = {"state": browsed.state, "attempts": browsed.attempts}
            fields["failures"] = browsed.failures
            fields |= {"why": browsed.why, "reason": browsed.reason}
            click.echo(f"{json.dumps(fields)[:-1]}, {json_line(event)[1:]}")
            continue
        key, value = text_or_base64(event.key)[0], text_or_base64(event.value)[0]
        place = (event.topic, event.partition, event.offset)
        tries = (browsed.state, browsed.attempts, browsed.failures)
        rows.append((*place, *tries, browsed.why or None, browsed.reason or None, key, value))
    if rows:
        headings = ("topic", "partition", "offset", "state", "attempts", "failures", "why", "reason")
        print_rows((*headings, "key", "value"), rows)


@command.command("seek")
@click.argument("name", metavar="SUBSCRIPTION")
@click.option(
    "--to",
    metavar="WHERE",
    callback=_place_to_seek,
    help="earliest, latest, a TIME (ISO 8601, UTC), an age such as -10m, or topic/partition/offset.",
)
@click.option(
    "--snapshot",
    metavar="NAME",
    callback=_snapshot_name,
    help="In place of --to: what was done when this snapshot was taken is done, all else is not.",
)
@click.option("--execute", is_flag=True, help="Make the change; without this option, only show it.")
@at_option
@json_option
def seek_queue(
    name: str, to: str | None, snapshot: str | None, execute: bool, address: str, as_json: bool
) -> None:
    """Let a subscription begin anew at another place. Shows the change; makes it with --execute.

    What comes before that place is done, and what follows is delivered as if it never was. Columns:
    subscription, events outstanding before, events from there on.
    """
    if (to is None) == (snapshot is None):
        raise click.UsageError("give --to WHERE or --snapshot NAME")

    async def work(door: str) -> tuple[int, int]:
        from mainstem.cli.http_client import door_client
        from mainstem.engines.remote.subscription_calls import SubscriptionCalls

        sought = await SubscriptionCalls(door_client(door)).seek(name, to, snapshot, dry_run=not execute)
        return sought.before, sought.events

    before, events = with_door(address, work)
    if as_json:
        print_json({"subscription": name, "before": before, "events": events, "done": execute})
    else:
        print_rows(("subscription", "before", "events"), [(name, before, events)])
    if not execute:
        click.echo("dry run: nothing was changed; add --execute to make the change", err=True)


@command.command("snapshot")
@click.argument("name", metavar="SUBSCRIPTION")
@click.argument("snapshot", metavar="[NAME]", required=False, callback=_snapshot_name)
@click.option("--delete", "deletes", is_flag=True, help="Delete the snapshot of this name.")
@at_option
@json_option
def snapshot_queue(name: str, snapshot: str | None, deletes: bool, address: str, as_json: bool) -> None:
    """Keep under a name which events of a subscription are done now; without a name, list the snapshots.

    `queues seek --snapshot NAME` goes back to it. Columns: snapshot, when it was taken, events that would
    follow a seek to it now.
    """
    if deletes and snapshot is None:
        raise click.UsageError("--delete needs the NAME of a snapshot")

    async def work(door: str) -> Sequence[SnapshotJson]:
        from mainstem.cli.http_client import door_client
        from mainstem.engines.remote.subscription_calls import SubscriptionCalls

        queues = SubscriptionCalls(door_client(door))
        if snapshot is None:
            return await queues.snapshots(name)
        if deletes:
            await queues.delete_snapshot(name, snapshot)
            return []
        return [await queues.take_snapshot(name, snapshot)]

    snapshots = with_door(address, work)
    if deletes:
        click.echo(f"deleted {escape_controls(snapshot or '')}")
    elif as_json:
        for row in snapshots:
            print_json(row)
    else:
        rows = [(row.snapshot, row.created, row.events) for row in snapshots]
        print_rows(("snapshot", "taken", "events"), rows)


@command.command("purge")
@click.argument("name", metavar="SUBSCRIPTION")
@at_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def purge_queue(name: str, address: str, yes: bool) -> None:
    """Let all outstanding events of a subscription be done. No event is deleted."""
    confirm(f"Let all events of {name} at {address} be done, those of its consumers included?", yes=yes)

    async def work(door: str) -> int:
        from mainstem.cli.http_client import door_client
        from mainstem.engines.remote.subscription_calls import SubscriptionCalls

        return (await SubscriptionCalls(door_client(door)).purge(name, dry_run=False)).events

    click.echo(f"purged {escape_controls(name)}: {plural(with_door(address, work), 'event', 'events')}")


@command.command("delete")
@click.argument("names", metavar="SUBSCRIPTION...", nargs=-1, required=True)
@at_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def delete_queues(names: tuple[str, ...], address: str, yes: bool) -> None:
    """Delete subscriptions with what they know. No event is deleted."""
    confirm(f"Delete {', '.join(names)} at {address}?", yes=yes)

    async def work(door: str) -> None:
        from mainstem.cli.http_client import door_client
        from mainstem.engines.remote.subscription_calls import SubscriptionCalls

        for name in names:
            await SubscriptionCalls(door_client(door)).delete(name)
            click.echo(f"deleted {escape_controls(name)}")

    with_door(address, work)


for chosen in (alter_queue, *COMMANDS):
    command.add_command(chosen)

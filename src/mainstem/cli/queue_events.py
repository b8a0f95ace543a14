"""The commands of `mainstem queues` that change chosen events: redrive, wake, cancel.

Owns: their options, and how events are named. Refuses: to cancel without a confirmation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import click

from mainstem.cli.common import at_option, confirm, plural
from mainstem.cli.http_door import with_door
from mainstem.cli.search_options import time_of_option
from mainstem.printable import escape_controls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mainstem.http_api.subscriptions import CancelJson, RedriveJson, WakeJson

Request = TypeVar("Request", "RedriveJson", "WakeJson", "CancelJson")


@click.command("redrive")
@click.argument("name", metavar="SUBSCRIPTION")
@click.argument("positions", metavar="[POSITION]...", nargs=-1)
@at_option
@click.option(
    "--all", "every", is_flag=True, help="All events whose dead letters are in the dead-letter topic."
)
@click.option(
    "--since",
    "since_ms",
    metavar="T",
    callback=time_of_option,
    help="With --all: only dead letters from this time on (UTC), or of this age (2d, 1h30m) and newer.",
)
@click.option(
    "--again",
    is_flag=True,
    help="With --all: also events that were redriven before, and not given up since.",
)
@click.option(
    "--rate",
    "per_s",
    type=click.FloatRange(0.01, 100_000),
    metavar="N",
    help="Deliver N events a second; the later ones wait in the subscription.",
)
@click.option("--dry-run", is_flag=True, help="Only count the events.")
def redrive_queue(
    name: str,
    positions: tuple[str, ...],
    address: str,
    every: bool,
    since_ms: int | None,
    again: bool,
    per_s: float | None,
    dry_run: bool,
) -> None:
    """Deliver dead letters of a subscription again, to it alone. No event is copied.

    POSITION is that of the event in the subscription's topic: topic/partition/offset.
    """
    _check_choice(positions, every)
    if since_ms is not None and not every:
        raise click.UsageError("--since is for --all")
    if again and not every:
        raise click.UsageError("--again is for --all; events that are named are redriven in any case")
    places = _places(positions)

    async def work(door: str) -> int:
        from mainstem.cli.http_client import door_client
        from mainstem.engines.remote.subscription_calls import SubscriptionCalls
        from mainstem.http_api.subscriptions import RedriveJson

        body = {"positions": places, "since_ms": since_ms, "again": again, "per_s": per_s, "dry_run": dry_run}
        return (await SubscriptionCalls(door_client(door)).redrive(name, _request(body, RedriveJson))).events

    events = plural(with_door(address, work), "event", "events")
    click.echo(f"{'would redrive' if dry_run else 'redrove'} {events}")


@click.command("wake")
@click.argument("name", metavar="SUBSCRIPTION")
@click.argument("positions", metavar="[POSITION]...", nargs=-1)
@at_option
@click.option("--all", "every", is_flag=True, help="All events that wait.")
@click.option("--dry-run", is_flag=True, help="Only count the events.")
def wake_events(name: str, positions: tuple[str, ...], address: str, every: bool, dry_run: bool) -> None:
    """Deliver events of a subscription now that wait for a time.

    POSITION is topic/partition/offset, as `mainstem queues browse --state waiting` shows it.
    """
    _check_choice(positions, every)
    places = _places(positions)

    async def work(door: str) -> int:
        from mainstem.cli.http_client import door_client
        from mainstem.engines.remote.subscription_calls import SubscriptionCalls
        from mainstem.http_api.subscriptions import WakeJson

        request = _request({"positions": places, "dry_run": dry_run}, WakeJson)
        return (await SubscriptionCalls(door_client(door)).change_events(name, "wake", request)).events

    events = plural(with_door(address, work), "event", "events")
    click.echo(f"{'would wake' if dry_run else 'woke'} {events}")


@click.command("cancel")
@click.argument("name", metavar="SUBSCRIPTION")
@click.argument("positions", metavar="[POSITION]...", nargs=-1)
@at_option
@click.option("--all", "every", is_flag=True, help="All events that wait.")
@click.option("--dry-run", is_flag=True, help="Only count the events.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def cancel_events(
    name: str, positions: tuple[str, ...], address: str, every: bool, dry_run: bool, yes: bool
) -> None:
    """Let events of a subscription be done without delivering them, if no consumer has them.

    No event is deleted, and redrive brings them back. POSITION is topic/partition/offset.
    """
    _check_choice(positions, every)
    places = _places(positions)
    if not dry_run:
        which = "all events that wait" if every else plural(len(positions), "event", "events")
        confirm(f"Cancel {which} of {escape_controls(name)} at {address}?", yes=yes)

    async def work(door: str) -> int:
        from mainstem.cli.http_client import door_client
        from mainstem.engines.remote.subscription_calls import SubscriptionCalls
        from mainstem.http_api.subscriptions import CancelJson

        request = _request({"positions": places, "dry_run": dry_run}, CancelJson)
        return (await SubscriptionCalls(door_client(door)).change_events(name, "cancel", request)).events

    events = plural(with_door(address, work), "event", "events")
    click.echo(f"{'would cancel' if dry_run else 'cancelled'} {events}")


COMMANDS = (redrive_queue, wake_events, cancel_events)


def _check_choice(positions: Sequence[str], every: bool) -> None:
    if every == bool(positions):
        raise click.UsageError("name the events, or give --all")


def _request(body: Mapping[str, object], request_type: type[Request]) -> Request:
    import msgspec

    try:
        return msgspec.convert(body, request_type)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from None


def _places(texts: Sequence[str]) -> list[dict[str, object]] | None:
    return [_place(text) for text in texts] or None


def _place(text: str) -> dict[str, object]:
    from mainstem.http_api.subscriptions import POSITION_PATTERN

    if not re.fullmatch(POSITION_PATTERN, text):
        raise click.BadParameter(f"{text!r} is not topic/partition/offset", param_hint="POSITION")
    topic, partition, offset = text.split("/")
    return {"topic": topic, "partition": int(partition), "offset": int(offset)}

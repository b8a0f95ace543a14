"""`mainstem groups`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from mainstem.cli.common import (
    at_option,
    confirm,
    is_terminal,
    json_option,
    print_json,
    print_rows,
    style,
    tab_cell,
    with_engine,
)
from mainstem.timespec import format_age, parse_start_point

if TYPE_CHECKING:
    from mainstem.contract import Engine, GroupInfo, Position


@click.group("groups")
def command() -> None:
    """List, describe, reset and delete consumer groups."""


@command.command("list")
@at_option
@json_option
def list_groups(at: str, as_json: bool) -> None:
    """List the consumer groups.

    Columns: group, state.
    """
    found = with_engine(at, lambda engine: engine.groups())
    if as_json:
        for each in found:
            print_json({"group": each.name, "state": each.state})
    elif found or not is_terminal():
        print_rows(("group", "state"), [(each.name, each.state) for each in found])
    else:
        click.echo(f"no consumer groups at {at}", err=True)


@command.command("describe")
@click.argument("names", metavar="GROUP...", nargs=-1, required=True)
@at_option
@json_option
def describe_groups(names: tuple[str, ...], at: str, as_json: bool) -> None:
    """Show how far groups have read, how far they are behind, and their members.

    Lag is in events, and in time: how long ago the next unread event happened, by its own timestamp. In a
    pipe, the first column says what a line is: `group` (name, state, assignor), `position` (group, topic,
    partition, offset, end, lag, lag in seconds, member), `member` (group, member id, client id, host,
    partitions).
    """

    async def work(engine: Engine) -> list[GroupInfo]:
        return [await engine.group(name) for name in names]

    for info in with_engine(at, work):
        if as_json:
            print_json(info)
        elif is_terminal():
            _show(info)
        else:
            _print(info)


def _readers(info: GroupInfo) -> dict[tuple[str, int], str]:
    return {at: member.client_id for member in info.members for at in member.assigned}


def _print(info: GroupInfo) -> None:
    readers = _readers(info)
    rows: list[tuple[object, ...]] = [("group", info.name, info.state, info.assignor)]
    for at in info.positions:
        lag_s = None if at.lag_ms is None else f"{at.lag_ms / 1000:.3f}"
        reader = readers.get((at.topic, at.partition))
        rows.append(("position", info.name, at.topic, at.partition, at.offset, at.end, at.lag, lag_s, reader))
    for member in info.members:
        assigned = ",".join(f"{topic}:{partition}" for topic, partition in member.assigned)
        rows.append(("member", info.name, member.id, member.client_id, member.host, assigned))
    for row in rows:
        click.echo("\t".join(tab_cell(cell) for cell in row))


def _show(info: GroupInfo) -> None:
    lag = sum(at.lag or 0 for at in info.positions)
    told = f"{lag:,} events behind" if lag else "nothing unread"
    click.echo(f"{style(info.name, bold=True)}  {info.state}  {told if info.positions else 'no positions'}")
    readers = _readers(info)
    if info.positions:
        rows = [
            (
                at.topic,
                at.partition,
                at.offset,
                at.end,
                at.lag,
                None if at.lag_ms is None else format_age(at.lag_ms) if at.lag else None,
                readers.get((at.topic, at.partition)),
            )
            for at in info.positions
        ]
        print_rows(("topic", "partition", "position", "end", "lag", "behind", "member"), rows, indent="  ")
    for member in info.members:
        assigned = ", ".join(f"{topic} {partition}" for topic, partition in member.assigned) or "nothing"
        host = member.host.removeprefix("/")  # Kafka writes one
        click.echo(style(f"  member {member.client_id} at {host}: {assigned}", dim=True))


@command.command("reset")
@click.argument("name", metavar="GROUP")
@click.option(
    "--to",
    required=True,
    metavar="WHERE",
    help="earliest, latest, an OFFSET, a TIME (ISO 8601, UTC) or -10m.",
)
@click.option("--topic", "topics", multiple=True, help="Only this topic; needed for one it has not read yet.")
@click.option("--execute", is_flag=True, help="Do it; without it, only shown.")
@at_option
@json_option
def reset_group(name: str, to: str, topics: tuple[str, ...], execute: bool, at: str, as_json: bool) -> None:
    """Set how far a group has read. Shows what it would do; does it with --execute.

    The group must have no members. Columns: topic, partition, old offset, new offset.
    """
    try:
        moment = parse_start_point(to, time.time_ns() // 1_000_000)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--to") from None

    from mainstem.cli.commands.tail import resolve_offset
    from mainstem.contract import Position, StreamError, UnknownGroup

    async def work(engine: Engine) -> list[tuple[Position, int | None]]:
        try:
            known = {
                (each.topic, each.partition): each.offset for each in (await engine.group(name)).positions
            }
        except UnknownGroup:
            if not topics:
                raise
            known = {}
        wanted = [at for at in known if not topics or at[0] in topics]
        for topic in topics or {topic for topic, _ in known}:
            wanted += [(topic, each) for each in range(await engine.partitions(topic))]
        changes = [
            (Position(*at, await resolve_offset(engine, at, moment)), known.get(at))
            for at in sorted(set(wanted))
        ]
        if not changes:
            raise StreamError(f"group {name} has no positions; name a topic with --topic")
        if execute:
            await engine.set_positions(name, [position for position, _ in changes])
        return changes

    rows = with_engine(at, work)
    if as_json:
        for new, old in rows:
            print_json(
                {
                    "topic": new.topic,
                    "partition": new.partition,
                    "old": old,
                    "new": new.offset,
                    "done": execute,
                }
            )
    else:
        shown = [(new.topic, new.partition, old, new.offset) for new, old in rows]
        print_rows(("topic", "partition", "from", "to"), shown)
    if not execute:
        click.echo("dry run: nothing was changed; add --execute to do it", err=True)


@command.command("delete")
@click.argument("names", metavar="GROUP...", nargs=-1, required=True)
@at_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_groups(names: tuple[str, ...], at: str, yes: bool) -> None:
    """Delete groups with their positions. They must have no members."""
    confirm(f"Delete {', '.join(names)} with all positions at {at}?", yes=yes)

    async def work(engine: Engine) -> None:
        for name in names:
            await engine.delete_group(name)
            click.echo(f"deleted {name}")

    with_engine(at, work)

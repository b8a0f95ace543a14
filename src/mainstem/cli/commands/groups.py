"""The command `mainstem groups`: lists, describes, resets and deletes consumer groups.

Owns: its options and columns. Refuses: changing a group without `--execute` (reset) or a confirmation
(delete).
"""

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
    print_list,
    print_rows,
    style,
    tab_cell,
    with_engine,
)
from mainstem.cli.offsets import check_offset
from mainstem.printable import escape_controls
from mainstem.start_offset import resolve_offset
from mainstem.timespec import format_age, parse_start_point

if TYPE_CHECKING:
    from mainstem.contract import Engine, GroupInfo, MemberInfo, Position


@click.group("groups")
def command() -> None:
    """List, describe, reset and delete consumer groups."""


@command.command("list")
@at_option
@json_option
def list_groups(address: str, as_json: bool) -> None:
    """List the consumer groups and share groups.

    Columns: group, state, type (consumer; share; others, as of Kafka Connect; empty if it has positions
    only).
    """
    groups = with_engine(address, lambda engine: engine.groups())
    rows = [{"group": group.name, "state": group.state, "type": group.protocol_type} for group in groups]
    none = f"no consumer groups at {address}"
    print_list(rows, ("group", "state", "type"), lambda row: tuple(row.values()), as_json=as_json, none=none)


@command.command("describe")
@click.argument("names", metavar="[GROUP]...", nargs=-1)
@at_option
@json_option
def describe_groups(names: tuple[str, ...], address: str, as_json: bool) -> None:
    """Show the positions of groups, how far they are behind, and their members. Without GROUP: of all groups.

    The lag is given in events and in time: how long ago the next unread event happened, by its timestamp. In
    a pipe, the first column is the type of the line: `group` (name, state, assignor), `position` (group,
    topic, partition, offset, end, lag, lag in seconds, member), `member` (group, member id, client id, host,
    partitions, or that its assignment cannot be read). Groups of Kafka Connect and of schema registries have
    members without partitions.
    """

    async def work(engine: Engine) -> list[GroupInfo]:
        return [await engine.group(name) for name in names or [group.name for group in await engine.groups()]]

    for info in with_engine(address, work):
        if as_json:
            print_json(info)
        elif is_terminal():
            _print_for_people(info)
        else:
            _print_for_programs(info)


def _client_ids(info: GroupInfo) -> dict[tuple[str, int], str]:
    """The client id of the member to which each (topic, partition) is assigned."""
    return {partition: member.client_id for member in info.members for partition in member.assigned}


def _undecoded(info: GroupInfo, member: MemberInfo) -> str:
    """What is said instead of a member's partitions if its assignment is not Kafka's; empty if it is."""
    from mainstem.engines.group_members import CONSUMER_PROTOCOLS

    if not member.undecoded_bytes:
        return ""
    if info.protocol_type in CONSUMER_PROTOCOLS:
        return f"assignment cannot be read: {member.undecoded_bytes} bytes"
    return f"assignment of protocol {info.protocol_type}: {member.undecoded_bytes} bytes"


def _print_for_programs(info: GroupInfo) -> None:
    client_ids = _client_ids(info)
    rows: list[tuple[object, ...]] = [("group", info.name, info.state, info.assignor)]
    for p in info.positions:
        lag_s = None if p.lag_ms is None else f"{p.lag_ms / 1000:.3f}"
        client_id = client_ids.get((p.topic, p.partition))
        rows.append(("position", info.name, p.topic, p.partition, p.offset, p.end, p.lag, lag_s, client_id))
    for member in info.members:
        assigned = _undecoded(info, member) or ",".join(
            f"{topic}:{partition}" for topic, partition in member.assigned
        )
        rows.append(("member", info.name, member.id, member.client_id, member.host, assigned))
    for row in rows:
        click.echo("\t".join(tab_cell(cell) for cell in row))


def _print_for_people(info: GroupInfo) -> None:
    lag = sum(position.lag or 0 for position in info.positions)
    summary = f"{lag:,} events behind" if lag else "nothing unread" if info.positions else "no positions"
    click.echo(f"{style(escape_controls(info.name), bold=True)}  {info.state}  {summary}")
    client_ids = _client_ids(info)
    if info.positions:
        rows = [
            (
                position.topic,
                position.partition,
                position.offset,
                position.end,
                position.lag,
                None if position.lag_ms is None or not position.lag else format_age(position.lag_ms),
                client_ids.get((position.topic, position.partition)),
            )
            for position in info.positions
        ]
        print_rows(("topic", "partition", "position", "end", "lag", "behind", "member"), rows, indent="  ")
    for member in info.members:
        partitions = ", ".join(f"{topic} {partition}" for topic, partition in member.assigned) or "nothing"
        host = member.host.removeprefix("/")  # as Kafka reports it
        line = f"member {member.client_id} at {host}: {_undecoded(info, member) or partitions}"
        click.echo(style(f"  {escape_controls(line)}", dim=True))


@command.command("reset")
@click.argument("name", metavar="GROUP")
@click.option(
    "--to",
    required=True,
    metavar="WHERE",
    help="earliest, latest, an OFFSET, a TIME (ISO 8601, UTC) or an age such as -10m.",
)
@click.option(
    "--topic", "topics", multiple=True, help="Only this topic; required for one that it has not read yet."
)
@click.option("--execute", is_flag=True, help="Make the changes; without this option, only show them.")
@at_option
@json_option
def reset_group(
    name: str, to: str, topics: tuple[str, ...], execute: bool, address: str, as_json: bool
) -> None:
    """Set where a group continues to read. Shows the changes; makes them with --execute.

    The group must have no members. Columns: topic, partition, old offset, new offset.
    """
    try:
        start_point = parse_start_point(to, time.time_ns() // 1_000_000)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--to") from None

    from mainstem.contract import Position, StreamError, UnknownGroup

    async def work(engine: Engine) -> list[tuple[Position, int | None]]:
        try:
            positions = (await engine.group(name)).positions
        except UnknownGroup:
            if not topics:
                raise
            positions = ()
        old_offsets = {(position.topic, position.partition): position.offset for position in positions}
        partitions = {partition for partition in old_offsets if not topics or partition[0] in topics}
        for topic in topics or {topic for topic, _ in old_offsets}:
            partitions |= {(topic, partition) for partition in range(await engine.partitions(topic))}
        await check_offset(engine, "--to", start_point, partitions)
        changes = []
        for topic, partition in sorted(partitions):
            new_offset = await resolve_offset(engine, topic, partition, start_point)
            changes.append((Position(topic, partition, new_offset), old_offsets.get((topic, partition))))
        if not changes:
            raise StreamError(f"group {name} has no positions; name a topic with --topic")
        if execute:
            await engine.set_positions(name, [position for position, _ in changes])
        return changes

    changes = with_engine(address, work)
    if as_json:
        for new, old in changes:
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
        rows = [(new.topic, new.partition, old, new.offset) for new, old in changes]
        print_rows(("topic", "partition", "from", "to"), rows)
    if not execute:
        click.echo("dry run: nothing was changed; add --execute to make the changes", err=True)


@command.command("delete")
@click.argument("names", metavar="GROUP...", nargs=-1, required=True)
@at_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def delete_groups(names: tuple[str, ...], address: str, yes: bool) -> None:
    """Delete groups with their positions. They must have no members."""
    confirm(f"Delete {', '.join(names)} with all positions at {address}?", yes=yes)

    async def work(engine: Engine) -> None:
        for name in names:
            await engine.delete_group(name)
            click.echo(f"deleted {escape_controls(name)}")

    with_engine(address, work)

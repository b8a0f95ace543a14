"""The command `mainstem topics`: lists, creates, describes, alters and deletes topics.

Owns: its options and columns. Refuses: deleting a topic without a confirmation (`--yes` is one).
"""

from __future__ import annotations

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
from mainstem.printable import escape_controls

if TYPE_CHECKING:
    from mainstem.contract import Engine, TopicInfo


def _settings(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    """Parse options of the form `NAME=VALUE`."""
    settings: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", ctx, param)
        settings[name] = value
    return settings


@click.group("topics")
def command() -> None:
    """List, create, describe, alter and delete topics."""


@command.command("list")
@at_option
@json_option
@click.option("--internal", is_flag=True, help="Include the server's internal topics.")
def list_topics(address: str, as_json: bool, internal: bool) -> None:
    """List the topics.

    Columns: topic, partitions, events.
    """
    topics = with_engine(address, lambda engine: engine.topics(internal=internal))
    rows = [{"topic": topic.name, "partitions": topic.partitions, "events": topic.events} for topic in topics]
    none = f"no topics at {address}; create one: mainstem topics create NAME"
    print_list(
        rows, ("topic", "partitions", "events"), lambda row: tuple(row.values()), as_json=as_json, none=none
    )


@command.command("create")
@click.argument("name", metavar="TOPIC")
@at_option
@click.option(
    "--partitions", type=click.IntRange(min=1), help="Number of partitions; by default, the server's default."
)
@click.option(
    "--config", "settings", multiple=True, metavar="NAME=VALUE", callback=_settings, help="A setting."
)
def create_topic(name: str, address: str, partitions: int | None, settings: dict[str, str]) -> None:
    """Create a topic."""
    with_engine(address, lambda engine: engine.create_topic(name, partitions=partitions, settings=settings))
    click.echo(f"created {escape_controls(name)}")


@command.command("describe")
@click.argument("names", metavar="[TOPIC]...", nargs=-1)
@at_option
@json_option
def describe_topics(names: tuple[str, ...], address: str, as_json: bool) -> None:
    """Show partitions and settings of topics. Without TOPIC: of all topics but the server's internal ones.

    In a pipe, the first column is the type of the line: `topic` (name, id), `partition` (topic, partition,
    first offset, end offset, events, leader), `setting` (topic, name, value, `set` or `default`).
    """

    async def work(engine: Engine) -> list[TopicInfo]:
        return [await engine.topic(name) for name in names or [topic.name for topic in await engine.topics()]]

    for info in with_engine(address, work):
        if as_json:
            print_json(info)
        elif is_terminal():
            _print_for_people(info)
        else:
            _print_for_programs(info)


def _print_for_programs(info: TopicInfo) -> None:
    click.echo("\t".join(("topic", info.name, info.id)))
    rows: list[tuple[object, ...]] = [
        ("partition", info.name, p.partition, p.begin, p.end, p.end - p.begin, p.leader)
        for p in info.partitions
    ]
    rows += [
        ("setting", info.name, setting.name, setting.value, "default" if setting.is_default else "set")
        for setting in info.settings
    ]
    for row in rows:
        click.echo("\t".join(tab_cell(cell) for cell in row))


def _print_for_people(info: TopicInfo) -> None:
    events = sum(partition.end - partition.begin for partition in info.partitions)
    name = style(escape_controls(info.name), bold=True)
    click.echo(f"{name}  {events:,} events  {style('id ' + info.id, dim=True)}")
    rows = [(p.partition, p.begin, p.end, p.end - p.begin, p.leader) for p in info.partitions]
    print_rows(("partition", "first", "end", "events", "leader"), rows, indent="  ")
    width = max((len(setting.name) for setting in info.settings), default=0)
    for setting in sorted(info.settings, key=lambda setting: setting.is_default):
        line = escape_controls(f"  {setting.name:<{width}}  {setting.value}")
        click.echo(style(f"{line}  (default)", dim=True) if setting.is_default else line)


@command.command("alter")
@click.argument("name", metavar="TOPIC")
@at_option
@click.option(
    "--partitions", type=click.IntRange(min=1), help="Increase the number of partitions to this total."
)
@click.option(
    "--config",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_settings,
    help="Change a setting; NAME= resets it to its default.",
)
def alter_topic(name: str, address: str, partitions: int | None, settings: dict[str, str]) -> None:
    """Change settings, or add partitions."""
    if partitions is None and not settings:
        raise click.UsageError("nothing to change: give --partitions or --config")

    async def work(engine: Engine) -> None:
        if settings:
            await engine.alter_topic(name, {key: value or None for key, value in settings.items()})
        if partitions is not None:
            await engine.add_partitions(name, partitions)

    with_engine(address, work)
    click.echo(f"altered {escape_controls(name)}")


@command.command("delete")
@click.argument("names", metavar="TOPIC...", nargs=-1, required=True)
@at_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def delete_topics(names: tuple[str, ...], address: str, yes: bool) -> None:
    """Delete topics with all their events."""
    confirm(f"Delete {', '.join(names)} with all events at {address}?", yes=yes)

    async def work(engine: Engine) -> None:
        for name in names:
            await engine.delete_topic(name)
            click.echo(f"deleted {escape_controls(name)}")

    with_engine(address, work)

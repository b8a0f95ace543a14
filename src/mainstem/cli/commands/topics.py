"""`mainstem topics`."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from mainstem.contract import Engine, TopicInfo


def _settings(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """`k=v` options as a mapping."""
    found: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{each!r} is not NAME=VALUE", ctx, param)
        found[name] = value
    return found


@click.group("topics")
def command() -> None:
    """List, create, describe, alter and delete topics."""


@command.command("list")
@at_option
@json_option
@click.option("--internal", is_flag=True, help="Show the server's own topics too.")
def list_topics(at: str, as_json: bool, internal: bool) -> None:
    """List the topics.

    Columns: topic, partitions, events.
    """
    found = with_engine(at, lambda engine: engine.topics(internal=internal))
    if as_json:
        for each in found:
            print_json({"topic": each.name, "partitions": each.partitions, "events": each.events})
    elif found or not is_terminal():
        print_rows(
            ("topic", "partitions", "events"), [(each.name, each.partitions, each.events) for each in found]
        )
    else:
        click.echo(f"no topics at {at}; make one: mainstem topics create NAME", err=True)


@command.command("create")
@click.argument("name", metavar="TOPIC")
@at_option
@click.option("--partitions", type=click.IntRange(min=1), help="How many; the server's default otherwise.")
@click.option(
    "--config", "settings", multiple=True, metavar="NAME=VALUE", callback=_settings, help="A setting."
)
def create_topic(name: str, at: str, partitions: int | None, settings: dict[str, str]) -> None:
    """Create a topic."""
    with_engine(at, lambda engine: engine.create_topic(name, partitions=partitions, settings=settings))
    click.echo(f"created {name}")


@command.command("describe")
@click.argument("names", metavar="TOPIC...", nargs=-1, required=True)
@at_option
@json_option
def describe_topics(names: tuple[str, ...], at: str, as_json: bool) -> None:
    """Show partitions and settings of topics.

    In a pipe, the first column says what a line is: `topic` (name, id), `partition` (topic, partition,
    first offset, end offset, events, leader), `setting` (topic, name, value, `set` or `default`).
    """

    async def work(engine: Engine) -> list[TopicInfo]:
        return [await engine.topic(name) for name in names]

    for info in with_engine(at, work):
        if as_json:
            print_json(info)
        elif is_terminal():
            _show(info)
        else:
            _print(info)


def _print(info: TopicInfo) -> None:
    click.echo("\t".join(("topic", info.name, info.id)))
    rows: list[tuple[object, ...]] = [
        ("partition", info.name, each.partition, each.begin, each.end, each.end - each.begin, each.leader)
        for each in info.partitions
    ]
    rows += [
        ("setting", info.name, each.name, each.value, "default" if each.is_default else "set")
        for each in info.settings
    ]
    for row in rows:
        click.echo("\t".join(tab_cell(cell) for cell in row))


def _show(info: TopicInfo) -> None:
    events = sum(each.end - each.begin for each in info.partitions)
    click.echo(f"{style(info.name, bold=True)}  {events:,} events  {style('id ' + info.id, dim=True)}")
    rows = [(p.partition, p.begin, p.end, p.end - p.begin, p.leader) for p in info.partitions]
    print_rows(("partition", "first", "end", "events", "leader"), rows, indent="  ")
    width = max((len(each.name) for each in info.settings), default=0)
    for each in sorted(info.settings, key=lambda setting: setting.is_default):
        line = f"  {each.name:<{width}}  {each.value}"
        click.echo(style(f"{line}  (default)", dim=True) if each.is_default else line)


@command.command("alter")
@click.argument("name", metavar="TOPIC")
@at_option
@click.option("--partitions", type=click.IntRange(min=1), help="Raise the number of partitions to this.")
@click.option(
    "--config",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_settings,
    help="Change a setting; NAME= puts it back to its default.",
)
def alter_topic(name: str, at: str, partitions: int | None, settings: dict[str, str]) -> None:
    """Change settings, or add partitions."""
    if partitions is None and not settings:
        raise click.UsageError("nothing to change: give --partitions or --config")

    async def work(engine: Engine) -> None:
        if settings:
            await engine.alter_topic(name, {key: value or None for key, value in settings.items()})
        if partitions is not None:
            await engine.add_partitions(name, partitions)

    with_engine(at, work)
    click.echo(f"altered {name}")


@command.command("delete")
@click.argument("names", metavar="TOPIC...", nargs=-1, required=True)
@at_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_topics(names: tuple[str, ...], at: str, yes: bool) -> None:
    """Delete topics with all their events."""
    confirm(f"Delete {', '.join(names)} with all events at {at}?", yes=yes)

    async def work(engine: Engine) -> None:
        for name in names:
            await engine.delete_topic(name)
            click.echo(f"deleted {name}")

    with_engine(at, work)

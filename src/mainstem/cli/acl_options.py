"""Options of `mainstem acls` that name resources, operations and principals.

Owns: these options and what they mean; a name without a type is a user. Refuses: words that Kafka's access
control does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

CLUSTER = "kafka-cluster"
RESOURCES = {
    "topic": "TOPIC",
    "group": "GROUP",
    "transactional_id": "TRANSACTIONAL_ID",
    "user_principal": "USER",
    "subscription": "SUBSCRIPTION",
    "exchange": "EXCHANGE",
    "mqtt_filter": "MQTT_FILTER",
}
"""Option -> type of resource."""
OPERATIONS = (
    *("read", "write", "create", "delete", "alter", "describe", "cluster-action", "describe-configs"),
    *("alter-configs", "idempotent-write", "create-tokens", "describe-tokens", "two-phase-commit"),
)


def resource_options(command: F) -> F:
    """Add an option for each type of resource, which may be repeated, and `--cluster`."""
    command = click.option("--cluster", is_flag=True, help="The cluster itself.")(command)
    for name in reversed(RESOURCES):
        flag = "--" + name.replace("_", "-")
        text = f"A {name.replace('_', ' ')}; * for each of them; may be repeated."
        command = click.option(flag, name, multiple=True, metavar="NAME", help=text)(command)
    return command


def resources_of(options: dict[str, Any]) -> list[tuple[str, str]]:
    """The resources that the options name: (type, name)."""
    named = [(kind, name) for option, kind in RESOURCES.items() for name in options[option]]
    return [*named, *([("CLUSTER", CLUSTER)] if options["cluster"] else [])]


def operation_words(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """The words of operations, which may be separated by commas; `all` is every operation."""
    return tuple(_words(ctx, param, texts))


def _words(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> Iterator[str]:
    known = {word.replace("-", "_").upper(): word for word in (*OPERATIONS, "all")}
    for text in texts:
        for part in text.split(","):
            word = part.strip().replace("-", "_").upper()
            if word not in known:
                raise click.BadParameter(f"{part!r} is not one of {', '.join(known.values())}", ctx, param)
            yield word


def principal_text(
    ctx: click.Context, param: click.Parameter, given: str | tuple[str, ...] | None
) -> str | tuple[str, ...] | None:
    """TYPE:NAME of each principal; a name alone is that of a user."""
    if given is None:
        return None
    if isinstance(given, tuple):
        return tuple(_principal(ctx, param, text) for text in given)
    return _principal(ctx, param, given)


def _principal(ctx: click.Context, param: click.Parameter, text: str) -> str:
    kind, colon, name = text.partition(":")
    if not colon:
        kind, name = "User", text
    if not kind or not name:
        raise click.BadParameter(f"{text!r} is neither a user nor TYPE:NAME", ctx, param)
    return f"{kind}:{name}"

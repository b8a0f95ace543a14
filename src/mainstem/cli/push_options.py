"""The options of `mainstem queues create` that let the server push events.

Owns: their names and how they become settings. Refuses: secrets on the command line, which other users of the
machine can read: they are in files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from mainstem.queues.push_settings import PAYLOADS
from mainstem.timespec import parse_duration_ms

AnyCommand = TypeVar("AnyCommand", bound=Callable[..., Any])


def _deadline(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    try:
        return None if text is None else parse_duration_ms(text)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def _headers(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    lines: list[str] = []
    for text in texts:
        if text.startswith("@"):
            lines += [line for line in _read(text[1:], ctx, param).splitlines() if line.strip()]
        else:
            lines.append(text)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise click.BadParameter("a header is NAME: VALUE", ctx, param)
        headers[name.strip()] = value.strip()
    return headers


def _secret(ctx: click.Context, param: click.Parameter, file: str | None) -> str | None:
    return None if file is None else " ".join(_read(file, ctx, param).split())


def _read(file: str, ctx: click.Context, param: click.Parameter) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise click.BadParameter(f"{file}: {why}", ctx, param) from None


OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--push-endpoint",
        metavar="URL",
        help="Send each event to this URL by POST, in place of being pulled (docs/QUEUES.md).",
    ),
    click.option(
        "--push-payload",
        type=click.Choice(PAYLOADS),
        help="The event as JSON (the default), its value with the rest in headers, or as Pub/Sub sends both.",
    ),
    click.option(
        "--push-header",
        "push_headers",
        multiple=True,
        metavar="'NAME: VALUE'",
        callback=_headers,
        help="A header of each request, or @FILE with one in each line; may be repeated.",
    ),
    click.option(
        "--push-secret-file",
        "push_secret",
        metavar="FILE",
        callback=_secret,
        help="Sign requests with the secrets in this file (whsec_…); - for standard input.",
    ),
    click.option(
        "--push-token-audience",
        metavar="TEXT",
        help="Send a token that the server signs, for this audience (docs/QUEUES.md).",
    ),
    click.option(
        "--push-deadline",
        "push_deadline_ms",
        metavar="DURATION",
        callback=_deadline,
        help="Time in which the endpoint has to answer (10s by default).",
    ),
    click.option(
        "--push-concurrency",
        type=click.IntRange(min=1),
        metavar="N",
        help="Most requests at once (32 by default).",
    ),
)


def push_options(command: AnyCommand) -> AnyCommand:
    """Decorate a command with the options. It gets them as keyword arguments, see `push_settings`."""
    decorated: Any = command
    for option in reversed(OPTIONS):
        decorated = option(decorated)
    return cast(AnyCommand, decorated)


def push_settings(options: dict[str, Any]) -> dict[str, Any] | None:
    """The push settings of the options, in JSON; None if there is no endpoint. click.UsageError: other push
    options without one."""
    given = {name.removeprefix("push_"): value for name, value in options.items() if value not in (None, {})}
    if given and "endpoint" not in given:
        raise click.UsageError("push options need --push-endpoint")
    return given or None

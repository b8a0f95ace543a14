"""The command of a Django project that runs the subscribers of its stream.

    class Command(MainstemCommand):               # shop/management/commands/subscribers.py
        stream = "shop.events:stream"

    manage.py subscribers [--grace SECONDS] [--noreload]

Owns: Django's habits around a run: database connections of handlers, reloading while settings.DEBUG is on.
Refuses: the run itself, which `mainstem.api.run` has.
"""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections
from django.utils import autoreload

from mainstem.api.run import run_stream
from mainstem.api.stream import GRACE_S, Stream
from mainstem.contract import StreamError


class MainstemCommand(BaseCommand):
    """Runs the subscribers of `stream`, and its services such as the relay of an outbox, until SIGTERM or
    Ctrl-C. Handlers that are plain functions may use the ORM: they run in threads, and Django's
    `close_old_connections` runs before and after each of them, as round a request."""

    help = "Run the subscribers of the stream until SIGTERM or Ctrl-C."
    stream = ""
    """MODULE:NAME of the stream."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """See Django's BaseCommand."""
        parser.add_argument(
            "--grace", type=float, default=GRACE_S, help="seconds that handlers have to finish at the end"
        )
        parser.add_argument(
            "--noreload", action="store_true", help="do not start again when code changes (DEBUG only)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """See Django's BaseCommand."""
        stream = stream_named(self.stream)
        for subscriber in stream.subscribers:
            # An async handler reaches the ORM by sync_to_async, in threads of Django's own.
            if not subscriber.is_async and fresh_connections not in subscriber.around:
                subscriber.around.append(fresh_connections)
        try:
            if settings.DEBUG and not options["noreload"]:
                # In a thread of Django's reloader, which ends the process: signals are its own.
                autoreload.run_with_reloader(lambda: asyncio.run(_run_for_ever(stream)))
            else:
                asyncio.run(run_stream(stream, options["grace"]))
        except StreamError as error:
            raise CommandError(str(error)) from error


@contextmanager
def fresh_connections() -> Iterator[None]:
    """Closes the thread's database connections that are broken or older than CONN_MAX_AGE, before and after
    it."""
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()


def stream_named(place: str) -> Stream:
    """The stream at MODULE:NAME. CommandError: there is none."""
    module, _, name = place.partition(":")
    if not module or not name:
        raise CommandError(
            f'{place!r} is no place of a stream: write "module:name", such as "shop.events:stream"'
        )
    try:
        stream = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CommandError(f"{place}: {error}") from error
    if not isinstance(stream, Stream):
        raise CommandError(
            f"{place} is {type(stream).__name__}, not a stream of mainstem.connect or mainstem.open"
        )
    return stream


async def _run_for_ever(stream: Stream) -> None:
    async with stream.running():
        await asyncio.Event().wait()

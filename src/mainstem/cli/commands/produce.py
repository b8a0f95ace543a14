"""`mainstem produce`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from mainstem.cli.common import at_option, format_size, with_engine
from mainstem.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    import asyncio

    from mainstem.cli.line_format import InputLines
    from mainstem.contract import Engine, NewEvent, StreamError

BATCH_EVENTS = 4_000
BATCH_BYTES = 1 << 20
BATCHES_ON_THE_WAY = 6
REPORTED_LINES = 20
"""Bad lines that are shown one by one; the others are counted."""


@dataclass(slots=True)
class ProduceTally:
    """What came of it."""

    events: int = 0
    bytes: int = 0
    bad_lines: int = 0
    started: float = field(default_factory=time.monotonic)

    def summary(self) -> str:
        """`produced 336,776 events, 101.2 MB, in 2.31 s (145,790 events/s, 43.8 MB/s)`."""
        seconds = max(time.monotonic() - self.started, 1e-6)
        bad = (
            f"; {self.bad_lines:,} bad line{'s' if self.bad_lines != 1 else ''} left out"
            if self.bad_lines
            else ""
        )
        return (
            f"produced {self.events:,} events, {format_size(self.bytes)}, in {seconds:.2f} s"
            f" ({self.events / seconds:,.0f} events/s, {format_size(self.bytes / seconds)}/s){bad}"
        )


@click.command("produce")
@click.argument("topic")
@click.argument("files", metavar="[FILE]...", nargs=-1)
@at_option
@click.option("--key", metavar="FIELD", help="Field of the JSON line that is the key; a.b for a nested one.")
@click.option(
    "--timestamp", metavar="FIELD", help="Field with the event's time: ISO 8601, or epoch in s or ms."
)
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header for every event.")
@click.option("--partition", type=click.IntRange(min=0), help="Write to this partition; by key otherwise.")
@click.option("--strict", is_flag=True, help="Stop at the first bad line.")
def command(
    topic: str,
    files: tuple[str, ...],
    at: str,
    key: str | None,
    timestamp: str | None,
    headers: tuple[str, ...],
    partition: int | None,
    strict: bool,
) -> int:
    """Write each line of FILE (standard input without one, or -) as an event to TOPIC.

    The line is the value, as it is; blank lines are passed over. Files ending in .zst or .gz are
    decompressed. With --key or --timestamp every line must be a JSON object with that field; a null key
    makes an event without a key. A bad line is reported with its number, and the rest goes on (exit code
    4).
    """
    from mainstem.cli.line_format import InputError, InputLines

    make = _maker(key, timestamp, _headers(headers), partition)
    try:
        lines = InputLines(files or ("-",))
        tally = ProduceTally()
        try:
            with_engine(at, _Producer(topic, lines, make, tally, strict).run)
        finally:
            click.echo(tally.summary(), err=True)
    except InputError as error:
        raise click.ClickException(str(error)) from None
    return ExitCode.BAD_INPUT if tally.bad_lines else ExitCode.DONE


def _headers(given: tuple[str, ...]) -> tuple[tuple[str, bytes | None], ...]:
    found: list[tuple[str, bytes | None]] = []
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{each!r} is not NAME=VALUE", param_hint="--header")
        found.append((name, value.encode()))
    return tuple(found)


def _maker(
    key: str | None,
    timestamp: str | None,
    headers: tuple[tuple[str, bytes | None], ...],
    partition: int | None,
) -> Callable[[bytes], NewEvent]:
    """The function that makes an event of a line; it raises ValueError for a bad one."""
    from mainstem.contract import NewEvent

    if key is None and timestamp is None:
        return lambda line: NewEvent(line, None, headers, None, partition)
    from mainstem.cli.fields import FieldExtractor, key_bytes
    from mainstem.timespec import parse_event_time

    fields = FieldExtractor([each for each in (key, timestamp) if each is not None])

    def make(line: bytes) -> NewEvent:
        found = fields.extract(line)
        event_key = key_bytes(found[0]) if key is not None else None
        time_ms = parse_event_time(found[-1]) if timestamp is not None else None
        return NewEvent(line, event_key, headers, time_ms, partition)

    return make


class _Producer:
    """One run: lines to batches of events, some batches on their way at a time."""

    def __init__(
        self,
        topic: str,
        lines: InputLines,
        make: Callable[[bytes], NewEvent],
        tally: ProduceTally,
        strict: bool,
    ) -> None:
        self._topic = topic
        self._lines = lines
        self._make = make
        self._tally = tally
        self._strict = strict
        self._stopped = False
        self._failed: StreamError | None = None
        """What ends it all. Kept, not raised in the task of its batch: those on the way may fail alike."""

    async def run(self, engine: Engine) -> None:
        """All lines of all files. With --strict none after a bad line; those before it are written."""
        import asyncio

        on_the_way: set[asyncio.Task[None]] = set()
        with _progress(self._lines, self._tally) as tick:
            try:
                for batch in self._batches():
                    if len(on_the_way) >= BATCHES_ON_THE_WAY:
                        done, on_the_way = await asyncio.wait(on_the_way, return_when=asyncio.FIRST_COMPLETED)
                        _raise_first(done)
                        if self._failed is not None:
                            break
                    on_the_way.add(asyncio.create_task(self._publish(engine, batch)))
                    tick()
                    await asyncio.sleep(0)
            finally:
                if on_the_way:
                    await asyncio.wait(on_the_way)
            _raise_first(on_the_way)
            if self._failed is not None:
                raise self._failed
            tick()

    async def _publish(self, engine: Engine, batch: _Batch) -> None:
        from mainstem.contract import EventTooLarge, InvalidArgument, Position, StreamError

        results: Sequence[Position | StreamError]
        try:
            results = await engine.publish(self._topic, batch.events)
        except StreamError as error:
            results = error.results
            if not results:
                self._fail(error)
                return
        for number, event, result in zip(batch.numbers, batch.events, results, strict=True):
            if isinstance(result, Position):
                self._tally.events += 1
                self._tally.bytes += len(event.value or b"")
            elif isinstance(result, (EventTooLarge, InvalidArgument)):
                self._bad(batch.path, number, str(result))
            else:
                self._fail(result)

    def _fail(self, error: StreamError) -> None:
        self._stopped = True
        self._failed = self._failed or error

    def _batches(self) -> Iterator[_Batch]:
        for path in self._lines.paths:
            batch = _Batch(path)
            for number, line in self._lines.read(path):
                self._add(batch, number, line)
                if self._stopped:
                    break
                if len(batch.events) >= BATCH_EVENTS or batch.bytes >= BATCH_BYTES:
                    yield batch
                    batch = _Batch(path)
            if batch.events:
                yield batch
            if self._stopped:
                return

    def _add(self, batch: _Batch, number: int, line: bytes | None) -> None:
        if line is None:
            self._bad(batch.path, number, "longer than 64 MiB")
        elif line:
            try:
                batch.events.append(self._make(line))
            except ValueError as error:
                self._bad(batch.path, number, str(error))
            else:
                batch.numbers.append(number)
                batch.bytes += len(line)

    def _bad(self, path: str, number: int, why: str) -> None:
        self._tally.bad_lines += 1
        if self._strict:
            self._stopped = True
        if self._tally.bad_lines <= REPORTED_LINES:
            where = "standard input" if path == "-" else path
            click.echo(f"{where}, line {number}: {why}", err=True)
        elif self._tally.bad_lines == REPORTED_LINES + 1:
            click.echo("more bad lines are counted, not shown", err=True)


@dataclass(slots=True)
class _Batch:
    """Events of one file that are published together, and the lines they stood on."""

    path: str
    numbers: list[int] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)
    bytes: int = 0


def _raise_first(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.result()


@contextmanager
def _progress(lines: InputLines, tally: ProduceTally) -> Iterator[Callable[[], None]]:
    """A bar on a terminal; the function given is called now and then."""
    if not sys.stderr.isatty() or lines.paths == ("-",):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[count]} events"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task("producing", total=lines.total_bytes or None, count="0")
        yield lambda: bar.update(task, completed=lines.read_bytes, count=f"{tally.events:,}")

"""The command `mainstem work`: runs a command for each event of a subscription.

Owns: its options, the signals that stop it, and its last line. Refuses: to work on events by itself, which
`Worker` does.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import click

from mainstem.cli.common import at_option, plural, print_error
from mainstem.cli.exit_codes import ExitCode
from mainstem.timespec import parse_duration_ms

if TYPE_CHECKING:
    from mainstem.cli.worker import Worker


def _delay(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        delay_ms = parse_duration_ms(text)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    if delay_ms > 7 * 24 * 3_600_000:
        raise click.BadParameter("the longest delay is 7 days", ctx, param)
    return delay_ms


@click.command(
    "work",
    short_help="Run a command for each event of a subscription.",
)
@click.argument("subscription")
@click.argument(
    "arguments", metavar="-- COMMAND [ARGUMENT]...", nargs=-1, required=True, type=click.UNPROCESSED
)
@at_option
@click.option(
    "--jobs",
    type=click.IntRange(1, 1_000),
    default=1,
    show_default=True,
    metavar="N",
    help="Run the command for N events at once.",
)
@click.option("--consumer", metavar="NAME", help="Name of this worker; by default, its host and process id.")
@click.option(
    "--retry-after",
    "retry_delay_ms",
    metavar="DURATION",
    callback=_delay,
    help="Delay of an event whose command exits with 75 (30s, 5m); by default, as the subscription says.",
)
@click.option("-n", "--count", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@click.option("--until-empty", is_flag=True, help="End when no event is ready, and none comes for a second.")
def command(
    subscription: str,
    arguments: tuple[str, ...],
    address: str,
    jobs: int,
    consumer: str | None,
    retry_delay_ms: int | None,
    count: int | None,
    until_empty: bool,
) -> int:
    """Run a command for each event of a subscription, and acknowledge the event if it succeeds.

    The command gets the payload on its standard input. MAINSTEM_TOPIC, MAINSTEM_PARTITION, MAINSTEM_OFFSET,
    MAINSTEM_KEY, MAINSTEM_ATTEMPT (from 1), MAINSTEM_TIMESTAMP_MS, MAINSTEM_SUBSCRIPTION, MAINSTEM_HEADERS
    (JSON) and a MAINSTEM_HEADER_NAME for each header say the rest.

    \b
    Its exit code decides:
      0      the event is done
      65     (EX_DATAERR) rejected: a dead letter, and not delivered again
      75     (EX_TEMPFAIL) delivered again, after --retry-after
      other  failed: delivered again, after the wait that the subscription says

    While the command runs, the event stays with this worker. SIGINT or SIGTERM: the commands that run are
    waited for, all other events are given back. Again SIGINT or SIGTERM: the commands get SIGTERM.
    """
    if shutil.which(arguments[0]) is None:
        raise click.UsageError(f"there is no command {arguments[0]}")

    from mainstem.cli.http_door import with_door

    async def work(door: str) -> int:
        from mainstem.cli.event_command import EventCommand
        from mainstem.cli.http_client import door_client
        from mainstem.cli.worker import Worker, WorkPlan
        from mainstem.engines.remote.subscription_calls import SubscriptionCalls

        with closing(door_client(door, keeps_connections=True)) as client:
            queues = SubscriptionCalls(client)
            info = await queues.describe(subscription)
            lock_ms = info.settings.lock_ms
            plan = WorkPlan(
                subscription=subscription,
                consumer=consumer or f"{socket.gethostname()}-{os.getpid()}",
                lock_ms=lock_ms if isinstance(lock_ms, int) and lock_ms else 30_000,
                jobs=jobs,
                count=count,
                until_empty=until_empty,
                retry_delay_ms=retry_delay_ms,
            )
            event_command = EventCommand(arguments, subscription, os.environ | {"MAINSTEM_AT": address})
            worker = Worker(queues, plan, event_command.run, print_error)
            return await _run(worker, event_command.terminate_all)

    return with_door(address, work)


async def _run(worker: Worker, terminate_all: Callable[[], None]) -> int:
    """Run the worker; the first signal stops it, the second one also its commands. Returns the exit code."""
    import asyncio

    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            worker.stop()
        else:
            worker.abort()
            terminate_all()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        await worker.run()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        counts = worker.counts
        total = counts.acknowledged + counts.failed + counts.rejected
        print_error(
            f"{plural(total, 'event', 'events')}: {counts.acknowledged:,} acknowledged,"
            f" {counts.failed:,} failed, {counts.rejected:,} rejected"
        )
    return ExitCode.INTERRUPTED if signals > 1 else ExitCode.DONE

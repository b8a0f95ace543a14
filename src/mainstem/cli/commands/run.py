"""The command `mainstem run`: runs the subscribers of a program until it is asked to stop.

Owns: its options, what it prints, and its exit codes. Refuses: to run subscribers by itself, which
`mainstem.api.run` does, and processes, which `RunWorkers` does.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mainstem.cli.common import plural, print_error
from mainstem.cli.credentials import credential_options, given_credentials
from mainstem.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    import asyncio

    from mainstem.api.run import StopSignals
    from mainstem.api.runner import Runner
    from mainstem.api.subscriber_state import SubscriberState
    from mainstem.cli.subscriber_health import HealthPage, ProcessReport

WORKERS_MAX = 256


class HealthAddressError(Exception):
    """The address of --health is in use, or cannot be bound."""


def _address(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise click.BadParameter("it is HOST:PORT, such as 127.0.0.1:8081", ctx, param)
    return host.strip("[]"), int(port)


@click.command("run", short_help="Run the subscribers of a Python program.")
@click.argument("target", metavar="MODULE:NAME")
@click.option(
    "--at",
    "address",
    metavar="HOST:PORT",
    help="Address for a stream that was made without one; by default MAINSTEM_AT, or 127.0.0.1:9092."
    " --ca FILE, --user NAME, --password-file FILE and others log in.",
)
@credential_options
@click.option(
    "--workers",
    type=click.IntRange(1, WORKERS_MAX),
    default=1,
    show_default=True,
    metavar="N",
    help="Run N processes. They share the events of each group.",
)
@click.option("--reload", is_flag=True, help="Start again when a Python file below this folder changes.")
@click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(0, 86_400),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long handlers have to finish at a stop.",
)
@click.option(
    "--health",
    metavar="HOST:PORT",
    callback=_address,
    help="Serve /livez, /readyz and /metrics there.",
)
def command(
    target: str,
    address: str | None,
    workers: int,
    reload: bool,
    grace_s: float,
    health: tuple[str, int] | None,
) -> int:
    """Run the subscribers of a Python program: of the stream NAME in MODULE, by default `stream`.

    \b
    mainstem run shop.events:stream --workers 4 --health 127.0.0.1:8081

    SIGTERM or Ctrl-C: no further events are taken, handlers have --grace to finish, and what is not done is
    delivered again. A second signal cancels the handlers at once.
    """
    _pass_on(address)
    try:
        return _run(target, workers, reload, grace_s, health)
    except HealthAddressError as error:
        print_error(str(error))
        return ExitCode.ADDRESS


def _pass_on(address: str | None) -> None:
    """Give the program address and credentials as variables, where `mainstem.connect` looks for them. What
    the options say is used in place of the variables that were there. Raises UsageError."""
    from mainstem.client_credentials.given import NAMES, security_of, split_address, variable_of
    from mainstem.client_security import ClientSecurityError

    given = given_credentials(click.get_current_context())
    given["at"] = address or os.environ.get("MAINSTEM_AT") or given.get("at", "")
    try:
        security_of({**given, **split_address(given["at"])[1]})
    except ClientSecurityError as error:
        raise click.UsageError(str(error)) from None
    os.environ.update({variable_of(name): given[name] for name in ("at", *NAMES) if given.get(name)})
    os.environ.pop("MAINSTEM_CONTEXT", None)  # --context wins over it, and what it says is in the others now


def _run(target: str, workers: int, reload: bool, grace_s: float, health: tuple[str, int] | None) -> int:
    import asyncio

    from mainstem.cli.run_workers import REPORT_VARIABLE
    from mainstem.event_loop import loop_factory

    report_to = os.environ.pop(REPORT_VARIABLE, None)
    with asyncio.Runner(loop_factory=loop_factory()) as loop_runner:
        if report_to is None and (workers > 1 or reload):
            arguments = ["run", target, "--grace", f"{grace_s:g}", *_health_option(health)]
            return loop_runner.run(_run_workers(arguments, workers, reload, grace_s, health))
        code, in_threads = loop_runner.run(
            _run_here(target, grace_s, health, int(report_to) if report_to else None)
        )
    if in_threads:
        calls = plural(in_threads, "function runs", "functions run")
        print_error(f"{calls} on in threads, which nothing stops: the process ends without them")
        sys.stdout.flush()
        os._exit(code)
    return code


def _health_option(health: tuple[str, int] | None) -> tuple[str, ...]:
    """The option as a worker gets it, which serves no pages: it reports what they need."""
    if health is None:
        return ()
    host, port = health
    return "--health", f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _run_here(
    target: str, grace_s: float, health: tuple[str, int] | None, report_to: int | None
) -> tuple[int, int]:
    """Run in this process. Returns the exit code, and how many handlers run on in threads."""
    import asyncio

    from mainstem.api.run import run_stream
    from mainstem.cli.run_target import load_stream
    from mainstem.cli.run_workers import report_to_parent
    from mainstem.cli.subscriber_health import ProcessReport

    stream = load_stream(target)
    # After the program, which may have set up its own.
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    stops: list[StopSignals] = []

    @asynccontextmanager
    async def beside(runner: Runner, signals: StopSignals) -> AsyncIterator[None]:
        async def states(with_lag: bool) -> list[SubscriberState]:
            return await runner.state() if with_lag else runner.state_here()

        async def report(with_lag: bool) -> ProcessReport:
            return ProcessReport(await states(with_lag))

        stops.append(signals)
        reporting: asyncio.Task[None] | None = None
        if report_to is not None:
            reporting = asyncio.ensure_future(
                report_to_parent(report_to, lambda: states(health is not None), signals.stop)
            )
        async with _health_pages(health if report_to is None else None, report):
            print_error(f"{plural(len(stream.subscribers), 'subscriber runs', 'subscribers run')}: {target}")
            # What was imported and set up stays: no collection needs to look at it again.
            gc.collect()
            gc.freeze()
            yield
        if reporting is not None:
            reporting.cancel()

    runner = await run_stream(stream, grace_s, beside)
    done = sum(state.done for state in runner.state_here())
    print_error(f"{plural(done, 'event', 'events')} done")
    return ExitCode.INTERRUPTED if stops[0].count > 1 else ExitCode.DONE, runner.in_threads


async def _run_workers(
    arguments: list[str], workers: int, reload: bool, grace_s: float, health: tuple[str, int] | None
) -> int:
    from mainstem.api.run import StopSignals
    from mainstem.cli.run_workers import RunWorkers
    from mainstem.cli.source_watch import SourceWatch

    watch = SourceWatch(Path.cwd()) if reload else None
    processes = RunWorkers(arguments, workers, grace_s, watch, print_error)

    async def report(with_lag: bool) -> ProcessReport:
        return processes.health()

    with StopSignals() as signals:
        async with _health_pages(health, report):
            return await processes.run(signals)


@asynccontextmanager
async def _health_pages(
    address: tuple[str, int] | None, report: Callable[[bool], Awaitable[ProcessReport]]
) -> AsyncIterator[None]:
    """Serve the pages of health while the context is entered, if there is an address. `report` is given
    whether the lag is needed."""
    from mainstem.cli.health_server import health_server
    from mainstem.cli.subscriber_health import answer, needs_lag

    async def page_of(path: str) -> HealthPage:
        return answer(path, await report(needs_lag(path)))

    async with AsyncExitStack() as entered:
        if address is not None:
            try:
                host, port = await entered.enter_async_context(health_server(*address, page_of))
            except OSError as error:
                raise HealthAddressError(
                    f"--health {address[0]}:{address[1]}: {error.strerror or error}"
                ) from None
            print_error(f"health at http://{host}:{port}/readyz")
        yield

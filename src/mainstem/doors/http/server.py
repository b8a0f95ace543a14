"""The HTTP door's socket shell: uvicorn in the loop that is there already.

Owns: start and stop, the task that samples. Refuses: signal handlers, lifespans,
websockets and trust in proxies' headers. Called by `mainstem.serve.server` and `mainstem.serve.console`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import uvicorn

from mainstem.doors.http.app import build
from mainstem.doors.http.connection import IDLE_TIMEOUT_S, HttpConnection
from mainstem.doors.http.endpoint import DiskUsage, HttpContext, MetricSample, SearchStats
from mainstem.doors.http.endpoints import ENDPOINTS
from mainstem.doors.http.sampler import Sampler
from mainstem.doors.http.search_slots import SEARCHES_MAX
from mainstem.doors.http.security import Guard
from mainstem.doors.http.static_files import static_routes

if TYPE_CHECKING:
    from mainstem.clock import Clock
    from mainstem.contract import Engine
    from mainstem.search.contract import Search

log = logging.getLogger("mainstem.http")

DRAIN_SECONDS = 5
HEAD_BYTES = 64 << 10
"""A request's line and headers at most."""


class _Server(uvicorn.Server):
    """uvicorn without its signals and without its ten looks a second at whether it should stop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()
        self.accepts = asyncio.Event()

    async def main_loop(self) -> None:
        self.accepts.set()
        while not self.stop.is_set():
            await self.on_tick(0)  # the Date header
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), 1.0)


class HttpDoor:
    """`await start(sock)`, later `await close()`. The engine is its owner's to close."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        *,
        version: str,
        kafka_address: str,
        hosts: Iterable[str] = (),
        any_address: bool = False,
        max_body_bytes: int = 16 << 20,
        read_only: bool = False,
        search: Callable[[], Search],
        disk_usage: Callable[[], DiskUsage] | None = None,
        kafka_metrics: Callable[[], Iterable[MetricSample]] = tuple,
    ) -> None:
        closing = asyncio.Event()
        self._sampler = Sampler(engine, clock)
        self.context = HttpContext(
            engine=engine,
            clock=clock,
            sampler=self._sampler,
            max_body_bytes=max_body_bytes,
            read_only=read_only,
            version=version,
            kafka_address=kafka_address,
            disk_usage=disk_usage,
            kafka_metrics=kafka_metrics,
            search=search,
            search_slots=asyncio.Semaphore(SEARCHES_MAX),
            search_stats=SearchStats(),
            closing=closing,
        )
        self.app = Guard(
            build(self.context, ENDPOINTS, static_routes(lambda: search().prepare())),
            hosts,
            any_address=any_address,
        )
        self._server = _Server(
            uvicorn.Config(
                self.app,
                http=partial(HttpConnection, clock),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=int(IDLE_TIMEOUT_S),
                timeout_graceful_shutdown=DRAIN_SECONDS,
                h11_max_incomplete_event_size=HEAD_BYTES,
            )
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, sock: socket.socket) -> None:
        """Accept on a bound socket; the door closes it in the end."""
        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it announces its start; so do we, once
        serving = asyncio.create_task(self._server._serve([sock]), name="http")
        accepts = asyncio.create_task(self._server.accepts.wait())
        await asyncio.wait((serving, accepts), return_when=asyncio.FIRST_COMPLETED)
        accepts.cancel()
        if serving.done():
            await serving  # raises why
        sampling = asyncio.create_task(
            self._sampler.run(self.context.pause, self.context.closing), name="stats"
        )
        self._tasks = [serving, sampling]

    async def close(self) -> None:
        """Take no more, end what streams, finish the rest within some seconds."""
        self.context.closing.set()
        self._server.stop.set()
        for task in self._tasks:
            await task

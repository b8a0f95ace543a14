"""uvicorn as the doors that speak HTTP use it: for connections that they are given.

Owns: its configuration, its start and its end. Refuses: to open sockets and to handle signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import uvicorn

from mainstem.doors.net.http_connection import IDLE_TIMEOUT_S

if TYPE_CHECKING:
    from mainstem.doors.contract import HttpApp

DRAIN_SECONDS = 5
HEAD_BYTES = 64 << 10
"""Maximum size of a request's line and headers."""


class UvicornServer(uvicorn.Server):
    """uvicorn for connections that the door is given. Instead of ten checks a second whether to stop it waits
    for `stop`."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()
        self._accepts = asyncio.Event()

    async def main_loop(self) -> None:
        """Called by uvicorn when it has started."""
        self._accepts.set()
        while not self.stop.is_set():
            await self.on_tick(0)  # the Date header
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.stop.wait()

    async def start(self, name: str) -> asyncio.Task[None]:
        """Start; connections may be served when this returns. The task ends after `stop`, when the requests
        in progress have ended, at most DRAIN_SECONDS later."""
        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it logs its start; so do we, once
        serving = asyncio.create_task(self._serve([]), name=name)
        accepts = asyncio.create_task(self._accepts.wait())
        await asyncio.wait((serving, accepts), return_when=asyncio.FIRST_COMPLETED)
        accepts.cancel()
        if serving.done():
            await serving  # raises why
        return serving


def uvicorn_config(app: HttpApp) -> uvicorn.Config:
    """How uvicorn serves `app`."""
    return uvicorn.Config(
        app,
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

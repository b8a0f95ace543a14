"""A replay that a mainstem server does itself, asked for through its HTTP door. Made by `replay.py`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, Raw, UnsetType

from mainstem.cli.http import error_from_problem, send_request
from mainstem.cli.remote import matches_json
from mainstem.contract import NotReachable
from mainstem.replay import ReplayProgress

if TYPE_CHECKING:
    from mainstem.cli.commands.replay import ReplayRequest

COUNTING_S = 3_600.0
"""So long the door may be silent: it counts first, and looks for what the job has published."""


class _Line(msgspec.Struct):
    published: int
    published_before: int
    unreadable: int
    events: int | None
    done: bool
    problem: Raw | UnsetType | None = UNSET

    def told(self) -> ReplayProgress:
        return ReplayProgress(self.published, self.published_before, self.unreadable)


class RemoteReplay:
    """See `replay.Replaying`. Closing `run` closes the connection, and the server stops."""

    def __init__(self, door: str, order: ReplayRequest) -> None:
        self._door = door
        self._body = {
            "to": order.to,
            "matches": matches_json(order.request),
            "rate": order.rate,
            "job": order.job,
        }

    async def count(self) -> tuple[int, ReplayProgress]:
        """See there."""
        async for line in self._lines(dry_run=True):
            if line.events is not None:
                return line.events, line.told()
        raise NotReachable(f"the server at {self._door} did not count to the end")

    async def run(self) -> AsyncGenerator[ReplayProgress, None]:
        """See there."""
        async for line in self._lines(dry_run=False):
            yield line.told()
            if line.done:
                return
        raise NotReachable(f"the server at {self._door} ended the replay before it was done")

    async def _lines(self, *, dry_run: bool) -> AsyncGenerator[_Line, None]:
        body = self._body | {"dry_run": dry_run}
        async with send_request(self._door, "POST", "/api/v1/replay", body, silence_s=COUNTING_S) as reply:
            async for text in reply.lines():
                line = msgspec.json.decode(text, type=_Line)
                yield line
                if isinstance(line.problem, Raw) and bytes(line.problem) != b"null":
                    raise error_from_problem(line.problem)

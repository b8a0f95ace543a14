"""A replay that a mainstem server runs itself, started through its HTTP door."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec

from mainstem.cli.http_client import send_request
from mainstem.cli.replay_runner import ReplayRequest
from mainstem.engines.remote.http_client import error_from_problem
from mainstem.http_api.replay import MatchesJson, ReplayProgressJson, ReplayRequestJson
from mainstem.replay import ReplayProgress
from mainstem.stream_errors import NotReachable

COUNTING_TIMEOUT_S = 3_600.0
"""How long the HTTP door may send nothing: it first counts the events, and looks for those that the job has
published already."""


class RemoteReplay:
    """Runs a replay on the server; implements `ReplayRunner`. Closing `run` closes the connection, and then
    the server stops the replay."""

    def __init__(self, door: str, request: ReplayRequest) -> None:
        self._door = door
        self._request = request

    async def count(self) -> tuple[int, ReplayProgress]:
        """See `ReplayRunner.count`: the number of events that the replay would publish."""
        async for line in self._lines(dry_run=True):
            if line.events is not None:
                return line.events, _progress(line)
        raise NotReachable(f"the server at {self._door} ended before it had counted the events")

    async def run(self) -> AsyncGenerator[ReplayProgress, None]:
        """Publish the events; see `ReplayRunner.run`."""
        async for line in self._lines(dry_run=False):
            yield _progress(line)
            if line.done:
                return
        raise NotReachable(f"the server at {self._door} ended the replay before it was done")

    async def _lines(self, *, dry_run: bool) -> AsyncGenerator[ReplayProgressJson, None]:
        body = ReplayRequestJson(
            to=self._request.to,
            matches=MatchesJson.from_request(self._request.matches),
            rate=self._request.rate,
            job=self._request.job,
            dry_run=dry_run,
        )
        replying = send_request(
            self._door, "POST", "/api/v1/replay", body, silence_timeout_s=COUNTING_TIMEOUT_S
        )
        async with replying as reply:
            async for text in reply.lines():
                line = msgspec.json.decode(text, type=ReplayProgressJson)
                yield line
                if line.problem is not None:
                    raise error_from_problem(msgspec.json.encode(line.problem))


def _progress(line: ReplayProgressJson) -> ReplayProgress:
    return ReplayProgress(line.published, line.published_before, line.unreadable)

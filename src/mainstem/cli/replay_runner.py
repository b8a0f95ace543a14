"""What a replay is asked to do, and what runs it: the server itself, or this process.

Owns: `ReplayRequest`, and the protocol `ReplayRunner` that both kinds implement.
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mainstem.timespec import format_iso

if TYPE_CHECKING:
    from mainstem.replay import ReplayProgress
    from mainstem.search.contract import SearchRequest


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """The replay that the command line asks for: which events, into which topic, and how fast."""

    matches: SearchRequest
    """The search whose matches are replayed."""
    to: str
    """The target topic."""
    rate: int
    """Maximum number of events per second."""
    job: str
    is_resumed: bool
    """Whether the job may have published events before."""

    def resume_command(self, address: str) -> str:
        """The command line that continues the replay. Ages are written as times, so that it means the same
        events."""
        words = ["mainstem", "replay", self.matches.query, "--to", self.to, "--job", self.job]
        for topic in self.matches.topics:
            words += ["--topic", topic]
        for option, time_ms in (("--since", self.matches.since_ms), ("--until", self.matches.until_ms)):
            words += [] if time_ms is None else [option, format_iso(time_ms)]
        return shlex.join([*words, "--rate", str(self.rate), "--at", address])


class ReplayRunner(Protocol):
    """Runs one replay job, through the HTTP door or by the Kafka protocol."""

    async def count(self) -> tuple[int, ReplayProgress]:
        """How many events the replay would publish, and the progress of earlier runs of the job."""

    def run(self) -> AsyncGenerator[ReplayProgress, None]:
        """Publish the events that the job has not published yet; yields the progress from time to time."""

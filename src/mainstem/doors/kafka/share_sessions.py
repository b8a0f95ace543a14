"""Share sessions (KIP-932): which partitions a member of a share group fetches, from one request to the next.

Owns: the sessions of all connections, their epochs, and their end: a session belongs to the connection on
which it began, and what its member has acquired is given back when it ends. Refuses: what is acquired, which
the engine decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from mainstem.coordinator.errors import CoordinatorError
from mainstem.share_contract import BatchQueues, PartitionKey

NEW_SESSION = 0
FINAL_EPOCH = -1
EPOCH_MAX = 2**31 - 1
SESSIONS_MAX = 10_000


class ShareSessionNotFound(CoordinatorError):
    """The error for a request of a session that does not exist."""

    code = "SHARE_SESSION_NOT_FOUND"


class InvalidShareSessionEpoch(CoordinatorError):
    """The error for a request that is not the next one of its session."""

    code = "INVALID_SHARE_SESSION_EPOCH"


class ShareSessionLimitReached(CoordinatorError):
    """The error for a new session when there are too many."""

    code = "SHARE_SESSION_LIMIT_REACHED"


OnClose: TypeAlias = Callable[[Callable[[], None]], Callable[[], None]]
"""Runs a call when a connection is lost; returns a function that cancels this."""


class ShareSession:
    """The session of a member."""

    def __init__(self, group: str, member: str) -> None:
        self.group = group
        self.member = member
        self.epoch = 1
        """Of the next request."""
        self.partitions: dict[PartitionKey, None] = {}
        """What is fetched, in the order in which it came."""
        self.cancel_on_close: Callable[[], None] = _nothing

    def advance(self) -> None:
        """A request was taken."""
        self.epoch = self.epoch + 1 if self.epoch < EPOCH_MAX else 1

    def in_turn(self) -> list[PartitionKey]:
        """The partitions, another one first with each request, so that a busy one does not starve others."""
        partitions = list(self.partitions)
        first = self.epoch % len(partitions) if partitions else 0
        return partitions[first:] + partitions[:first]


class ShareSessions:
    """All sessions of a door. Only one of a group and member exists."""

    def __init__(self, queues: BatchQueues, sessions_max: int = SESSIONS_MAX) -> None:
        self.queues = queues
        self._sessions_max = sessions_max
        self._sessions: dict[tuple[str, str], ShareSession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(
        self, group: str, member: str, partitions: Iterable[PartitionKey], on_close: OnClose
    ) -> ShareSession:
        """Begin a session, in place of the one that the member has. `on_close`: of the connection to which it
        belongs. ShareSessionLimitReached."""
        old = self._sessions.pop((group, member), None)
        if old is not None:
            old.cancel_on_close()
        if len(self._sessions) >= self._sessions_max:
            raise ShareSessionLimitReached(f"there are {self._sessions_max:,} share sessions already")
        session = ShareSession(group, member)
        session.partitions = dict.fromkeys(partitions)
        session.cancel_on_close = on_close(lambda: self._lost(session))
        self._sessions[group, member] = session
        return session

    def get(self, group: str, member: str, epoch: int) -> ShareSession:
        """The session of a request with this epoch, which may be the final one. ShareSessionNotFound,
        InvalidShareSessionEpoch."""
        session = self._sessions.get((group, member))
        if session is None:
            raise ShareSessionNotFound("the member has no share session")
        if epoch not in (session.epoch, FINAL_EPOCH):
            raise InvalidShareSessionEpoch(f"the next epoch of the share session is {session.epoch}")
        return session

    def end(self, session: ShareSession) -> None:
        """End a session: what its member has is given back."""
        session.cancel_on_close()
        self._lost(session)

    def end_of_member(self, group: str, member: str) -> None:
        """End the session of a member that has left its group, if it has one."""
        session = self._sessions.get((group, member))
        if session is not None:
            self.end(session)

    def _lost(self, session: ShareSession) -> None:
        key = session.group, session.member
        if self._sessions.get(key) is session:
            del self._sessions[key]
            self.queues.release(session.group, session.member)


def _nothing() -> None:
    pass

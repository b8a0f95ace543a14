"""Readers and members of groups for one requester.

Owns: that no event is returned once the right to read its topic is revoked, also by a read that waited for it
before, and that what is returned is masked. Refuses: what the reader or member of the engine refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from mainstem.access_contract import RequesterRights
from mainstem.clock import Clock
from mainstem.contract import NO_NOTES, Member, Position, Reader, ReadResult, TopicPartition
from mainstem.engines.authorized.revocation import RECHECK_S, while_allowed
from mainstem.masking.contract import RequesterMasks

WAIT_MS = round(RECHECK_S * 1000)
"""A read that waits no longer is not watched meanwhile, but checked at its end."""


class _CheckedReads:
    """Reads of a reader or a member. `require` raises NotAuthorized unless all of it may be read."""

    def __init__(
        self,
        inner: Reader | Member,
        rights: RequesterRights,
        masks: RequesterMasks,
        clock: Clock,
        require: Callable[[], None],
    ) -> None:
        self._inner = inner
        self._rights = rights
        self._masks = masks
        self._clock = clock
        self._require = require
        self._version = rights.version

    async def read(self, *, max_events: int = 1_000, wait_ms: int = 1_000) -> ReadResult:
        """As the contract says. NotAuthorized also if the right was revoked since."""
        self._check()
        reading = self._inner.read(max_events=max_events, wait_ms=wait_ms)
        if wait_ms > WAIT_MS:
            result = await while_allowed(self._rights, self._clock, self._require, reading)
        else:
            result = await reading
        self._check()
        if not self._masks.are_any:
            return result
        return replace(result, events=[self._masks.visible(event) for event in result.events])

    async def close(self) -> None:
        """As the contract says."""
        await self._inner.close()

    def _check(self) -> None:
        if self._rights.version != self._version:
            version = self._rights.version
            self._require()
            self._version = version


class AuthorizedReader(_CheckedReads):
    """A `Reader`, checked."""

    _inner: Reader

    def positions(self) -> Sequence[Position]:
        """As the contract says."""
        return self._inner.positions()

    def seek(self, position: Position) -> None:
        """As the contract says; the engine's reader has no other partitions than its own."""
        self._inner.seek(position)


class AuthorizedMember(_CheckedReads):
    """A `Member`, checked."""

    _inner: Member

    async def commit(
        self, positions: Sequence[Position] | None = None, notes: Mapping[TopicPartition, str] = NO_NOTES
    ) -> None:
        """As the contract says."""
        self._check()
        await self._inner.commit(positions, notes)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """As the contract says."""
        self._inner.pause(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """As the contract says."""
        self._inner.resume(partitions)

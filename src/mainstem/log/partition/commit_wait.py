"""Waits until what a partition's log holds is committed, for a limited time.

Owns: the wait of requests that ask where the log ends, or that name an offset that was appended already. With
acks=0 and acks=1 a producer knows of events before their commit; a request that follows must count them, and
no reader may get what a power cut can remove. Refuses: to look at the log; to run the request inside the
commit, which may be that of several partitions.
"""

from __future__ import annotations

from typing import Protocol

from mainstem.clock import Clock
from mainstem.log.errors import NotCommittedYet
from mainstem.promise import Promise

COMMIT_WAIT_S = 5.0
"""Longest wait. A commit takes milliseconds; a disk that needs longer than this counts as stalled."""


class AppendedLog(Protocol):
    """The part of `Partition` that is waited for."""

    fence_reason: str | None

    @property
    def log_end_offset(self) -> int: ...

    def when_committed(self, next_offset: int) -> Promise[None]: ...

    def delete_records(self, before: int) -> Promise[int]: ...


def wait_limit_s(timeout_ms: int) -> float:
    """How long a request with this timeout waits, seconds; without one (0 or less), as long as any."""
    return min(timeout_ms / 1000, COMMIT_WAIT_S) if timeout_ms > 0 else COMMIT_WAIT_S


def when_end_committed(
    partition: AppendedLog, clock: Clock, limit_s: float = COMMIT_WAIT_S, *, before: int | None = None
) -> Promise[None]:
    """A promise that is done when everything that is in the log now is committed; with `before`, when the
    offsets below it are. Done at once if the partition is read-only, for then nothing more is committed, and
    for an offset that is not in the log.

    NotCommittedYet after `limit_s` seconds; StorageError if the commit fails; PartitionDeleted.
    """
    end = partition.log_end_offset if before is None else before
    if partition.fence_reason is not None or end > partition.log_end_offset:
        return Promise.resolved(None)
    committed = partition.when_committed(end)
    if committed.done:
        return committed
    waiting: Promise[None] = Promise()

    def on_committed(committed: Promise[None]) -> None:
        timer.cancel()
        if not waiting.done:
            clock.call_soon(lambda: waiting.copy_result(committed))

    def on_timeout() -> None:
        waiting.fail(NotCommittedYet(f"the log up to offset {end} is not on the disk after {limit_s:g} s"))

    timer = clock.call_later(limit_s, on_timeout)
    committed.then(on_committed)
    return waiting


def delete_when_committed(
    partition: AppendedLog, clock: Clock, before: int, limit_s: float = COMMIT_WAIT_S
) -> Promise[int]:
    """`Partition.delete_records`, once what it is to delete is committed; -1: everything that is in the log
    now. Fails with OffsetOutOfRange and the errors of `when_end_committed`."""
    if before == -1 and partition.fence_reason is None:
        before = partition.log_end_offset
    committed = when_end_committed(partition, clock, limit_s, before=before)
    return committed.chain(lambda _: partition.delete_records(before))

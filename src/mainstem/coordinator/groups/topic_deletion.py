"""Deletes the committed offsets of deleted topics, of some groups in each turn of the event loop.

Owns: the topics whose offsets are still to be deleted, and the walk over all groups that does it. Refuses: to
be certain: what a crash prevents, the expiry of offsets does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

import msgspec

from mainstem.clock import Clock
from mainstem.coordinator.groups.offsets import CommittedOffsets
from mainstem.promise import Promise, gather
from mainstem.turns import run_in_turns

GROUPS_PER_TURN = 500
RECORDS_PER_WRITE = 100


class TopicDeletion:
    """Deletes the offsets of topics. One walk serves all topics that were deleted before it began."""

    def __init__(
        self,
        clock: Clock,
        offsets: CommittedOffsets,
        write: Callable[[Sequence[msgspec.Struct]], Promise[None]],
    ) -> None:
        self._clock = clock
        self._offsets = offsets
        self._write = write
        self._topics: set[UUID] = set()
        """The topics of the next walk."""
        self._next_done: Promise[None] | None = None
        """The promise of the next walk; None if none is needed."""
        self._is_walking = False

    def delete(self, topic_id: UUID) -> Promise[None]:
        """Delete the offsets of a topic. Done when that is durable."""
        self._topics.add(topic_id)
        done = self._next_done
        if done is None:
            done = self._next_done = Promise()
            if not self._is_walking:
                self._walk()
        return done

    def _walk(self) -> None:
        done, self._next_done = self._next_done, None
        topics, self._topics = self._topics, set()
        self._is_walking = True
        written: list[Promise[None]] = []
        walked = run_in_turns(self._clock, self._steps(topics, written), GROUPS_PER_TURN)

        def on_walked(walk: Promise[list[Promise[None]]]) -> None:
            self._is_walking = False
            if self._next_done is not None:
                self._walk()
            assert done is not None, "a walk has a promise"
            failed = next((write for write in walk.result() if write.error is not None), None)
            done.copy_result(failed or Promise.resolved(None))

        walked.chain(lambda _: gather(written)).then(on_walked)

    def _steps(self, topics: set[UUID], written: list[Promise[None]]) -> Iterator[int]:
        records: list[msgspec.Struct] = []
        for record in self._offsets.topic_deletion_records(topics):
            if record is not None:
                records.append(record)
            if len(records) >= RECORDS_PER_WRITE:
                written.append(self._write(records))
                records = []
            yield 1
        if records:
            written.append(self._write(records))

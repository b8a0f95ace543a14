"""Leases: what a consumer acquired with one call, and until when.

Owns: the live leases by number, by consumer and by deadline. A lease is an object a call, not a position;
pages name it by the low 32 bits of its number. Deadlines are in a first-in first-out list for each lock
duration, so that opening, extending and closing cost the same however many leases there are.
Refuses: to change positions; the view does that, and reports how many it took from a lease.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, KeysView

from mainstem.queues.runs import Run, count_positions, decode_runs, encode_runs

WORD_MASK = 0xFFFF_FFFF
ENDED_PARTS_MAX = 10_000
"""Leases that were divided from others, and are over, of which the origin is still known."""
PLAIN_RUNS_MAX = 4
"""A lease of more runs has them encoded: 2 bytes a run in place of 130."""


class DeliveryLease:
    """An acquisition: these positions belong to a consumer until the deadline, or until they are settled."""

    __slots__ = ("_runs", "consumer", "deadline_ms", "id", "left", "lock_ms", "origin")

    def __init__(self, lease_id: int, consumer: str, runs: list[Run], lock_ms: int) -> None:
        self.id = lease_id
        """From 1, and never the same again in the life of a view."""
        self.origin = lease_id
        """The lease with which these positions were acquired: another one, if this is a part of it with a
        deadline of its own."""
        self.consumer = consumer
        self.lock_ms = lock_ms
        """0: without a deadline."""
        self.deadline_ms: int | None = None
        self.left = runs[0][1] - runs[0][0] if len(runs) == 1 else count_positions(runs)
        """How many of the positions are still leased."""
        self._runs = tuple(runs) if len(runs) <= PLAIN_RUNS_MAX else encode_runs(0, runs)

    @property
    def runs(self) -> tuple[Run, ...]:
        """What was acquired, ascending."""
        runs = self._runs
        return runs if isinstance(runs, tuple) else tuple(decode_runs(0, runs))

    def __repr__(self) -> str:
        return f"DeliveryLease({self.id}, {self.consumer!r}, {self.runs}, left={self.left})"


class LeaseTable:
    """The live leases of a view."""

    __slots__ = ("_by_consumer", "_by_lock", "_ended_parts", "_last_id", "_newest_ms", "by_word", "has_parts")

    def __init__(self, last_id: int = 0) -> None:
        self.by_word: dict[int, DeliveryLease] = {}
        """Live leases by the low 32 bits of their numbers, which pages have; none has the word 0."""
        self._last_id = last_id
        self._by_consumer: dict[str, dict[int, DeliveryLease]] = {}
        self._by_lock: dict[int, OrderedDict[int, DeliveryLease]] = {}
        """Lock duration -> its leases, in the order of their deadlines."""
        self._newest_ms: dict[int, int] = {}
        """Lock duration -> the last deadline in its list."""
        self.has_parts = False
        """Whether a lease was ever divided."""
        self._ended_parts: dict[int, tuple[int, int]] = {}
        """Word -> (number, origin) of parts of leases that are over: a late answer names the origin."""

    def __len__(self) -> int:
        return len(self.by_word)

    @property
    def last_id(self) -> int:
        """The number of the newest lease, or 0."""
        return self._last_id

    def skip_to(self, lease_id: int) -> None:
        """The next lease has this number, which is above those of all before it."""
        assert lease_id > self._last_id
        self._last_id = lease_id - 1

    def next_word(self) -> int:
        """The word of the lease that is opened next."""
        next_id = self._last_id + 1
        word = next_id & WORD_MASK
        while not word or word in self.by_word:
            next_id += 1
            word = next_id & WORD_MASK
        self._last_id = next_id - 1
        return word

    def open(self, consumer: str, runs: list[Run], now_ms: int, lock_ms: int) -> DeliveryLease:
        """A new lease, with the word that `next_word` returned."""
        self._last_id = lease_id = self._last_id + 1
        lease = DeliveryLease(lease_id, consumer, runs, lock_ms)
        self.by_word[lease_id & WORD_MASK] = lease
        if (leases := self._by_consumer.get(consumer)) is None:
            leases = self._by_consumer[consumer] = {}
        leases[lease_id] = lease
        if lock_ms:
            self._schedule(lease, now_ms)
        return lease

    def _schedule(self, lease: DeliveryLease, now_ms: int) -> None:
        deadline_ms = now_ms + lease.lock_ms
        if (fifo := self._by_lock.get(lease.lock_ms)) is None:
            fifo = self._by_lock[lease.lock_ms] = OrderedDict()
        elif deadline_ms < self._newest_ms[lease.lock_ms]:
            # A clock that was set back must not disorder the list: deadlines never fall in it.
            deadline_ms = self._newest_ms[lease.lock_ms]
        self._newest_ms[lease.lock_ms] = lease.deadline_ms = deadline_ms
        fifo[lease.id] = lease

    def get(self, lease_id: int) -> DeliveryLease | None:
        """A live lease by its number."""
        lease = self.by_word.get(lease_id & WORD_MASK)
        return lease if lease is not None and lease.id == lease_id else None

    def divide(self, word: int, runs: list[Run], now_ms: int, lock_ms: int) -> DeliveryLease:
        """Some positions of a live lease are a lease of their own from now on, with the word that `next_word`
        returned. Answers name the lease with which they were acquired, see `part_with`."""
        whole = self.by_word[word]
        part = self.open(whole.consumer, runs, now_ms, lock_ms)
        self.note_origin(part, whole.origin)
        self.take(word, part.left)
        return part

    def note_origin(self, part: DeliveryLease, origin: int) -> None:
        """The positions of a live lease were acquired with this one."""
        part.origin = origin
        self.has_parts = True

    def part_with(self, lease_id: int, word: int) -> int:
        """The number of the lease with this word, if it is a part of that lease; else that of the lease."""
        lease = self.by_word.get(word)
        number, origin = (
            (lease.id, lease.origin) if lease is not None else self._ended_parts.get(word, (0, 0))
        )
        return number if origin == lease_id else lease_id

    def take(self, word: int, positions: int) -> None:
        """This number of positions of a live lease is leased no more; with the last one it is over."""
        lease = self.by_word[word]
        lease.left -= positions
        assert lease.left >= 0
        if not lease.left:
            self._close(lease)

    def _close(self, lease: DeliveryLease) -> None:
        del self.by_word[lease.id & WORD_MASK]
        if lease.origin != lease.id:
            self._ended_parts[lease.id & WORD_MASK] = lease.id, lease.origin
            if len(self._ended_parts) > ENDED_PARTS_MAX:
                del self._ended_parts[next(iter(self._ended_parts))]
        leases = self._by_consumer[lease.consumer]
        del leases[lease.id]
        if not leases:
            del self._by_consumer[lease.consumer]
        self._unschedule(lease)

    def _unschedule(self, lease: DeliveryLease) -> None:
        fifo = self._by_lock.get(lease.lock_ms)
        if fifo is not None and lease.deadline_ms is not None:
            del fifo[lease.id]
            if not fifo:
                del self._by_lock[lease.lock_ms], self._newest_ms[lease.lock_ms]

    def extend(self, lease_id: int, now_ms: int, lock_ms: int) -> bool:
        """Gives a live lease a new deadline, `lock_ms` from now (0: none). False: it is over."""
        lease = self.get(lease_id)
        if lease is None:
            return False
        self._unschedule(lease)
        lease.lock_ms, lease.deadline_ms = lock_ms, None
        if lock_ms:
            self._schedule(lease, now_ms)
        return True

    def expired(self, now_ms: int, max_positions: int | None = None) -> list[DeliveryLease]:
        """The live leases whose deadline has passed, the oldest first. With `max_positions`, those of each
        lock until they have this number of positions."""
        expired: list[DeliveryLease] = []
        for fifo in self._by_lock.values():
            left = 0
            for lease in fifo.values():
                assert lease.deadline_ms is not None
                if lease.deadline_ms > now_ms or (max_positions is not None and left >= max_positions):
                    break
                expired.append(lease)
                left += lease.left
        return sorted(expired, key=lambda lease: lease.id)

    def next_deadline_ms(self) -> int | None:
        """The earliest deadline."""
        heads: Iterable[DeliveryLease] = (next(iter(fifo.values())) for fifo in self._by_lock.values())
        return min((lease.deadline_ms for lease in heads if lease.deadline_ms is not None), default=None)

    @property
    def consumers(self) -> KeysView[str]:
        """The consumers that have live leases."""
        return self._by_consumer.keys()

    def of_consumer(self, consumer: str) -> list[DeliveryLease]:
        """The live leases of a consumer, the oldest first."""
        return list(self._by_consumer.get(consumer, {}).values())

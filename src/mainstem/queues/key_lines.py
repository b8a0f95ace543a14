"""What key order knows of a busy key and of a consumer: plain data, which `keys.py` changes.

Owns: the fields and what they mean. Refuses: rules.
"""

from __future__ import annotations


class KeyOwner:
    """A consumer that has leased events of some keys."""

    __slots__ = ("consumer", "heads", "keys", "slot")

    def __init__(self, consumer: str, slot: int) -> None:
        self.consumer = consumer
        self.slot = slot
        """Its number among the consumers that have something."""
        self.keys = 0
        """How many keys are leased to it."""
        self.heads: list[int] = []
        """Heap: for its keys, the first event that is not leased. Entries may be outdated."""


class KeyLine:
    """The outstanding events of one busy key, in the order in which they are offered. A key with a single
    event, which is leased, needs none."""

    __slots__ = ("high", "is_mixed", "key", "leased", "next", "owner", "pending", "positions")

    def __init__(self, key: int) -> None:
        self.key = key
        self.owner: KeyOwner | None = None
        """Who has the leased ones; None: none is leased."""
        self.positions: list[int] = []
        """Those before `next` are leased, the others pending. Those that are done stay until a compaction."""
        self.high = -1
        """The highest position that was ever in the line."""
        self.next = 0
        self.leased = 0
        """How many of them are leased."""
        self.pending = 0
        """How many of them are pending."""
        self.is_mixed = False
        """Whether a pending position may be lower than a leased one (after a redrive): not sorted then."""

"""Maps that can be walked over in many turns of the event loop while they change.

Owns: `WalkedMap` and `Versioned`, which copy what a walk may still read before they change it. A map of a
million names consists of a thousand parts, so that neither the beginning of a walk nor a change during one
touches all of them. Refuses: to know what the values are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar
from zlib import crc32

K = TypeVar("K")
I = TypeVar("I")
V = TypeVar("V")
W = TypeVar("W")

PARTS = 1024


class Versioned(dict[I, V]):
    """A dictionary that is changed only while its version is that of the map; else a copy of it is."""

    __slots__ = ("version",)
    version: int


class WalkedMap(Generic[V]):
    """A map from names to values. If these are changed in place, they are `Versioned` and `to_change` copies
    them."""

    def __init__(self) -> None:
        self._version = 0
        """Rises with each walk."""
        self._parts: dict[int, Versioned[str, V]] = {}

    def clear(self) -> None:
        """Remove all names. A walk still has them."""
        self._parts = {}

    def get(self, name: str) -> V | None:
        """The value of `name`; None if there is none."""
        part = self._parts.get(_part_of(name))
        return None if part is None else part.get(name)

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __setitem__(self, name: str, value: V) -> None:
        self.to_change(self._parts, _part_of(name))[name] = value

    def remove(self, name: str) -> None:
        """Remove `name`, if it is there."""
        if name in self:
            del self.to_change(self._parts, _part_of(name))[name]

    def change(self: WalkedMap[Versioned[I, W]], name: str) -> Versioned[I, W]:
        """The value of `name`, to be changed in place; a new one if there is none."""
        return self.to_change(self.to_change(self._parts, _part_of(name)), name)

    def to_change(self, container: dict[K, Versioned[I, W]], key: K) -> Versioned[I, W]:
        """The item of `container`, to be changed: a new one if there is none, a copy if a walk may read it.
        `container` itself is the map's own, or came from this method."""
        item = container.get(key)
        if item is None or item.version != self._version:
            item = container[key] = Versioned(item or ())
            item.version = self._version
        return item

    def walk(self) -> Iterator[tuple[str, V]]:
        """All names and values of this moment, also if the map changes before they are read. The caller
        changes none of the values."""
        self._version += 1
        return _items(list(self._parts.values()))


def _items(parts: list[Versioned[str, V]]) -> Iterator[tuple[str, V]]:
    while parts:
        # Not all parts to the end: what a change has replaced is freed in the turn that has read it.
        yield from parts.pop().items()


def _part_of(name: str) -> int:
    return crc32(name.encode()) % PARTS

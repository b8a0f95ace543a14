"""The frozen pages of a view, by their numbers.

Owns: a map of two levels, so that a page costs 8 bytes and its bytes where its neighbours are there too: a
dict of single pages takes 90. Refuses: to look into the bytes (`pages.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

_SHIFT = 4
_MASK = (1 << _SHIFT) - 1


class FrozenPages:
    """Number -> bytes, in groups of 16 numbers."""

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        self._groups: dict[int, list[bytes | None]] = {}

    def __contains__(self, index: int) -> bool:
        return self.get(index) is not None

    def __iter__(self) -> Iterator[int]:
        """The numbers, in no order. The map does not change meanwhile."""
        return (index for index, _ in self.items())

    def __setitem__(self, index: int, data: bytes) -> None:
        group = self._groups.get(index >> _SHIFT)
        if group is None:
            group = self._groups[index >> _SHIFT] = [None] * (_MASK + 1)
        group[index & _MASK] = data

    def get(self, index: int) -> bytes | None:
        """The page, or None."""
        group = self._groups.get(index >> _SHIFT)
        return None if group is None else group[index & _MASK]

    def pop(self, index: int) -> bytes | None:
        """Removes the page and returns it; None if there is none."""
        group = self._groups.get(index >> _SHIFT)
        if group is None:
            return None
        data, group[index & _MASK] = group[index & _MASK], None
        if data is not None and not any(group):
            del self._groups[index >> _SHIFT]
        return data

    def items(self) -> Iterator[tuple[int, bytes]]:
        """(number, page) of all, in no order. The map does not change meanwhile."""
        for number, group in self._groups.items():
            for place, data in enumerate(group):
                if data is not None:
                    yield (number << _SHIFT) + place, data

"""Files and folders of the simulated disk: what processes see, and what a power cut leaves.

Owns: `SimInode`, `SimFolder` and `NameChange`. Knows no calls and no faults: `simdisk.py` does.
"""

from __future__ import annotations

import random

PAGE = 4096


class SimInode:
    """One file: the bytes that processes see, those on the disk, and the unsynced changes between the two."""

    def __init__(self) -> None:
        self.seen = bytearray()
        self.disk = bytearray()
        self.unsynced: list[tuple[int, int, bytes | None]] = []
        """(number, position, data), or (number, size, None) for a truncation; in order."""
        self.number = 0
        self.failures = 0
        self.links = 1

    def write(self, position: int, data: bytes) -> None:
        _put(self.seen, position, data)
        self.number += 1
        self.unsynced.append((self.number, position, data))

    def truncate(self, size: int) -> None:
        _cut(self.seen, size)
        self.number += 1
        self.unsynced.append((self.number, size, None))

    def flush(self, number: int) -> None:
        """Unsynced changes up to `number` reach the disk."""
        count = 0
        for change_number, position, data in self.unsynced:
            if change_number > number:
                break
            count += 1
            if data is None:
                _cut(self.disk, position)
            else:
                _put(self.disk, position, data)
        del self.unsynced[:count]

    def lose(self, rng: random.Random) -> None:
        """A random subset of the unsynced changes reaches the disk; the others are lost."""
        keep = rng.choice((0.0, 0.3, 0.7, 1.0))
        for _, position, data in self.unsynced:
            if data is None:
                if rng.random() < keep:
                    _cut(self.disk, position)
                continue
            start = 0
            while start < len(data):
                end = min(len(data), (position + start) // PAGE * PAGE + PAGE - position)
                piece = data[start:end]
                fate = rng.random()
                if fate < keep:
                    _put(self.disk, position + start, piece)
                elif fate < keep + 0.1:
                    _put(self.disk, position + start, piece[: rng.randrange(len(piece) + 1)])
                elif fate < keep + 0.15 and position + start >= len(self.disk):
                    _put(self.disk, position + start, bytes(len(piece)))
                start = end
        self.unsynced = []


class SimFolder:
    """Files and folders by name: as processes see them, and as they are on the disk."""

    def __init__(self) -> None:
        self.seen: dict[str, SimInode | SimFolder] = {}
        self.disk: dict[str, SimInode | SimFolder] = {}


class NameChange:
    """One atomic change of names: (folder, name, the file or folder that has the name from now on)."""

    def __init__(self, number: int, parts: list[tuple[SimFolder, str, SimInode | SimFolder | None]]) -> None:
        self.number = number
        self.parts = parts


def _put(target: bytearray, position: int, data: bytes) -> None:
    if position > len(target):
        target.extend(bytes(position - len(target)))
    target[position : position + len(data)] = data


def _cut(target: bytearray, size: int) -> None:
    del target[size:]
    target.extend(bytes(size - len(target)))

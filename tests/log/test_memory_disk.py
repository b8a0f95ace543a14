"""The memory disk behaves as the real disk does: random calls have the same results and errors on both."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from mainstem.log.disk.contract import Disk, File
from mainstem.log.disk.memory_disk import MemoryDisk
from mainstem.log.disk.real_disk import RealDisk

FOLDERS = ("", "a", "a/b", "c")
NAMES = ("f", "g", "h")


class TwinCalls:
    """Makes each call on both disks and compares what happens."""

    def __init__(self, real: Disk, memory: Disk, rng: random.Random) -> None:
        self.disks = (real, memory)
        self.rng = rng
        self.open_files: list[tuple[File, File]] = []
        self.outcomes: set[str] = set()

    def path(self) -> str:
        folder = self.rng.choice(FOLDERS)
        name = self.rng.choice(NAMES)
        return f"{folder}/{name}" if folder else name

    def data(self) -> bytes:
        return self.rng.randbytes(self.rng.randrange(50))

    def same(self, call: Callable[[Disk], object]) -> None:
        outcomes = [outcome_of(lambda disk=disk: call(disk)) for disk in self.disks]  # type: ignore[misc]
        assert outcomes[0] == outcomes[1]
        self.outcomes.add(str(outcomes[0]) if isinstance(outcomes[0], type) else "result")

    def open(self, *, create: bool) -> None:
        path = self.path()
        pair: list[File] = []

        def opened(disk: Disk) -> None:
            pair.append(disk.open(path, create=create))

        self.same(opened)
        if pair:
            self.open_files.append((pair[0], pair[1]))

    def use_file(self) -> None:
        """One call on a file that was opened before, perhaps under a name that it no longer has."""
        if not self.open_files:
            return
        pair = self.rng.choice(self.open_files)
        position, size, data = self.rng.randrange(60), self.rng.randrange(60), self.data()
        call: Callable[[File], object] = self.rng.choice(
            [
                lambda file: file.pwrite(data, position),
                lambda file: file.pread(size, position),
                lambda file: read_nowait(file, size, position),
                lambda file: file.truncate(size),
                lambda file: file.size(),
            ]
        )
        outcomes = [outcome_of(lambda file=file: call(file)) for file in pair]  # type: ignore[misc]
        assert outcomes[0] == outcomes[1]

    def step(self) -> None:
        path, other, data = self.path(), self.path(), self.data()
        folder = self.rng.choice(FOLDERS[1:])
        calls: list[tuple[int, Callable[[], None]]] = [
            (3, lambda: self.same(lambda disk: disk.make_folder(folder))),
            (1, lambda: self.same(lambda disk: disk.remove_folder(folder))),
            (4, lambda: self.open(create=True)),
            (3, lambda: self.open(create=False)),
            (12, self.use_file),
            (2, lambda: self.same(lambda disk: disk.write_all(path, data))),
            (2, lambda: self.same(lambda disk: disk.append(path, data, len(data)))),
            (2, lambda: self.same(lambda disk: disk.replace_now(path, data))),
            (2, lambda: self.same(lambda disk: disk.rename(path, other))),
            (2, lambda: self.same(lambda disk: disk.unlink(path))),
            (2, lambda: self.same(lambda disk: disk.read_all(path))),
            (2, lambda: self.same(lambda disk: disk.size(path))),
            (2, lambda: self.same(lambda disk: disk.exists(path))),
            (2, lambda: self.same(lambda disk: disk.exists(folder))),
            (3, lambda: self.same(lambda disk: disk.list(folder))),
            (
                2,
                lambda: self.same(lambda disk: [name for name in disk.list("") if not name.endswith(".tmp")]),
            ),
            (1, lambda: self.same(lambda disk: disk.rename("a", "d"))),
            (1, lambda: self.same(lambda disk: disk.list("d/b"))),
            (1, lambda: self.same(lambda disk: disk.remove_folder("d"))),
        ]
        weights = [weight for weight, _ in calls]
        self.rng.choices([call for _, call in calls], weights)[0]()


def read_nowait(file: File, length: int, position: int) -> bytes:
    """Also what is not in the page cache, such as a hole of a real file."""
    data = file.pread_nowait(length, position)
    return file.pread(length, position) if data is None else bytes(data)


def outcome_of(call: Callable[[], object]) -> object:
    """The result, or the class of the OSError."""
    try:
        return call()
    except OSError as error:
        return type(error)


@pytest.mark.parametrize("seed", range(20))
def test_random_calls_have_the_same_outcome_on_both_disks(tmp_path: Path, seed: int) -> None:
    async def compare() -> None:
        real = RealDisk(tmp_path / "data", asyncio.get_running_loop())
        real.make_folder("")
        twins = TwinCalls(real, MemoryDisk(), random.Random(seed))
        try:
            for _ in range(400):
                twins.step()
        finally:
            real.close()
        assert {"result", str(FileNotFoundError), str(FileExistsError)} <= twins.outcomes

    asyncio.run(compare())


def test_a_second_log_is_refused_until_the_first_is_closed() -> None:
    disk = MemoryDisk()
    disk.lock(".lock")
    with pytest.raises(BlockingIOError):
        disk.lock(".lock")
    disk.close()
    disk.lock(".lock")

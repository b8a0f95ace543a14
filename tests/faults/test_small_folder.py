"""A small data folder, hurt in every place there is: each byte flipped, each length cut, zeros and garbage
behind the end; and started again, and again."""

from __future__ import annotations

import random
from uuid import UUID

import pytest

from mainstem.log.commit.journal_format import BLOCK
from mainstem.log.config import LogConfig
from mainstem.log.errors import LogError, LogFolderError
from mainstem.log.log import Log
from mainstem.log.storage import record_batch as batches
from mainstem.log.storage.record_batch import CRC_FROM, read_header
from tests.support.clock import SimClock
from tests.support.fake_disk import FakeDisk

TOPIC = UUID(int=7)
EVENTS = 6
CONFIG = LogConfig(
    journal_file_bytes=64 << 10, first_journal_file_bytes=64 << 10, journal_files=2, direct_sync_bytes=1024
)
Files = dict[str, bytes]


class StartedLog:
    """A log that was started on a copy of these files."""

    def __init__(self, files: Files) -> None:
        self.clock = SimClock()
        self.disk = FakeDisk(self.clock)
        self.disk.files = {path: bytearray(data) for path, data in files.items()}
        self.disk.folders = {path.rpartition("/")[0] for path in files}
        self.log = Log.open(self.disk, self.clock, random.Random(3), CONFIG)
        self.report = self.log.recover(lambda _: "live")
        self.clock.advance(1)
        self.partition = self.log.partition(TOPIC, 0)

    def append(self, number: int) -> int:
        data = batches.build([(None, f"event {number}".encode(), (), 1_356_998_400_000)])
        appended = self.partition.append(memoryview(data))
        done = self.partition.when_committed(appended.next_offset)
        self.clock.advance(1)
        done.result()
        return appended.base_offset

    def killed(self) -> Files:
        return {path: bytes(data) for path, data in self.disk.files.items()}

    def stopped(self) -> Files:
        closed = self.log.close()
        self.clock.advance(1)
        assert closed.done
        return self.killed()

    def bodies(self) -> dict[int, bytes]:
        """Offset -> the batch's body as a reader gets it; damaged batches are left out."""
        bodies = {}
        for offset in range(self.partition.log_start_offset, self.partition.high_watermark):
            try:
                data = bytes(self.partition.read_blocking(offset, 1).data)
            except LogError:
                continue
            assert read_header(data).base_offset == offset
            bodies[offset] = data[CRC_FROM:]
        return bodies


@pytest.fixture(scope="module")
def written() -> tuple[Files, Files, dict[int, bytes]]:
    """A folder after kill -9, the same after a clean stop, and what is in both."""
    start = StartedLog({})
    assert [start.append(number) for number in range(EVENTS)] == list(range(EVENTS))
    killed, whole = start.killed(), start.bodies()
    assert len(whole) == EVENTS
    return killed, start.stopped(), whole


def segment(files: Files) -> str:
    (path,) = [path for path in files if path.endswith(".log") and TOPIC.hex in path]
    return path


def goes_on(files: Files, whole: dict[int, bytes]) -> None:
    """All is there; what is appended follows; so it stays over two more deaths."""
    for life in range(3):
        start = StartedLog(files)
        assert start.bodies().items() >= whole.items()
        assert start.partition.fence_reason is None
        assert start.append(100 + life) == EVENTS + life
        files = start.killed()


def test_a_tail_that_is_cut_anywhere_is_whole_after_the_start(
    written: tuple[Files, Files, dict[int, bytes]],
) -> None:
    killed, _, whole = written
    path = segment(killed)
    for length in range(len(killed[path])):
        damaged = killed | {path: killed[path][:length]}
        assert StartedLog(damaged).report.replayed_bytes >= len(killed[path]) - length
        goes_on(damaged, whole)


@pytest.mark.parametrize("filling", [b"\0", b"\xff", b"\x02", b"event"])
def test_bytes_after_the_end_are_never_taken_for_events(
    written: tuple[Files, Files, dict[int, bytes]], filling: bytes
) -> None:
    killed, _, whole = written
    path = segment(killed)
    for length in (1, 7, 11, 12, 60, 61, 62, 100, 511, 512, 4095, 4096, 4097, 8192, 70_000):
        tail = (filling * length)[:length]
        damaged = killed | {path: killed[path] + tail}
        report = StartedLog(damaged).report
        assert report.truncated_bytes == length
        assert [note for note in report.notes if f"cut {length} bytes" in note]
        goes_on(damaged, whole)


def bytes_to_flip(path: str, data: bytes) -> list[int]:
    """Each byte that is in use, and each 61st of the zeros that fill up a journal file's blocks: with all of
    them the test takes minutes on a busy machine."""
    if not path.startswith("journal/"):
        return list(range(len(data)))
    chosen: list[int] = []
    for block in range(0, len(data), BLOCK):
        used = len(data[block : block + BLOCK].rstrip(b"\0"))
        if used:
            chosen += [*range(block, block + used), *range(block + used, block + BLOCK, 61)]
    return chosen


def test_any_flipped_byte_of_an_unclean_folder_loses_nothing(
    written: tuple[Files, Files, dict[int, bytes]],
) -> None:
    """The journal has what the segment loses, and the segment has what the journal loses."""
    killed, _, whole = written
    for path in sorted(killed):
        for index in bytes_to_flip(path, killed[path]):
            damaged = bytearray(killed[path])
            damaged[index] ^= 1 << index % 8
            try:
                start = StartedLog(killed | {path: bytes(damaged)})
            except LogFolderError:
                assert path == "meta.properties", f"{path} {index}: refused"
                continue
            assert start.bodies().items() >= whole.items(), f"{path} {index}"


def test_any_flipped_byte_of_a_clean_folder_loses_its_own_batch_at_most(
    written: tuple[Files, Files, dict[int, bytes]],
) -> None:
    _, clean, whole = written
    segment_path = segment(clean)
    for path in sorted(clean):
        if path.startswith("journal/"):
            continue
        for index in range(len(clean[path])):
            damaged = bytearray(clean[path])
            damaged[index] ^= 1 << index % 8
            try:
                bodies = StartedLog(clean | {path: bytes(damaged)}).bodies()
            except LogFolderError:
                assert path == "meta.properties", f"{path} {index}: refused"
                continue
            assert bodies.items() <= whole.items(), f"{path} {index}: other bytes were served"
            assert len(bodies) >= EVENTS - (path == segment_path), f"{path} {index}"

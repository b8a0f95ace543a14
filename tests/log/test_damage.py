"""Damaged segments and indexes (FAULTS rows 1 to 5): what surrounds the damage is still read, and every scan
ends."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from mainstem.log.config import PartitionConfig
from mainstem.log.errors import CorruptBatch, OffsetOutOfRange, StorageError
from mainstem.log.offline.inspect import InspectedBatch, InspectedDamage, inspect
from mainstem.log.partition.offset_lookup import TimedOffset
from mainstem.log.partition.partition import BatchSlice
from mainstem.log.storage.record_batch import decode, iter_batches, read_header
from mainstem.promise import Promise
from tests.log.batches import batch
from tests.log.partition_rig import PartitionRig

CONFIG = PartitionConfig(segment_bytes=900, index_interval_bytes=150)
BATCHES = 12


def filled(*, cold: bool = False) -> tuple[PartitionRig, list[tuple[str, int, int, int, int]]]:
    """A partition of several segments, restarted, and (path, position, end, base offset, next offset) of each
    batch. `cold`: nothing is in the page cache."""
    rig = PartitionRig(CONFIG)
    for n in range(BATCHES):
        rig.partition.append(batch(1 + n % 3, size=40, timestamp_ms=1000 + 10 * n))
    rig.restart()
    rig.disk.cold = cold
    placed = [
        (segment.path, position, position + header.total_bytes, header.base_offset, header.next_offset)
        for segment in rig.partition.segments
        for position, header in iter_batches(rig.disk.files[segment.path])
    ]
    assert len(rig.partition.segments) > 2
    return rig, placed


def result_of(rig: PartitionRig, value: object) -> object:
    if isinstance(value, Promise):
        rig.wait(value)
        return value.result()
    return value


def readable(rig: PartitionRig) -> set[int]:
    """Every offset that can be read by a request of its own."""
    offsets: set[int] = set()
    for offset in range(rig.partition.log_start_offset, rig.partition.high_watermark):
        try:
            part = result_of(rig, rig.partition.read(offset, 1))
        except CorruptBatch:
            continue
        assert isinstance(part, BatchSlice)
        records = [record.offset for record in decode(bytes(part.data))]
        assert offset in records
        offsets |= set(records)
    return offsets


def sequential(rig: PartitionRig) -> set[int]:
    """Every offset that a consumer reads that continues where damage ends."""
    offsets: set[int] = set()
    offset = rig.partition.log_start_offset
    while offset < rig.partition.high_watermark:
        try:
            part = result_of(rig, rig.partition.read(offset, 500))
        except CorruptBatch as error:
            after = int(str(error).rsplit(" ", 1)[1])
            assert after > offset
            offset = after
            continue
        assert isinstance(part, BatchSlice)
        for position, header in iter_batches(part.data):
            whole = bytes(part.data[position : position + header.total_bytes])
            offsets |= {record.offset for record in decode(whole)}
        assert part.next_offset > offset
        offset = part.next_offset
    return offsets


def reported(rig: PartitionRig) -> set[int]:
    """Every offset that the error of a read names as damaged."""
    offsets: set[int] = set()
    for offset in range(rig.partition.log_start_offset, rig.partition.high_watermark):
        try:
            result_of(rig, rig.partition.read(offset, 1))
        except CorruptBatch as error:
            ((first, last),) = re.findall(r"offsets (\d+) to (\d+) are damaged", str(error))
            named = set(range(int(first), int(last) + 1))
        else:
            continue
        assert offset in named
        offsets |= named
    return offsets


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("which", [0, 1, 3, BATCHES - 1])
def test_any_flipped_byte_loses_at_most_its_own_batch(which: int, cold: bool) -> None:
    _, placed = filled()
    _, position, end, base, next_offset = placed[which]
    for flipped in range(position, end, 1 if not cold else 7):
        rig, placed = filled(cold=cold)
        path = placed[which][0]
        rig.disk.files[path][flipped] ^= 0xFF
        lost = set(range(base, next_offset))
        everything = set(range(rig.partition.high_watermark))
        if position + 12 <= flipped < position + 16:
            lost = set()  # no checksum covers the leader epoch
        assert readable(rig) == everything - lost, flipped
        second_rig, _ = filled(cold=cold)
        second_rig.disk.files[path][flipped] ^= 0xFF
        assert sequential(second_rig) == everything - lost, flipped


def test_reads_continue_after_damage_over_many_batches() -> None:
    for seed in range(60):
        rng = random.Random(seed)
        rig, placed = filled(cold=bool(seed % 2))
        path, first, *_ = rng.choice(placed)
        data = rig.disk.files[path]
        length = rng.randint(1, 400)
        for index in range(first, min(first + length, len(data))):
            data[index] = rng.choice((0, rng.randrange(256)))
        damaged = {
            offset
            for batch_path, start, end, base, next_offset in placed
            if batch_path == path and start < first + length and end > first
            for offset in range(base, next_offset)
        }
        everything = set(range(rig.partition.high_watermark))
        assert everything - damaged <= sequential(rig)
        assert everything - damaged <= readable(rig)
        assert readable(rig) | reported(rig) == everything
        for timestamp in (0, 1050, 1100):
            record = result_of(rig, rig.partition.offset_for_time(timestamp))
            assert record is None or isinstance(record, TimedOffset)


def test_a_truncated_file_loses_only_its_end() -> None:
    rig, placed = filled()
    path = placed[0][0]
    of_file = [place for place in placed if place[0] == path]
    end = max(end for _, _, end, _, _ in of_file)
    for size in range(0, end, 13):
        rig, placed = filled()
        for segment in rig.partition.segments:
            assert segment.size, "each segment knows its size from before the cut"
        del rig.disk.files[path][size:]
        remaining = {
            offset
            for batch_path, _, end_position, base, next_offset in placed
            if batch_path != path or end_position <= size
            for offset in range(base, next_offset)
        }
        assert readable(rig) == remaining
        assert reported(rig) == set(range(rig.partition.high_watermark)) - remaining


def break_nothing(data: bytearray) -> bytearray:
    return data


def empty(data: bytearray) -> bytearray:
    return bytearray()


def torn(data: bytearray) -> bytearray:
    return data[: len(data) // 2 + 3]


def zeros(data: bytearray) -> bytearray:
    return bytearray(len(data))


def ahead(data: bytearray) -> bytearray:
    return data + struct.pack(">II", 1_000_000, 1_000_000)


def shifted(data: bytearray) -> bytearray:
    """Plausible and wrong: each position is one byte off."""
    shifted_data = bytearray(data)
    for index in range(4, len(data) - 3, 8):
        struct.pack_into(">I", shifted_data, index, struct.unpack_from(">I", data, index)[0] + 1)
    return shifted_data


def noise(data: bytearray) -> bytearray:
    return bytearray(random.Random(1).randbytes(len(data) + 5))


BREAKS = (break_nothing, empty, torn, zeros, ahead, shifted, noise)


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("suffix", [".index", ".timeindex", ".arrivals", "producers.snapshot", "-checkpoint"])
@pytest.mark.parametrize("break_it", BREAKS)
def test_side_files_may_hold_anything(
    suffix: str, break_it: Callable[[bytearray], bytearray], cold: bool
) -> None:
    rig, _ = filled(cold=cold)
    for path in list(rig.disk.files):
        if path.endswith(suffix):
            rig.disk.files[path] = break_it(rig.disk.files[path])
    rig.open(rig.state())
    end = rig.partition.high_watermark
    assert readable(rig) == set(range(end))
    for n in range(BATCHES):
        record = result_of(rig, rig.partition.offset_for_time(1000 + 10 * n))
        assert isinstance(record, TimedOffset)
        if suffix != ".timeindex" or break_it in (break_nothing, empty, noise):
            assert record.timestamp_ms == 1000 + 10 * n
    for _ in range(10):
        rig.partition.append(batch(2, size=40, producer=(-1, -1, -1), timestamp_ms=5000))
    assert readable(rig) == set(range(end + 20))
    rig.restart()
    assert readable(rig) == set(range(end + 20))


@pytest.mark.parametrize("cold", [False, True])
def test_swapped_index_files_of_two_segments_are_not_trusted(cold: bool) -> None:
    rig, placed = filled(cold=cold)
    first, second = sorted({path for path, *_ in placed})[:2]
    files = rig.disk.files
    for suffix in (".index", ".timeindex"):
        path, other_path = first.replace(".log", suffix), second.replace(".log", suffix)
        files[path], files[other_path] = files[other_path], files[path]
    assert readable(rig) == set(range(rig.partition.high_watermark))


def test_a_failing_read_fails_one_read_and_not_the_partition() -> None:
    rig, _ = filled()
    rig.disk.fail = lambda call, path: call == "pread_nowait"
    with pytest.raises(StorageError):
        rig.partition.read(0, 100)
    pending_read = rig.partition.offset_for_time(1000)
    assert isinstance(pending_read.error, StorageError)
    rig.disk.fail = lambda call, path: False
    assert read_header(rig.partition.read_blocking(0, 100).data).base_offset == 0


def test_a_failing_read_of_a_sequential_reader_fails_with_the_same_error() -> None:
    rig, _ = filled()
    sequential(rig)
    read = rig.partition.read(0, 100)
    assert isinstance(read, BatchSlice)
    rig.disk.fail = lambda call, path: call == "pread_nowait"  # as without descriptors
    with pytest.raises(StorageError):
        rig.partition.read(read.next_offset, 1 << 20)


def test_an_uncached_read_that_fails_in_the_sync_process_fails_its_promise() -> None:
    rig, _ = filled(cold=True)
    rig.disk.prefetch = lambda file, position, length: Promise.failed(OSError("the disk failed"))  # type: ignore[method-assign]
    pending_read = rig.partition.read(0, 100)
    assert isinstance(pending_read, Promise)
    assert isinstance(pending_read.error, StorageError)


def test_pages_evicted_right_after_the_prefetch_are_read_blocking() -> None:
    rig, _ = filled(cold=True)
    rig.disk.prefetch = lambda file, position, length: Promise.resolved(None)  # type: ignore[method-assign]
    pending_read = rig.partition.read(0, 100)
    assert isinstance(pending_read, Promise)
    assert read_header(pending_read.result().data).base_offset == 0


def test_offsets_outside_the_log_are_refused_and_the_end_is_empty() -> None:
    rig, _ = filled()
    end = rig.partition.high_watermark
    assert bytes(rig.partition.read_blocking(end, 100).data) == b""
    for offset in (-1, end + 1, 1 << 62):
        with pytest.raises(OffsetOutOfRange):
            rig.partition.read(offset, 100)


# --- inspect ------------------------------------------------------------------------------------------------


def segment_file(tmp_path: Path) -> tuple[Path, bytearray]:
    rig, placed = filled()
    path = placed[0][0]
    return tmp_path / path.rpartition("/")[2], rig.disk.files[path]


def test_inspect_lists_each_batch_of_a_whole_file(tmp_path: Path) -> None:
    path, data = segment_file(tmp_path)
    path.write_bytes(data)
    parts = list(inspect(str(path)))
    assert all(
        isinstance(part, InspectedBatch) and part.crc_ok and not part.is_out_of_sequence for part in parts
    )
    assert len(parts) == len(list(iter_batches(data)))


def test_inspect_reports_damaged_bytes_and_continues(tmp_path: Path) -> None:
    path, data = segment_file(tmp_path)
    positions = [position for position, _ in iter_batches(data)]
    broken = bytearray(data)
    broken[positions[1] + 16] = 77
    broken[positions[3] + 70] ^= 1
    path.write_bytes(broken + bytes(5000))
    parts = list(inspect(str(path)))
    assert [type(part) for part in parts[:3]] == [InspectedBatch, InspectedDamage, InspectedBatch]
    assert parts[1] == InspectedDamage(positions[1], positions[2], zeros=False)
    damaged = [part for part in parts if isinstance(part, InspectedBatch) and not part.crc_ok]
    assert [part.position for part in damaged] == [positions[3]]
    assert parts[-1] == InspectedDamage(len(data), len(data) + 5000, zeros=True)


def test_inspect_terminates_on_any_bytes(tmp_path: Path) -> None:
    path, data = segment_file(tmp_path)
    rng = random.Random(5)
    for _ in range(100):
        broken = bytearray(data)
        for _ in range(rng.randint(1, 40)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        path.write_bytes(broken[: rng.randint(0, len(broken))])
        position = 0
        for part in inspect(str(path)):
            assert part.position == position
            if isinstance(part, InspectedDamage):
                position = part.end_position
            else:
                position += part.header.total_bytes
        assert position == path.stat().st_size

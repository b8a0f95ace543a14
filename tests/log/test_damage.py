"""Damaged segments and indexes (FAULTS rows 1 to 5): what is around is still read, nothing runs in
circles."""

from __future__ import annotations

import random
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
from tests.support.memdisk import PartitionRig

CONFIG = PartitionConfig(segment_bytes=900, index_interval_bytes=150)
BATCHES = 12


def filled(*, cold: bool = False) -> tuple[PartitionRig, list[tuple[str, int, int, int, int]]]:
    """A partition of several segments, started anew; (path, position, end, base offset, next offset) of its
    batches."""
    bench = PartitionRig(CONFIG)
    for n in range(BATCHES):
        bench.partition.append(batch(1 + n % 3, size=40, timestamp_ms=1000 + 10 * n))
    bench.restart()
    bench.disk.cold = cold
    placed = [
        (segment.path, at, at + header.total_bytes, header.base_offset, header.next_offset)
        for segment in bench.partition.segments
        for at, header in iter_batches(bench.disk.files[segment.path])
    ]
    assert len(bench.partition.segments) > 2
    return bench, placed


def result_of(bench: PartitionRig, value: object) -> object:
    if isinstance(value, Promise):
        bench.wait(value)
        return value.result()
    return value


def readable(bench: PartitionRig) -> set[int]:
    """Every offset that can be read, each asked for by itself."""
    found: set[int] = set()
    for offset in range(bench.partition.log_start_offset, bench.partition.high_watermark):
        try:
            part = result_of(bench, bench.partition.read(offset, 1))
        except CorruptBatch:
            continue
        assert isinstance(part, BatchSlice)
        records = [record.offset for record in decode(bytes(part.data))]
        assert offset in records
        found |= set(records)
    return found


def sequential(bench: PartitionRig) -> set[int]:
    """Every offset that a consumer gets that goes on where damage ends."""
    found: set[int] = set()
    at = bench.partition.log_start_offset
    while at < bench.partition.high_watermark:
        try:
            part = result_of(bench, bench.partition.read(at, 500))
        except CorruptBatch as error:
            after = int(str(error).rsplit(" ", 1)[1])
            assert after > at
            at = after
            continue
        assert isinstance(part, BatchSlice)
        for position, header in iter_batches(part.data):
            whole = bytes(part.data[position : position + header.total_bytes])
            found |= {record.offset for record in decode(whole)}
        assert part.next_offset > at
        at = part.next_offset
    return found


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("which", [0, 1, 3, BATCHES - 1])
def test_any_flipped_byte_loses_at_most_its_own_batch(which: int, cold: bool) -> None:
    _, placed = filled()
    _, position, end, base, next_offset = placed[which]
    for at in range(position, end, 1 if not cold else 7):
        bench, placed = filled(cold=cold)
        path = placed[which][0]
        bench.disk.files[path][at] ^= 0xFF
        lost = set(range(base, next_offset))
        everything = set(range(bench.partition.high_watermark))
        if position + 12 <= at < position + 16:
            lost = set()  # the leader epoch is under no checksum
        assert readable(bench) == everything - lost, at
        again, _ = filled(cold=cold)
        again.disk.files[path][at] ^= 0xFF
        assert sequential(again) == everything - lost, at


def test_reads_continue_after_damage_over_many_batches() -> None:
    for seed in range(60):
        rng = random.Random(seed)
        bench, placed = filled(cold=bool(seed % 2))
        path, first, *_ = rng.choice(placed)
        data = bench.disk.files[path]
        length = rng.randint(1, 400)
        for at in range(first, min(first + length, len(data))):
            data[at] = rng.choice((0, rng.randrange(256)))
        hurt = {
            offset
            for where, start, end, base, next_offset in placed
            if where == path and start < first + length and end > first
            for offset in range(base, next_offset)
        }
        everything = set(range(bench.partition.high_watermark))
        assert everything - hurt <= sequential(bench)
        assert everything - hurt <= readable(bench)
        for timestamp in (0, 1050, 1100):
            found = result_of(bench, bench.partition.offset_for_time(timestamp))
            assert found is None or isinstance(found, TimedOffset)


def test_a_truncated_file_loses_only_its_end() -> None:
    bench, placed = filled()
    path = placed[0][0]
    end = max(end for where, _, end, _, _ in placed if where == path)
    mine = [one for one in placed if one[0] == path]
    for size in range(0, end, 13):
        bench, placed = filled()
        _ = [segment.size for segment in bench.partition.segments]
        del bench.disk.files[path][size:]
        kept = {offset for one in mine if one[2] <= size for offset in range(one[3], one[4])}
        others = {offset for one in placed if one[0] != path for offset in range(one[3], one[4])}
        assert readable(bench) == kept | others


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
    """Plausible, and wrong: each position one byte off."""
    out = bytearray(data)
    for at in range(4, len(out) - 3, 8):
        struct.pack_into(">I", out, at, struct.unpack_from(">I", out, at)[0] + 1)
    return out


def noise(data: bytearray) -> bytearray:
    return bytearray(random.Random(1).randbytes(len(data) + 5))


BREAKS = (break_nothing, empty, torn, zeros, ahead, shifted, noise)


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("suffix", [".index", ".timeindex", ".arrivals", "producers.snapshot", "-checkpoint"])
@pytest.mark.parametrize("break_it", BREAKS)
def test_side_files_may_hold_anything(
    suffix: str, break_it: Callable[[bytearray], bytearray], cold: bool
) -> None:
    bench, _ = filled(cold=cold)
    for path in list(bench.disk.files):
        if path.endswith(suffix):
            bench.disk.files[path] = break_it(bench.disk.files[path])
    bench.open(bench.state())
    end = bench.partition.high_watermark
    assert readable(bench) == set(range(end))
    for n in range(BATCHES):
        found = result_of(bench, bench.partition.offset_for_time(1000 + 10 * n))
        assert isinstance(found, TimedOffset)
        if suffix != ".timeindex" or break_it in (break_nothing, empty, noise):
            assert found.timestamp_ms == 1000 + 10 * n
    for _ in range(10):
        bench.partition.append(batch(2, size=40, producer=(-1, -1, -1), timestamp_ms=5000))
    assert readable(bench) == set(range(end + 20))
    bench.restart()
    assert readable(bench) == set(range(end + 20))


@pytest.mark.parametrize("cold", [False, True])
def test_swapped_index_files_of_two_segments_are_not_trusted(cold: bool) -> None:
    bench, placed = filled(cold=cold)
    first, second = sorted({one[0] for one in placed})[:2]
    for suffix in (".index", ".timeindex"):
        a, b = first.replace(".log", suffix), second.replace(".log", suffix)
        files = bench.disk.files
        files[a], files[b] = files[b], files[a]
    assert readable(bench) == set(range(bench.partition.high_watermark))


def test_a_failing_read_fails_one_read_and_not_the_partition() -> None:
    bench, _ = filled()
    bench.disk.fail = lambda call, path: call == "pread_nowait"
    with pytest.raises(StorageError):
        bench.partition.read(0, 100)
    later = bench.partition.offset_for_time(1000)
    assert isinstance(later.error, StorageError)
    bench.disk.fail = lambda call, path: False
    assert read_header(bench.partition.read_blocking(0, 100).data).base_offset == 0


def test_an_uncached_read_that_fails_in_the_sync_process_fails_its_promise() -> None:
    bench, _ = filled(cold=True)
    bench.disk.prefetch = lambda file, position, length: Promise.failed(OSError("no such luck"))  # type: ignore[method-assign]
    later = bench.partition.read(0, 100)
    assert isinstance(later, Promise)
    assert isinstance(later.error, StorageError)


def test_pages_evicted_right_after_the_prefetch_are_read_blocking() -> None:
    bench, _ = filled(cold=True)
    bench.disk.prefetch = lambda file, position, length: Promise.resolved(None)  # type: ignore[method-assign]
    later = bench.partition.read(0, 100)
    assert isinstance(later, Promise)
    assert read_header(later.result().data).base_offset == 0


def test_offsets_outside_the_log_are_refused_and_the_end_is_empty() -> None:
    bench, _ = filled()
    end = bench.partition.high_watermark
    assert bytes(bench.partition.read_blocking(end, 100).data) == b""
    for offset in (-1, end + 1, 1 << 62):
        with pytest.raises(OffsetOutOfRange):
            bench.partition.read(offset, 100)


# --- inspect ------------------------------------------------------------------------------------------------


def segment_file(tmp_path: Path) -> tuple[Path, bytearray]:
    bench, placed = filled()
    path = placed[0][0]
    return tmp_path / path.rpartition("/")[2], bench.disk.files[path]


def test_inspect_lists_each_batch_of_a_whole_file(tmp_path: Path) -> None:
    path, data = segment_file(tmp_path)
    path.write_bytes(data)
    found = list(inspect(str(path)))
    assert all(isinstance(one, InspectedBatch) and one.crc_ok and not one.is_out_of_sequence for one in found)
    assert len(found) == len(list(iter_batches(data)))


def test_inspect_reports_damaged_bytes_and_continues(tmp_path: Path) -> None:
    path, data = segment_file(tmp_path)
    places = [at for at, _ in iter_batches(data)]
    broken = bytearray(data)
    broken[places[1] + 16] = 77
    broken[places[3] + 70] ^= 1
    path.write_bytes(broken + bytes(5000))
    found = list(inspect(str(path)))
    assert [type(one) for one in found[:3]] == [InspectedBatch, InspectedDamage, InspectedBatch]
    assert found[1] == InspectedDamage(places[1], places[2], zeros=False)
    hurt = [one for one in found if isinstance(one, InspectedBatch) and not one.crc_ok]
    assert [one.position for one in hurt] == [places[3]]
    assert found[-1] == InspectedDamage(len(data), len(data) + 5000, zeros=True)


def test_inspect_terminates_on_any_bytes(tmp_path: Path) -> None:
    path, data = segment_file(tmp_path)
    rng = random.Random(5)
    for _ in range(100):
        broken = bytearray(data)
        for _ in range(rng.randint(1, 40)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        path.write_bytes(broken[: rng.randint(0, len(broken))])
        at = 0
        for one in inspect(str(path)):
            assert one.position == at
            at = one.end_position if isinstance(one, InspectedDamage) else at + one.header.total_bytes
        assert at == path.stat().st_size

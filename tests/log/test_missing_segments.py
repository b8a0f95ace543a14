"""A sealed segment that is missing, emptied or cut is damage of exactly the offsets that it lost: the start
names them, reading refuses them, everything else is served (FORMAT.md, part "Removed ranges")."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mainstem.contract import Position
from mainstem.log import paths
from mainstem.log.commit import checkpoint as checkpoints
from mainstem.log.config import LogConfig
from mainstem.log.disk.contract import File
from mainstem.log.offline.doctor import FolderExamination
from mainstem.log.recovery import meta
from mainstem.log.storage.record_batch import read_header
from mainstem.promise import Promise
from mainstem.search.contract import SearchRequest
from tests.log.logs import CONFIG, OS, SMALL, TOPIC, LogRig, read_around_damage
from tests.search.search_rig import NOW_MS, Row, SearchRig, open_search_rig, run

FOLDER = paths.partition_folder(TOPIC, 0)
Damage = Callable[[LogRig, list[int]], tuple[int, int]]
"""Damages segments (their base offsets are given); the first offset lost, and the next one that is not."""


def filled(*, config: LogConfig = CONFIG) -> LogRig:
    """A log with seven segments or more, that was stopped cleanly."""
    rig = LogRig(config=config).start()
    rig.partition(config=SMALL)
    rig.write(60, size=500)
    assert len(rig.partition().segments) >= 7
    return rig


def bases(rig: LogRig) -> list[int]:
    parsed = (paths.parse_segment(name) for name in rig.disk.list(FOLDER))
    return [base for base in parsed if base is not None]


def path_of(base: int) -> str:
    return f"{FOLDER}/{paths.segment_name(base)}"


def make_durable(rig: LogRig) -> None:
    """Sync what was done to the partition's files, so that the power cut of a stop does not undo it."""
    files = [rig.disk.open(f"{FOLDER}/{name}") for name in rig.disk.list(FOLDER)]
    rig.disk.sync_now(files, [FOLDER] if files else [])
    rig.disk.sync_now([], [paths.PARTITIONS])


def remove(rig: LogRig, base: int) -> None:
    for suffix in (".log", ".index", ".timeindex", ".arrivals"):
        rig.disk.unlink(path_of(base).removesuffix(".log") + suffix)


def cut(rig: LogRig, base: int, batch: int, *, extra: int = 0) -> int:
    """Cut a segment after some batches, or within the next one; the first offset lost."""
    file = rig.disk.open(path_of(base))
    position, offset = 0, base
    for _ in range(batch):
        header = read_header(file.pread(100, position))
        position, offset = position + header.total_bytes, header.next_offset
    file.truncate(position + extra)
    file.close()
    return offset


def remove_middle(rig: LogRig, segments: list[int]) -> tuple[int, int]:
    remove(rig, segments[2])
    return segments[2], segments[3]


def remove_first(rig: LogRig, segments: list[int]) -> tuple[int, int]:
    remove(rig, segments[0])
    return segments[0], segments[1]


def remove_newest_sealed(rig: LogRig, segments: list[int]) -> tuple[int, int]:
    remove(rig, segments[-2])
    return segments[-2], segments[-1]


def remove_two_with_every_index(rig: LogRig, segments: list[int]) -> tuple[int, int]:
    remove(rig, segments[2])
    remove(rig, segments[3])
    for base in segments:
        rig.disk.unlink(path_of(base).removesuffix(".log") + ".index")
    return segments[2], segments[4]


def empty(rig: LogRig, segments: list[int]) -> tuple[int, int]:
    return cut(rig, segments[2], 0), segments[3]


def empty_first(rig: LogRig, segments: list[int]) -> tuple[int, int]:
    return cut(rig, segments[0], 0), segments[1]


def cut_at_a_batch(rig: LogRig, segments: list[int]) -> tuple[int, int]:
    return cut(rig, segments[2], 3), segments[3]


def cut_within_a_batch(rig: LogRig, segments: list[int]) -> tuple[int, int]:
    return cut(rig, segments[2], 3, extra=100), segments[3]


def put_another_there(rig: LogRig, segments: list[int]) -> tuple[int, int]:
    """The file of a later segment, which is larger."""
    data = rig.disk.read_all(path_of(segments[3])) + rig.disk.read_all(path_of(segments[4]))
    rig.disk.write_all(path_of(segments[2]), data)
    return segments[2], segments[3]


DAMAGES: list[Damage] = [
    remove_middle, remove_first, remove_newest_sealed, remove_two_with_every_index, empty, empty_first,
    cut_at_a_batch, cut_within_a_batch, put_another_there,
]  # fmt: skip


def lost(rig: LogRig) -> list[tuple[int, int]]:
    """The damaged offsets that the log knows, adjacent ranges joined."""
    ranges: list[tuple[int, int]] = []
    for _, first, following in rig.log.damaged_offsets():
        if ranges and ranges[-1][1] == first:
            ranges[-1] = (ranges[-1][0], following)
        else:
            ranges.append((first, following))
    return ranges


@pytest.mark.parametrize("stop", ["clean", "kill"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_every_start_names_the_offsets_that_are_lost_and_serves_all_others(
    damage: Damage, stop: str, caplog: pytest.LogCaptureFixture
) -> None:
    rig = filled()
    if stop == "clean":
        rig.stop()
    else:
        rig.log.checkpoint()
        rig.settle(5)
        rig.write(1, size=500)
        rig.crash("kill")
    gap = damage(rig, bases(rig))
    make_durable(rig)
    for _ in range(2):  # the checkpoint of the first start must not make the damage the normal state
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            rig.start()
        assert lost(rig) == [gap]
        assert "run `mainstem doctor`" in caplog.text
        assert str(gap[0]) in caplog.text
        readable, refused = read_around_damage(rig.partition())
        assert refused == set(range(*gap))
        assert readable == set(range(rig.partition().high_watermark)) - refused
        assert rig.partition().fence_reason is None
        rig.write(1)  # new events are taken
        rig.stop()


def test_a_look_up_by_time_returns_the_next_event_that_is_there() -> None:
    rig = filled().stop()
    segments = bases(rig)
    remove(rig, segments[2])
    rig.start()
    looking = rig.partition().offset_for_time(0)
    rig.settle()
    record = looking.result()
    assert record is not None
    assert record.offset == 0


def test_a_partition_without_its_folder_is_lost_as_a_whole() -> None:
    rig = filled()
    end = rig.partition().high_watermark
    rig.stop()
    rig.disk.remove_folder(FOLDER)
    rig.disk.sync_now([], [paths.PARTITIONS])
    for _ in range(2):
        rig.start()
        assert lost(rig) == [(0, end)]
        assert rig.partition().fence_reason is not None
        rig.stop()


def test_the_end_that_was_acknowledged_is_listed_where_the_active_segment_is_gone() -> None:
    rig = filled()
    end = rig.partition().high_watermark
    rig.stop()
    active = bases(rig)[-1]
    remove(rig, active)
    rig.start()
    assert lost(rig) == [(active, end)]
    assert rig.partition().fence_reason is not None


def test_a_read_only_partition_of_a_copied_folder_starts_again_after_a_crash() -> None:
    """The copy raises the epoch floor of the row that is kept, and of what is there, each by itself."""
    rig = filled().stop()
    remove(rig, bases(rig)[-1])
    text = rig.disk.read_all(paths.META).decode()
    lines = [line for line in text.splitlines() if not line.startswith("lock=")]
    rig.disk.write_all(paths.META, "\n".join([*lines, f"lock={meta.COPY}", ""]).encode())
    for _ in range(3):
        rig.start()
        assert rig.report.is_copy or rig.partition().epoch
        rig.crash("kill")


def test_a_start_opens_no_sealed_segment_that_is_as_the_checkpoint_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With tens of thousands of segments it takes one stat each."""
    rig = filled().stop()
    opened: list[str] = []
    real_open = rig.disk.open

    def counted(path: str, *, create: bool = False) -> File:
        opened.append(path)
        return real_open(path, create=create)

    monkeypatch.setattr(rig.disk, "open", counted)
    rig.start()
    assert [path for path in opened if path.startswith(FOLDER)] == []
    assert lost(rig) == []


@pytest.mark.parametrize("how", ["kill", "power"])
def test_retention_and_rolls_since_the_checkpoint_are_no_damage(how: Any) -> None:
    rig = filled()
    rig.partition().delete_records(bases(rig)[3] + 1)
    rig.settle(5)
    rig.write(20, size=500)
    rig.crash(how).start()
    assert lost(rig) == []
    rig.crash("kill").start()
    assert lost(rig) == []


def test_the_first_start_after_a_format_1_checkpoint_looks_once() -> None:
    rig = filled().stop()
    segments = bases(rig)
    newest = checkpoints.load(rig.disk)
    assert newest is not None
    assert all(row.sealed is not None for row in newest.rows)
    old = replace(newest, rows=tuple(replace(row, sealed=None) for row in newest.rows))
    checkpoints.store_now(rig.disk, old)
    remove(rig, segments[2])
    rig.start()
    assert lost(rig) == [(segments[2], segments[3])]
    rig.stop()
    whole = filled().stop()
    checkpoints.store_now(whole.disk, old)
    whole.start().stop()
    newest = checkpoints.load(whole.disk)
    assert newest is not None
    assert all(row.sealed is not None for row in newest.rows)


def test_without_a_checkpoint_durability_os_keeps_what_follows_a_gap() -> None:
    rig = filled(config=OS)
    rig.settle(5)
    end = rig.partition().high_watermark
    rig.stop()
    segments = bases(rig)
    remove(rig, segments[2])
    for name in checkpoints.NAMES:
        rig.disk.unlink(name)
    rig.start()
    assert lost(rig) == [(segments[2], segments[3])]
    readable, refused = read_around_damage(rig.partition())
    assert readable | refused == set(range(end))
    assert not [name for name in rig.disk.list(FOLDER) if "quarantine" in name]


# --- with a real disk, while the server runs ---------------------------------------------------------------


def real_folder(folder: Path) -> list[Path]:
    """Fill a topic of one partition in five segments, and stop cleanly. Its segments."""

    async def work() -> None:
        async with open_search_rig(folder, workers=1) as rig:
            await rig.engine.create_topic("orders", partitions=1)
            for number in range(45):
                rows: list[Row] = [(b"k", b"x" * 700, (), NOW_MS + number) for _ in range(10)]
                await rig.append("orders", 0, rows)

    asyncio.run(work())
    return sorted(path for path in folder.glob("partitions/[!0]*/*.log"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("missing") / "data"
    segments = real_folder(folder)
    assert len(segments) == 5
    return folder, [str(path.relative_to(folder)) for path in segments]


@pytest.mark.parametrize("removed", [0, 2], ids=["first", "middle"])
def test_a_file_removed_under_a_running_server_is_damage_on_every_reading_path(
    original: tuple[Path, list[str]], tmp_path: Path, removed: int
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(original[0], folder)
    segments = [folder / name for name in original[1]]
    firsts = [int(path.stem) for path in segments]
    gap = firsts[removed], firsts[removed + 1]

    async def work(rig: SearchRig) -> None:
        partition = rig.partition("orders", 0)
        end = partition.high_watermark
        segments[removed].unlink()
        looked_up: Promise[Any] = partition.offset_for_time(NOW_MS)
        first = await looked_up
        assert first.offset == (gap[1] if removed == 0 else 0)
        for search in rig.searches():
            result = await run(search, SearchRequest(query="*", limit=None))
            assert result.unreadable
            offsets = {place[2] for place in result.places}
            assert offsets.isdisjoint(range(*gap))
            if search is rig.local:  # of a cluster, the whole span of offsets that it asked for is unreadable
                assert [item.position for item in result.unreadable] == [Position("orders", 0, gap[0])]
                assert offsets == set(range(end)) - set(range(*gap))
            assert result.end.totals.removed_bytes == 0
        readable, refused = read_around_damage(partition)
        assert refused == set(range(*gap))
        assert readable == set(range(end)) - refused
        reader = await rig.engine.reader([Position("orders", 0, 0)])
        read: list[int] = []
        damaged: list[Position] = []
        while reader.positions()[0].offset < end:
            batch = await reader.read(max_events=500, wait_ms=0)
            read += [event.offset for event in batch.events]
            damaged += batch.unreadable
        await reader.close()
        assert set(read) == readable
        assert damaged == [Position("orders", 0, gap[0])]
        assert (await rig.engine.health()).damaged == (("orders", 0, gap[0], gap[1] - 1),)
        assert rig.engine.metric_values()["mainstem_damaged_offsets"] == gap[1] - gap[0]

    async def opened() -> None:
        async with open_search_rig(folder, workers=1) as rig:
            await work(rig)

    asyncio.run(opened())
    with FolderExamination(str(folder)) as examination:
        damage = [finding for finding in examination.run() if finding.severity == "damage"]
    assert [(finding.first_offset, finding.last_offset) for finding in damage] == [(gap[0], gap[1] - 1)]
    assert not os.path.exists(segments[removed])

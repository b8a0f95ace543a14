"""A removed range is not damage, a gap is (FORMAT.md, part "Removed ranges"): between log start and end every
offset belongs to a batch, which may hold fewer records than it spans, or none."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import Consumer, TopicPartition

from mainstem.clock import LoopClock
from mainstem.contract import Position
from mainstem.log import paths
from mainstem.log.commit.checkpoint import NAMES
from mainstem.log.config import LogConfig
from mainstem.log.disk.real_disk import RealDisk
from mainstem.log.log import Log
from mainstem.log.offline.doctor import FolderExamination
from mainstem.log.offline.doctor_scan import Finding
from mainstem.log.offline.inspect import InspectedBatch, inspect
from mainstem.log.storage.record_batch import build_empty, decode, iter_batches
from mainstem.search.contract import SearchRequest
from tests.log.logs import read_around_damage
from tests.search.compacted import keeping
from tests.search.search_rig import NOW_MS, SearchRig, open_search_rig, run

TOPIC = "orders"
BATCHES, RECORDS = 65, 10
Events = dict[int, bytes]
"""Offset -> value."""


def written(folder: Path) -> Events:
    """Fill a topic of one partition with batches in several segments, and stop cleanly."""
    events: Events = {}

    async def work() -> None:
        async with open_search_rig(folder, workers=1) as rig:
            await rig.engine.create_topic(TOPIC, partitions=1)
            for number in range(BATCHES):
                values = [
                    b"%d " % (number * RECORDS + number_in_batch) + b"x" * 700
                    for number_in_batch in range(RECORDS)
                ]
                await rig.append(TOPIC, 0, [(b"k", value, [], NOW_MS + number) for value in values])
                events.update(
                    (number * RECORDS + number_in_batch, value)
                    for number_in_batch, value in enumerate(values)
                )

    asyncio.run(work())
    return events


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Events]:
    folder = tmp_path_factory.mktemp("removed") / "data"
    events = written(folder)
    assert len(segments(folder)) >= 6
    return folder, events


@pytest.fixture
def folder(original: tuple[Path, Events], tmp_path: Path) -> Path:
    shutil.copytree(original[0], tmp_path / "data")
    return tmp_path / "data"


def segments(folder: Path) -> list[Path]:
    """The segments of the topic, oldest first."""
    return sorted(
        path for path in folder.glob("partitions/*/*.log") if paths.STATE_TOPIC.hex not in path.parent.name
    )


class RawBatch(NamedTuple):
    """One batch of a segment file."""

    first: int
    last: int
    data: bytes


def batches_of(segment: Path) -> list[RawBatch]:
    data = segment.read_bytes()
    return [
        RawBatch(header.base_offset, header.last_offset, data[position : position + header.total_bytes])
        for position, header in iter_batches(data)
    ]


def rewrite(segment: Path, batches: list[bytes]) -> None:
    """Give the segment other batches, and no index: a start builds it."""
    segment.write_bytes(b"".join(batches))
    for suffix in (".index", ".timeindex"):
        segment.with_suffix(suffix).unlink(missing_ok=True)
    for name in ("search", "search-index"):
        shutil.rmtree(segment.parents[2] / name, ignore_errors=True)


def thinned(segment: Path) -> list[bytes]:
    """The segment with each second record of each second batch; the others are removed and leave batches
    without records, of which neighbours are merged."""
    left: list[bytes] = []
    removed: list[RawBatch] = []
    for number, batch in enumerate(batches_of(segment)):
        if number % 4 in (1, 2):
            removed.append(batch)
            continue
        if removed:
            left.append(build_empty(removed[0].first, removed[-1].last, 0))
        removed = []
        left.append(keeping(batch.data, range(0, RECORDS, 2)))
    if removed:
        left.append(build_empty(removed[0].first, removed[-1].last, 0))
    return left


def compact(folder: Path) -> Events:
    """Remove ranges from all segments but the active one, of some everything. What is left."""
    for number, segment in enumerate(segments(folder)[:-1]):
        batches = batches_of(segment)
        if number % 3 == 0:
            rewrite(segment, [build_empty(batches[0].first, batches[-1].last, 0)])
        elif number % 3 == 1:
            rewrite(segment, thinned(segment))
    return {
        record.offset: record.value or b""
        for segment in segments(folder)
        for batch in batches_of(segment)
        for record in decode(batch.data)
    }


def opened(folder: Path, work: Callable[[SearchRig], Awaitable[None]]) -> None:
    async def inner() -> None:
        async with open_search_rig(folder, workers=1) as rig:
            await work(rig)

    asyncio.run(inner())


def recovery_notes(rig: SearchRig) -> list[str]:
    """What the start reported."""
    assert rig.node.recovery_report is not None
    return [note for note in rig.node.recovery_report.notes if "is a copy of another" not in note]


def consume(rig: SearchRig, count: int) -> Events:
    """What a client of the Kafka door reads from the beginning on."""
    host, port = rig.listening.address
    consumer = Consumer({"bootstrap.servers": f"{host}:{port}", "group.id": "g"})
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    events = {message.offset() or 0: message.value() or b"" for message in consumer.consume(count, 30)}
    consumer.close()
    return events


async def served(rig: SearchRig, left: Events) -> None:
    """A client of the door, the embedded engine's reader and both searches find what is left, and nothing
    else."""
    assert await asyncio.to_thread(consume, rig, len(left)) == left
    assert {event.offset: event.value for event in await rig.events(TOPIC)} == left
    for search in rig.searches():
        result = await run(search, SearchRequest(query="*", limit=None))
        assert result.unreadable == []
        assert sorted(offset for *_, offset in result.places) == sorted(left)


def findings(folder: Path) -> list[Finding]:
    with FolderExamination(str(folder)) as examination:
        return list(examination.run())


def mainstem(*arguments: str | Path) -> int:
    """The exit code of a command."""
    command = [sys.executable, "-m", "mainstem", *map(str, arguments)]
    return subprocess.run(command, capture_output=True).returncode


def test_a_log_with_removed_ranges_is_whole(original: tuple[Path, Events], folder: Path) -> None:
    left = compact(folder)
    assert 0 < len(left) < len(original[1])
    assert not [finding for finding in findings(folder) if finding.severity == "damage"]
    for segment in segments(folder):
        for item in inspect(str(segment)):
            assert isinstance(item, InspectedBatch)
            assert item.crc_ok
            assert not item.is_out_of_sequence
    assert mainstem("backup", folder, folder.with_name("backup")) == 0
    assert mainstem("restore", folder.with_name("backup"), folder.with_name("restored")) == 0
    for root in (folder, folder.with_name("restored")):

        async def work(rig: SearchRig) -> None:
            assert recovery_notes(rig) == []
            await served(rig, left)

        opened(root, work)


def test_a_log_with_removed_ranges_is_whole_where_no_checkpoint_is(folder: Path) -> None:
    """Everything is scanned then, and written again."""
    left = compact(folder)
    for name in NAMES:
        (folder / name).unlink(missing_ok=True)

    async def work(rig: SearchRig) -> None:
        assert not [note for note in recovery_notes(rig) if "damaged" in note or "missing" in note]
        await served(rig, left)

    opened(folder, work)


def test_a_reader_passes_segments_without_records_in_one_read(folder: Path) -> None:
    for segment in segments(folder)[:-1]:
        batches = batches_of(segment)
        rewrite(segment, [build_empty(batch.first, batch.last, 0) for batch in batches])
    first = batches_of(segments(folder)[-1])[0].first

    async def work(rig: SearchRig) -> None:
        reader = await rig.engine.reader([Position(TOPIC, 0, 0)])
        events = (await reader.read(max_events=1, wait_ms=0)).events
        assert [event.offset for event in events] == [first]
        await reader.close()

    opened(folder, work)


# --- a gap ------------------------------------------------------------------------------------------------


def cut_within(folder: Path) -> tuple[int, int]:
    """Take a batch out of a segment; the offsets that no batch has."""
    segment = segments(folder)[2]
    batches = batches_of(segment)
    rewrite(segment, [batch.data for batch in (*batches[:2], *batches[3:])])
    return batches[2].first, batches[2].last


def cut_at_the_end(folder: Path) -> tuple[int, int]:
    """Take the last batches of a segment that is not the active one."""
    segment = segments(folder)[2]
    batches = batches_of(segment)
    rewrite(segment, [batch.data for batch in batches[:-2]])
    return batches[-2].first, batches[-1].last


def cut_a_segment(folder: Path) -> tuple[int, int]:
    """Take a whole segment."""
    segment = segments(folder)[2]
    batches = batches_of(segment)
    rewrite(segment, [])
    for file in segment.parent.glob(segment.stem + ".*"):
        file.unlink()
    return batches[0].first, batches[-1].last


def cut_the_first_segment(folder: Path) -> tuple[int, int]:
    """Take the segment that has the log start."""
    segment = segments(folder)[0]
    last = batches_of(segment)[-1].last
    for file in segment.parent.glob(segment.stem + ".*"):
        file.unlink()
    return 0, last


INNER_GAPS = [cut_within, cut_at_the_end, cut_a_segment]


@pytest.fixture(params=INNER_GAPS, ids=lambda cut: cut.__name__)
def inner_gap(request: pytest.FixtureRequest, folder: Path) -> tuple[int, int]:
    cut: Callable[[Path], tuple[int, int]] = request.param
    return cut(folder)


@pytest.fixture(params=[*INNER_GAPS, cut_the_first_segment], ids=lambda cut: cut.__name__)
def gap(request: pytest.FixtureRequest, folder: Path) -> tuple[int, int]:
    cut: Callable[[Path], tuple[int, int]] = request.param
    return cut(folder)


def test_reading_reports_a_gap_and_serves_what_is_around(folder: Path, gap: tuple[int, int]) -> None:
    async def work(rig: SearchRig) -> None:
        partition = rig.partition(TOPIC, 0)
        for _ in range(2):  # the second time from what is remembered
            readable, damaged = read_around_damage(partition, 20_000)
            lost = set(range(gap[0], gap[1] + 1))
            assert lost <= damaged
            assert readable | damaged == set(range(BATCHES * RECORDS))
            assert not readable & damaged
            assert len(damaged - lost) <= RECORDS  # of the batch behind it, whose offset may be what is wrong

    opened(folder, work)


def test_recovery_reports_a_gap(folder: Path, inner_gap: tuple[int, int]) -> None:
    """Where a start scans: without a checkpoint, it scans everything."""
    for name in NAMES:
        (folder / name).unlink(missing_ok=True)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        log = Log.open(RealDisk(str(folder), loop), LoopClock(loop), random.Random(1), LogConfig())
        report = log.recover(lambda _: "live")
        (note,) = [note for note in report.notes if "offsets" in note]
        assert f"offsets {inner_gap[0]} to" in note
        assert "damaged" in note
        assert report.truncated_bytes == 0
        await log.close()

    asyncio.run(work())


def test_a_start_reports_that_the_first_segment_is_missing(folder: Path) -> None:
    first, last = cut_the_first_segment(folder)

    async def work(rig: SearchRig) -> None:
        (note,) = recovery_notes(rig)
        assert f"offsets {first} to {last} are missing" in note

    opened(folder, work)


def test_doctor_reports_a_gap(folder: Path, gap: tuple[int, int]) -> None:
    damage = [finding for finding in findings(folder) if finding.severity == "damage"]
    assert [(finding.first_offset, finding.last_offset) for finding in damage] == [gap]


@pytest.mark.usefixtures("gap")
def test_a_restored_backup_reports_a_gap(folder: Path) -> None:
    """A backup copies what is there; reading it back finds the damage."""
    assert mainstem("backup", folder, folder.with_name("backup")) == 0
    assert mainstem("restore", folder.with_name("backup"), folder.with_name("restored")) == 4


def test_search_reports_a_gap(original: tuple[Path, Events], folder: Path, gap: tuple[int, int]) -> None:

    async def work(rig: SearchRig) -> None:
        for search, newest_first in ((rig.local, True), (rig.local, False), (rig.cluster, True)):
            request = SearchRequest(query="*", limit=None, newest_first=newest_first)
            result = await run(search, request)
            offsets = {offset for *_, offset in result.places}
            assert offsets.isdisjoint(range(gap[0], gap[1] + 1))
            assert result.unreadable
            if search is rig.local:  # of a cluster, the whole span of offsets that it asked for is unreadable
                assert [unreadable.position.offset for unreadable in result.unreadable] == [gap[0]]
                assert len(offsets) >= len(original[1]) - (gap[1] + 1 - gap[0]) - RECORDS
            while await rig.local.build_missing_filters():  # no filter may hide it
                pass

    opened(folder, work)

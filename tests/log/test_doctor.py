"""`mainstem doctor` finds all damage in a data folder, and nothing else, and changes nothing. With --repair
the folder is whole again, with everything that was not damaged."""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mainstem.clock import LoopClock
from mainstem.coordinator.doctor import OfflineState
from mainstem.log.disk.real_disk import RealDisk
from mainstem.log.errors import LogFolderError, LogFolderLocked
from mainstem.log.offline.doctor import FolderExamination
from mainstem.log.offline.doctor_repair import FolderRepair
from mainstem.log.offline.doctor_scan import Finding
from mainstem.log.storage import record_batch as batches
from mainstem.node import Node
from mainstem.settings import Settings

EVENTS = 12
A_SEGMENT = 4
"""Batches of one event in a segment."""


async def _fill(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    settings = Settings(data=str(folder))
    node = await Node.open(settings, RealDisk(str(folder), loop), LoopClock(loop), random.Random(7))
    orders = await node.topics.create("orders", 2, {})
    await node.topics.create("empty", 1, {})
    for number in range(EVENTS):
        partition = node.partition(orders, 0)
        if number and not number % A_SEGMENT:
            partition.roll()
        data = batches.build([(b"k", f"event {number:02}".encode() * 2, (), 1_356_998_400_000 + number)])
        await partition.when_committed(partition.append(memoryview(data)).next_offset)
    await node.close()


@pytest.fixture(scope="session")
def clean_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after a clean stop: topic `orders` with 12 events in segments of 4, and an empty topic. The
    journal's files are removed: after a clean stop they hold only zeros."""
    folder = tmp_path_factory.mktemp("doctor") / "data"
    with asyncio.Runner() as runner:
        runner.run(_fill(folder))
    for file in (folder / "journal").iterdir():
        file.unlink()
    return folder


@pytest.fixture
def folder(clean_folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "data"
    shutil.copytree(clean_folder, copy)
    return copy


def findings_of(folder: Path) -> list[Finding]:
    with FolderExamination(str(folder)) as examination:
        state = OfflineState(examination.disk)
        return [*state.findings, *examination.run(lambda key: state.status(key) == "live")]


def damage(folder: Path) -> list[Finding]:
    return [finding for finding in findings_of(folder) if finding.severity == "damage"]


def segments(folder: Path) -> list[Path]:
    """The segments of partition 0 of `orders`."""
    return sorted(path for path in folder.glob("partitions/*-0/*.log") if "0" * 31 + "1-0" not in str(path))


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def flip(path: Path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def test_a_whole_folder_has_no_findings_and_is_not_changed(folder: Path) -> None:
    before = content(folder)
    with FolderExamination(str(folder)) as examination:
        state = OfflineState(examination.disk)
        findings = [*state.findings, *examination.run(lambda key: state.status(key) == "live")]
        assert findings == []
        assert examination.clean
        assert (state.topic_count(), examination.events) == (2, EVENTS + state.records)
        read: list[int] = []
        examination.read_bytes = read.append
        list(examination.run())
        assert sum(read) == examination.total_bytes()
        names = {state.topic_name(topic_id) for topic_id, _ in examination.partition_keys()}
    assert names == {"(state log)", "orders"}
    assert content(folder) == before


def test_every_flipped_byte_of_a_segment_is_found_with_its_offset(folder: Path) -> None:
    path = segments(folder)[1]
    whole = path.read_bytes()
    size = len(whole) // A_SEGMENT
    for position in range(len(whole)):
        flip(path, position, bit=position % 8)
        findings = damage(folder)
        offset = A_SEGMENT + position // size
        hit = [finding for finding in findings if finding.first_offset <= offset <= finding.last_offset]
        assert hit, f"byte {position}: {findings}"
        # Offset and epoch are outside of the CRC: there the batch beside it may be meant too.
        assert len(findings) == 1 or position % size < 16, f"byte {position}: {findings}"
        assert all(
            A_SEGMENT <= finding.first_offset <= finding.last_offset < 2 * A_SEGMENT for finding in findings
        )
        path.write_bytes(whole)
    assert damage(folder) == []


def test_every_length_that_a_segment_was_cut_to_is_found(folder: Path) -> None:
    for path, first in zip(segments(folder), range(0, EVENTS, A_SEGMENT), strict=True):
        whole = path.read_bytes()
        size = len(whole) // A_SEGMENT
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            findings = damage(folder)
            missing = {
                offset
                for finding in findings
                for offset in range(finding.first_offset, finding.last_offset + 1)
            }
            assert missing == set(range(first + length // size, first + A_SEGMENT)), f"{path} {length}"
        path.write_bytes(whole)
    assert damage(folder) == []


def test_a_missing_segment_is_found(folder: Path) -> None:
    for path, first in zip(segments(folder), range(0, EVENTS, A_SEGMENT), strict=True):
        whole = path.read_bytes()
        path.unlink()
        offsets = [(finding.first_offset, finding.last_offset) for finding in damage(folder)]
        assert offsets == [(first, first + A_SEGMENT - 1)]
        path.write_bytes(whole)


def test_a_missing_partition_is_found(folder: Path) -> None:
    shutil.rmtree(segments(folder)[0].parent)
    (findings,) = damage(folder)
    assert (findings.first_offset, findings.last_offset, findings.problem) == (
        0,
        EVENTS - 1,
        "the folder is missing",
    )


@pytest.mark.parametrize(
    "kind", ["*.index", "*.timeindex", "*.arrivals", "leader-epoch-checkpoint", "producers.snapshot"]
)
@pytest.mark.parametrize("garbage", [b"\0" * 7, b"\xff" * 48, b"nonsense"])
def test_a_wrong_derived_file_is_not_damage(folder: Path, kind: str, garbage: bytes) -> None:
    (path, *_) = sorted(segments(folder)[0].parent.glob(kind))
    path.write_bytes(garbage)
    findings = findings_of(folder)
    assert {finding.severity for finding in findings} <= {"derived"}
    if not (kind == "*.arrivals" and len(garbage) < 16):  # half a pair is what a crash leaves
        assert [finding for finding in findings if finding.path.endswith(path.name)]


@pytest.mark.parametrize("name", ["checkpoint-0", "checkpoint-1"])
def test_a_damaged_checkpoint_is_found(folder: Path, name: str) -> None:
    flip(folder / name, 40)
    findings = findings_of(folder)
    assert ("derived", name) in {(finding.severity, finding.path) for finding in findings}


def test_unknown_files_and_leftovers_are_named_and_left_alone(folder: Path) -> None:
    partition = segments(folder)[0].parent
    (folder / "notes.txt").write_text("mine")
    (partition / "00000000000000000000.log.quarantine").write_bytes(b"abc")
    (partition / "00000000000000000777.index").write_bytes(b"")
    shutil.copytree(partition, folder / "partitions" / f"{'ab' * 16}-0")
    notes = {finding.path.rpartition("/")[2]: finding.severity for finding in findings_of(folder)}
    assert notes["notes.txt"] == notes["00000000000000000777.index"] == "note"
    assert notes["00000000000000000000.log.quarantine"] == notes[f"{'ab' * 16}-0"] == "note"


def test_a_damaged_snapshot_of_the_state_is_found(folder: Path) -> None:
    (folder / "state" / f"snapshot-{0:020}").write_bytes(b"no snapshot")
    assert [finding.path for finding in damage(folder)] == [f"state/snapshot-{0:020}"]


def test_a_folder_in_use_and_one_of_another_program_are_refused(folder: Path, tmp_path: Path) -> None:
    async def beside() -> None:
        loop = asyncio.get_running_loop()
        disk = RealDisk(str(folder), loop)
        disk.lock(".lock")
        with pytest.raises(LogFolderLocked):
            findings_of(folder)
        disk.close()

    with asyncio.Runner() as runner:
        runner.run(beside())
    (tmp_path / "other").mkdir()
    with pytest.raises(LogFolderError):
        findings_of(tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


@pytest.fixture
def garbled(folder: Path) -> Callable[[int], None]:
    rng = random.Random(3)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]

    def garble(count: int) -> None:
        for _ in range(count):
            path = rng.choice([path for path in files if path.exists()])
            size = path.stat().st_size
            if size and path.name != "meta.properties":
                flip(path, rng.randrange(size), rng.randrange(8))

    return garble


def test_an_examination_ends_whatever_is_damaged(folder: Path, garbled: Callable[[int], None]) -> None:
    for _ in range(60):
        garbled(3)
        assert isinstance(findings_of(folder), list)


# --- repair -----------------------------------------------------------------------------------------------


def repaired(folder: Path) -> list[Finding]:
    with FolderExamination(str(folder)) as examination:
        state = OfflineState(examination.disk)
    given_up = lambda key, gap: not state.needs(key, gap.last_offset)  # noqa: E731
    return list(FolderRepair(str(folder), random.Random(1), given_up, state.redundant_snapshots).run())


def is_whole(folder: Path) -> bool:
    return all(
        finding.severity == "note" and ".quarantine" in finding.path for finding in findings_of(folder)
    )


def events(folder: Path) -> dict[int, bytes | None]:
    """Offset -> value of partition 0 of `orders`, from the batches in its files."""
    values = {}
    for path in segments(folder):
        whole = path.read_bytes()
        for position, header in batches.iter_batches(whole):
            for record in batches.decode(whole[position : position + header.total_bytes]):
                values[record.offset] = record.value
    return values


async def _serve(folder: Path) -> dict[int, bytes | None]:
    """Start a node on the folder: what it serves of partition 0 of `orders`, after one more event."""
    loop = asyncio.get_running_loop()
    settings = Settings(data=str(folder))
    node = await Node.open(settings, RealDisk(str(folder), loop), LoopClock(loop), random.Random(7))
    topic = node.topics.get("orders")
    assert topic is not None
    partition = node.partition(topic, 0)
    values: dict[int, bytes | None] = {}
    offset = partition.log_start_offset
    while offset < partition.high_watermark:
        part = partition.read_blocking(offset, 1 << 20)
        for position, header in batches.iter_batches(part.data):
            whole = bytes(part.data[position : position + header.total_bytes])
            values |= {record.offset: record.value for record in batches.decode(whole)}
        offset = part.next_offset
    data = batches.build([(b"k", b"new", (), 1_356_998_500_000)])
    done = partition.append(memoryview(data))
    await partition.when_committed(done.next_offset)
    values[done.base_offset] = b"new"
    await node.close()
    return values


def served(folder: Path) -> dict[int, bytes | None]:
    with asyncio.Runner() as runner:
        return runner.run(_serve(folder))


def test_repairing_a_whole_folder_changes_nothing(folder: Path) -> None:
    before = content(folder)
    assert repaired(folder) == []
    assert content(folder) == before


def test_every_flipped_byte_of_a_segment_is_repaired(clean_folder: Path, tmp_path: Path) -> None:
    whole = events(clean_folder)
    size = segments(clean_folder)[1].stat().st_size
    for position in range(0, size, 7):
        folder = tmp_path / str(position)
        shutil.copytree(clean_folder, folder)
        path = segments(folder)[1]
        flip(path, position, bit=position % 8)
        hit = A_SEGMENT + position // (size // A_SEGMENT)
        damaged = path.read_bytes()
        done = repaired(folder)
        assert is_whole(folder), f"byte {position}: {findings_of(folder)}"
        now = events(folder)
        lost = set(whole) - set(now)
        assert lost <= {hit}, f"byte {position}"
        assert lost == {finding.first_offset for finding in done if "given up" in finding.problem}
        assert all(now[offset] == whole[offset] for offset in now)
        quarantined = b"".join(file.read_bytes() for file in sorted(path.parent.glob("*.log.*.quarantine")))
        assert not lost or (quarantined and quarantined in damaged)
        shutil.rmtree(folder)


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("how", ["flipped", "cut", "gone", "empty"])
def test_undamaged_events_are_served_after_a_repair(folder: Path, which: int, how: str) -> None:
    whole = events(folder)
    path = segments(folder)[which]
    size = path.stat().st_size // A_SEGMENT
    lost = set(range(which * A_SEGMENT, (which + 1) * A_SEGMENT))
    if how == "flipped":
        flip(path, size + size // 2)
        lost = {which * A_SEGMENT + 1}
    elif how == "cut":
        path.write_bytes(path.read_bytes()[: 2 * size + 9])
        lost -= {which * A_SEGMENT, which * A_SEGMENT + 1}
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes(b"")
    assert damage(folder)
    repaired(folder)
    assert is_whole(folder), findings_of(folder)
    expected = {offset: value for offset, value in whole.items() if offset not in lost}
    assert served(folder) == expected | {EVENTS: b"new"}, "lost offsets are not given again"
    assert damage(folder) == []


def test_a_missing_partition_accepts_events_after_a_repair(folder: Path) -> None:
    shutil.rmtree(segments(folder)[0].parent)
    repaired(folder)
    assert is_whole(folder), findings_of(folder)
    assert served(folder) == {EVENTS: b"new"}


@pytest.mark.parametrize(
    "kind", ["*.index", "*.timeindex", "*.arrivals", "leader-epoch-checkpoint", "producers.snapshot"]
)
@pytest.mark.parametrize("garbage", [b"\xff" * 48, b""])
def test_derived_files_are_built_again(folder: Path, kind: str, garbage: bytes) -> None:
    before = content(folder)
    (path, *_) = sorted(segments(folder)[0].parent.glob(kind))
    path.write_bytes(garbage)
    repaired(folder)
    assert is_whole(folder), findings_of(folder)
    after = {name: value for name, value in content(folder).items() if "quarantine" not in name}
    if "index" in kind or "epoch" in kind:
        assert after == before or garbage == b""


@pytest.mark.parametrize("names", [["checkpoint-0"], ["checkpoint-1"], ["checkpoint-0", "checkpoint-1"]])
def test_a_checkpoint_is_rebuilt_and_the_batches_around_damage_stay(folder: Path, names: list[str]) -> None:
    whole = events(folder)
    for name in names:
        flip(folder / name, 40)
    size = segments(folder)[1].stat().st_size // A_SEGMENT
    flip(segments(folder)[1], size + size // 2)
    repaired(folder)
    assert is_whole(folder), findings_of(folder)
    del whole[A_SEGMENT + 1]
    assert served(folder) == whole | {EVENTS: b"new"}


def test_a_repair_that_was_interrupted_is_done_again(clean_folder: Path, tmp_path: Path) -> None:
    """Wherever it is interrupted, a start in between loses nothing, and a second repair completes it."""
    whole = events(clean_folder)
    del whole[EVENTS - 1]
    for steps in range(6):
        folder = tmp_path / str(steps)
        shutil.copytree(clean_folder, folder)
        flip(segments(folder)[2], segments(folder)[2].stat().st_size - 3)
        repair = FolderRepair(str(folder), random.Random(1)).run()
        for _ in range(steps):
            next(repair, None)
        del repair
        repaired(folder)
        assert is_whole(folder), findings_of(folder)
        if steps in (1, 3):
            assert served(folder) == whole | {EVENTS: b"new"}
        shutil.rmtree(folder)


def test_lost_records_of_the_state_are_named_and_kept_lost(folder: Path) -> None:
    (state,) = [path for path in folder.glob("partitions/*-0/*.log") if "0" * 31 + "1-0" in str(path)]
    before = state.read_bytes()
    flip(state, 100)
    done = repaired(folder)
    assert [finding.consequence for finding in done if finding.severity == "damage"] == [
        "not repaired: restore the folder from a backup"
    ]
    assert len(state.read_bytes()) == len(before)


def test_a_damaged_snapshot_that_is_not_needed_is_put_aside(folder: Path) -> None:
    (folder / "state" / f"snapshot-{0:020}").write_bytes(b"no snapshot")
    repaired(folder)
    assert damage(folder) == []
    assert (folder / "state" / f"snapshot-{0:020}.quarantine").read_bytes() == b"no snapshot"


def test_a_repair_ends_whatever_is_damaged(folder: Path, garbled: Callable[[int], None]) -> None:
    for _ in range(6):
        garbled(3)
        assert isinstance(repaired(folder), list)

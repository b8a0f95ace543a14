"""The recovery of a data folder in every state that a stop or a crash can leave."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import Literal

import pytest

from mainstem.log.commit import checkpoint as files
from mainstem.log.config import LogConfig
from mainstem.log.errors import CorruptBatch, LogError, LogFolderError, LogFolderLocked
from mainstem.log.log import Log
from mainstem.log.recovery import meta
from tests.log.logs import OS, SMALL, TOPIC, LogRig
from tests.support.clock import SimClock
from tests.support.simdisk import PowerCut

FOLDER = f"partitions/{TOPIC.hex}-0"
ACTIVE = f"{FOLDER}/00000000000000000000.log"


def checkpointed(count: int = 3, config: LogConfig = OS, size: int = 100) -> LogRig:
    machine = LogRig(config=config).start()
    machine.write(count, size=size)
    machine.log.checkpoint()
    machine.settle(1)
    return machine


def test_after_a_clean_stop_nothing_is_read_but_names_and_sizes() -> None:
    machine = LogRig().start()
    for index in range(50):
        machine.append(index)
    machine.settle(1)
    machine.stop()
    machine.disk.count_reads = True
    machine.start()
    assert machine.report.clean
    assert machine.report.partitions == 52, "with the two state logs"
    assert machine.disk.calls < 60
    assert machine.partition(49).epoch == 0
    assert machine.offsets(49) == [0]


def test_a_clean_stop_is_forgotten_with_the_first_start() -> None:
    machine = LogRig().start()
    machine.write(1)
    machine.stop().start()
    machine.crash("kill").start()
    assert not machine.report.clean
    assert machine.partition().epoch == 1


@pytest.mark.parametrize("durability", ["disk", "os"])
def test_kill_9_loses_nothing_that_was_written(durability: Literal["disk", "os"]) -> None:
    machine = LogRig(config=OS if durability == "os" else LogRig().config).start()
    machine.write(2)
    for index in (0, 0, 1):
        machine.append(index)
    machine.crash("kill").start()
    assert (machine.offsets(0), machine.offsets(1)) == ([0, 1, 2, 3], [0])


def test_a_last_batch_cut_or_damaged_at_every_byte_is_cut_off_and_kept_aside() -> None:
    machine = checkpointed(1)
    machine.write(2)
    whole = bytes(machine.disk.inode(ACTIVE).seen)
    size = len(whole) // 3
    for position in range(2 * size, len(whole)):
        for damaged in (
            whole[:position],
            whole[:position] + bytes((whole[position] ^ 1,)) + whole[position + 1 :],
        ):
            again = LogRig(config=OS)
            again.disk = machine.disk
            inode = again.disk.inode(ACTIVE)
            inode.truncate(0)
            inode.write(0, damaged)
            log = Log.open(again.disk, SimClock(), random.Random(1), OS)
            report = log.recover(lambda _: "live")
            offset = position - 2 * size
            # Base offset and epoch are not covered by the CRC, but have to follow.
            if len(damaged) == len(whole) and 12 <= offset < 16:
                assert log.partition(TOPIC, 0).high_watermark in (2, 3)
                continue
            assert log.partition(TOPIC, 0).high_watermark == 2, (position, len(damaged))
            rest = damaged[2 * size :]
            assert report.truncated_bytes == len(rest)
            cut = [f"{FOLDER}: cut {len(rest)} bytes after the end of segment 0"] if rest else []
            assert [note for note in report.notes if "cut" in note] == cut
            quarantine = f"{ACTIVE}.{2 * size}.quarantine"
            if rest.strip(b"\0"):
                assert again.disk.read_all(quarantine)[: len(rest)] == rest
                again.disk.unlink(quarantine)


def test_zeros_after_the_end_are_cut_at_each_of_three_starts() -> None:
    machine = checkpointed(2)
    for expected in (2, 3, 4):
        inode = machine.disk.inode(ACTIVE)
        inode.truncate(len(inode.seen) + 10_000)
        machine.crash("kill").start()
        assert machine.partition().high_watermark == expected
        assert machine.report.truncated_bytes == 10_000
        assert machine.report.notes == [f"{FOLDER}: cut 10000 bytes after the end of segment 0"]
        assert not any(name.endswith("quarantine") for name in machine.disk.list(FOLDER))
        machine.write(1)


def test_a_partition_shorter_than_its_checkpoint_is_read_only_at_every_start() -> None:
    machine = checkpointed(3, LogRig().config)
    machine.write(1)
    machine.crash("kill")
    inode = machine.disk.inode(ACTIVE)
    size = len(inode.seen) // 4
    inode.truncate(2 * size + 10)
    for _ in range(2):
        machine.start()
        assert machine.report.fenced == [(TOPIC, 0)]
        assert "read-only" in machine.report.notes[0]
        assert machine.offsets() == [0, 1]
        with pytest.raises(LogError):
            machine.append()
        assert f"{FOLDER}/journal-3.quarantine" in [f"{FOLDER}/{name}" for name in machine.disk.list(FOLDER)]
        machine.write(1, 1)
        machine.log.checkpoint()
        machine.settle(1)
        machine.stop()


def test_with_durability_os_a_short_partition_continues_after_what_is_there() -> None:
    machine = checkpointed(3)
    machine.crash("kill")
    inode = machine.disk.inode(ACTIVE)
    inode.truncate(len(inode.seen) - 5)
    machine.start()
    assert machine.report.fenced == []
    assert any("durability os" in note for note in machine.report.notes)
    machine.write(1)
    assert machine.offsets() == [0, 1, 2]


def test_a_missing_segment_is_reported() -> None:
    machine = checkpointed(3, LogRig().config)
    machine.crash("kill")
    machine.disk.unlink(ACTIVE)
    machine.start()
    assert machine.report.fenced == [(TOPIC, 0)]
    assert any("read-only" in note for note in machine.report.notes)
    assert machine.offsets() == []


def test_damage_in_the_middle_of_the_journal_affects_only_the_partitions_in_it() -> None:
    machine = LogRig().start()
    for index in (0, 1, 0, 1):
        machine.write(1, index)
    machine.crash("power")
    journal = machine.disk.inode("journal/00000000000000000000.jnl")
    journal.seen[2 * 4096 + 100] ^= 1  # the second group: partition 1's first append
    machine.disk.unlink(f"partitions/{TOPIC.hex}-1/00000000000000000000.log")
    machine.start()
    assert machine.report.fenced == [(TOPIC, 1)]
    assert any("damaged before group" in note for note in machine.report.notes)
    assert machine.offsets(0) == [0, 1]


def test_a_partition_of_no_topic_is_quarantined_and_one_of_a_deleted_topic_removed() -> None:
    machine = LogRig().start()
    machine.write(2)
    machine.crash("power").start(lambda _: "unknown")
    assert machine.report.quarantined == [(TOPIC, 0)]
    assert machine.disk.list("partitions") == []
    assert machine.disk.list("quarantine") == [f"{TOPIC.hex}-0"]
    machine.write(1)
    machine.crash("power").start(lambda _: "unknown")
    assert machine.disk.list("quarantine") == [f"{TOPIC.hex}-0", f"{TOPIC.hex}-0.1"]
    machine.write(1)
    machine.crash("kill").start(lambda _: "deleted")
    assert machine.report.removed == [(TOPIC, 0)]
    assert machine.disk.list("partitions") == []


def test_half_deleted_folders_are_finished_only_for_deleted_topics() -> None:
    machine = checkpointed(1)
    machine.crash("kill")
    machine.disk.rename(FOLDER, f"{FOLDER}.deleted")
    machine.disk.make_folder("partitions/not ours")
    machine.start(lambda _: "unknown")
    assert machine.disk.list("partitions") == [f"{TOPIC.hex}-0.deleted", "not ours"]
    machine.crash("kill").start(lambda _: "deleted")
    assert machine.disk.list("partitions") == ["not ours"]


@pytest.mark.parametrize("newest", [True, False])
def test_one_damaged_checkpoint_is_survived(newest: bool) -> None:
    machine = checkpointed(3, LogRig().config)
    machine.write(1)
    machine.log.checkpoint()
    machine.settle(1)
    machine.write(1)
    machine.crash("kill")
    newest_checkpoint = files.load(machine.disk)
    assert newest_checkpoint is not None
    damaged = files.NAMES[(newest_checkpoint.number + (not newest)) % 2]
    machine.disk.write_all(damaged, b"x")
    machine.start()
    assert f"{damaged} is damaged" in machine.report.notes
    assert machine.offsets() == [0, 1, 2, 3, 4]
    assert machine.report.fenced == []


@pytest.mark.parametrize("left", ["the older", "none"])
@pytest.mark.parametrize("damaged", range(2, 12))
@pytest.mark.parametrize("byte", [0, 11, 16, 25, 700])
def test_damage_is_skipped_where_the_durable_end_is_not_known(left: str, damaged: int, byte: int) -> None:
    machine = LogRig().start()
    machine.partition(0, SMALL)
    machine.write(2, size=1000)
    machine.log.checkpoint()
    machine.settle(1)
    machine.write(10, size=1000)
    machine.log.checkpoint()
    machine.settle(1)
    before = machine.partition().segments
    segment = next(candidate for candidate in reversed(before) if candidate.base_offset <= damaged)
    size = before[0].size // before[1].base_offset
    position = (damaged - segment.base_offset) * size + byte
    machine.crash("kill")
    newest = files.load(machine.disk)
    assert newest is not None
    for name in files.NAMES if left == "none" else [files.NAMES[newest.number % 2]]:
        machine.disk.write_all(name, b"x")
    for path in machine.disk.list("journal"):  # all of it was written over meanwhile
        machine.disk.unlink(f"journal/{path}")
    machine.disk.inode(segment.path).seen[position] ^= 0x40
    for _ in range(2):
        machine.start()
        assert machine.report.fenced == []
        partition = machine.partition(0, SMALL)
        if damaged == 11:  # nothing whole behind it
            assert partition.high_watermark == 11
            return
        assert not [name for name in machine.disk.list(FOLDER) if name.endswith(".quarantine")]
        end = partition.high_watermark
        for offset in range(end):
            if offset == damaged:
                with pytest.raises(CorruptBatch, match=f"continues at {damaged + 1}"):
                    partition.read_blocking(offset, 1)
            else:
                assert partition.read_blocking(offset, 1).next_offset == offset + 1
        machine.write()
        assert machine.partition().high_watermark == end + 1
        machine.crash("kill")


def test_without_any_checkpoint_everything_is_scanned() -> None:
    machine = LogRig().start()
    machine.partition(0, SMALL)
    machine.write(9, size=1000)
    machine.log.checkpoint()
    machine.settle(1)
    machine.crash("kill")
    for name in files.NAMES:
        machine.disk.unlink(name)
    machine.start()
    assert machine.offsets() == list(range(9))
    assert any("no checkpoint" in note for note in machine.report.notes)


def test_a_journal_cut_anywhere_keeps_the_groups_before_the_cut() -> None:
    machine = LogRig().start()
    machine.write(3)
    path = "journal/00000000000000000000.jnl"
    whole = bytes(machine.disk.inode(path).seen)
    end = len(whole.rstrip(b"\0"))
    segment = bytes(machine.disk.inode(ACTIVE).seen)
    for position in range(3 * 4096, end, 7):
        again = LogRig().start()
        again.write(3)
        again.disk.inode(path).seen[:] = bytes(again.disk.inode(path).seen[:position]).ljust(
            len(whole), b"\0"
        )
        again.disk.inode(ACTIVE).seen[:] = segment[: len(segment) // 3 * 2]
        again.crash("kill").start()
        assert again.offsets() == [0, 1]


def script(machine: LogRig) -> None:
    machine.partition(0, SMALL)
    for _ in range(6):
        for index, size in ((0, 900), (1, 100), (2, 5000)):
            try:
                machine.append(index, size=size)
            except LogError:
                continue
        machine.settle(0.01)
    machine.log.checkpoint()
    machine.settle(0.5)
    try:
        machine.partition(0).delete_records(3)
    except LogError:
        pass
    machine.settle(3)


def shown(machine: LogRig) -> list[int]:
    return [machine.partition(index).high_watermark for index in range(3)]


def total_calls(start: Callable[[LogRig], object]) -> int:
    machine = LogRig()
    start(machine)
    return machine.disk.calls


def live(machine: LogRig) -> None:
    machine.start()
    script(machine)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_any_call_may_fail(code: int) -> None:
    for number in range(1, total_calls(live) + 1):
        machine = LogRig()
        machine.disk.fail[number] = code
        try:
            machine.start()
        except LogFolderError:
            machine.crash("power").start()
        script(machine)
        promised = shown(machine)
        machine.crash("power").start()
        assert machine.report.fenced == [], (number, machine.report.notes)
        for index, least in enumerate(promised):
            offsets = machine.offsets(index)
            first = machine.partition(index).log_start_offset
            assert offsets == list(range(first, first + len(offsets)))
            assert machine.partition(index).high_watermark >= least, (number, index)
        machine.write(1)


def test_a_log_start_in_the_journal_survives_a_file_that_cannot_be_synced() -> None:
    machine = LogRig().start()
    machine.write(4)
    machine.log.checkpoint()
    machine.settle(1)
    deleted = machine.partition().delete_records(3)
    machine.settle()
    assert deleted.result() == 3
    machine.write(1, size=5000)  # directly: the journal has none of it
    machine.crash("kill")
    machine.disk.sync_fails, machine.disk.sync_fails_in = 1.0, FOLDER
    with pytest.raises(LogFolderError, match="the device lost it"):
        machine.start()
    machine.crash("kill").start()
    assert machine.report.fenced == []
    assert machine.offsets() == [3, 4]


def test_a_partition_on_a_failing_disk_is_read_only_though_its_checkpointed_segment_is_deleted() -> None:
    machine = LogRig().start()
    machine.partition(0, SMALL)
    machine.write(1, size=4500)
    deleted = machine.partition().delete_records(-1)
    machine.settle(1)
    assert deleted.result() == 1
    machine.write(1, size=4500)  # directly, into the next segment: the journal has none of it
    machine.partition().enforce_retention()
    machine.settle(1)
    assert not machine.disk.exists(ACTIVE)
    machine.crash("kill")
    machine.disk.sync_fails, machine.disk.sync_fails_in = 1.0, FOLDER
    machine.start()
    assert machine.report.fenced
    machine.crash("kill").start()
    assert machine.report.fenced == []
    assert machine.offsets() == [1]


def test_recovery_interrupted_at_any_call_leads_to_the_same_result() -> None:
    def crashed() -> LogRig:
        machine = LogRig(7).start()
        machine.partition(0, SMALL)
        for _ in range(6):
            for index, size in ((0, 900), (1, 100), (2, 5000)):
                machine.append(index, size=size)
            machine.settle(0.01)
        return machine.crash("power")

    whole = crashed()
    before = whole.disk.calls
    whole.start()
    calls = whole.disk.calls - before
    expected = [whole.offsets(index) for index in range(3)]
    for number in range(1, calls + 1):
        machine = crashed()
        machine.disk.cut_at = machine.disk.calls + number
        with pytest.raises(PowerCut):
            machine.start()
            raise PowerCut  # what came after the recovery was not needed any more
        machine.crash("power").start()
        assert [machine.offsets(index) for index in range(3)] == expected


def test_a_folder_of_a_newer_format_is_refused() -> None:
    machine = LogRig().start()
    machine.stop()
    text = machine.disk.read_all("meta.properties").decode()
    newer = text.replace(f"version={meta.VERSION}", f"version={meta.VERSION + 1}")
    machine.disk.write_all("meta.properties", newer.encode())
    with pytest.raises(LogFolderError, match="use a newer mainstem"):
        machine.start()
    machine.disk.write_all("meta.properties", b"nonsense")
    with pytest.raises(LogFolderError, match="no readable version"):
        machine.start()
    machine.disk.unlink("meta.properties")
    machine.disk.make_folder(FOLDER)
    with pytest.raises(LogFolderError, match="missing"):
        machine.start()


def test_a_folder_of_an_older_format_is_marked_so_that_an_older_server_refuses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = LogRig().start()
    cluster_id = machine.log.cluster_id
    machine.stop()
    monkeypatch.setattr(meta, "VERSION", meta.VERSION + 1)
    assert machine.start().log.cluster_id == cluster_id
    machine.stop()
    monkeypatch.undo()
    with pytest.raises(LogFolderError, match="use a newer mainstem"):
        machine.start()


def test_the_cluster_id_stays_the_same() -> None:
    machine = LogRig().start()
    cluster_id = machine.log.cluster_id
    assert len(cluster_id) == 22
    assert machine.stop().start().log.cluster_id == cluster_id


def test_a_locked_or_unusable_folder_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = LogRig()
    monkeypatch.setattr(machine.disk, "lock", lambda _: _raise(BlockingIOError()))
    with pytest.raises(LogFolderLocked):
        machine.start()
    monkeypatch.setattr(machine.disk, "lock", lambda _: _raise(OSError(errno.EROFS, "Read-only file system")))
    with pytest.raises(LogFolderError, match="cannot be used: Read-only file system"):
        machine.start()


def _raise(error: OSError) -> None:
    raise error


def test_deleting_a_topic_does_not_list_its_folder_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = LogRig().start()
    for _ in range(50):
        machine.write(1)
        machine.partition().roll()
    listed: list[str] = []
    names = machine.disk.list

    def counting(folder: str) -> list[str]:
        listed.append(folder)
        return names(folder)

    monkeypatch.setattr(machine.disk, "list", counting)
    machine.log.delete_topic(TOPIC)
    machine.settle(5)
    assert not machine.disk.exists(FOLDER + ".deleted")
    assert listed.count(FOLDER + ".deleted") <= 2

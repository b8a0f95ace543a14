"""A disk that fails for a moment, or a sync process that dies: what waits, what is refused, and that all of
it ends without a restart (FORMAT.md, R10). The random runs are in test_hiccup_model.py."""

from __future__ import annotations

import errno
from collections.abc import Callable
from uuid import UUID

import pytest

from mainstem.log.commit import checkpoint as checkpoints
from mainstem.log.commit import segment_repair
from mainstem.log.config import LogConfig
from mainstem.log.disk.contract import Buffer
from mainstem.log.errors import StorageError
from mainstem.promise import Promise
from tests.log.batches import batch
from tests.log.logs import CONFIG, OS, SMALL, TOPIC, LogRig
from tests.log.test_journal_rules import fail_one_group
from tests.support.simdisk import SimFile


def begin_hiccup(rig: LogRig, *indexes: int) -> None:
    """Syncs of the segments of these partitions fail from now on, or of all."""
    folders = [f"partitions/{TOPIC.hex}-{index}/" for index in indexes] or ["partitions/"]
    rig.disk.sync_fails = 1.0
    rig.disk.sync_fails_in = tuple(folders)


def end_hiccup(rig: LogRig) -> None:
    rig.disk.sync_fails = 0.0


def churn(rig: LogRig, number: int) -> Promise[None]:
    """A topic with an event comes and goes."""
    topic = UUID(int=1000 + number)
    rig.log.partition(topic, 0).append(memoryview(batch(size=100)))
    rig.settle(0.005)
    return rig.log.delete_topic(topic)


def checkpoint_number(rig: LogRig) -> int:
    stored = checkpoints.load(rig.disk)
    assert stored is not None
    return stored.number


def assert_all_accept(rig: LogRig, count: int) -> None:
    assert rig.log.read_only is None
    for index in range(count):
        assert rig.partition(index).fence_reason is None, index
        rig.write(1, index)


def test_hiccups_under_deletions_leave_the_log_writable() -> None:
    """Each deletion asks for a checkpoint, and each checkpoint begins a journal file."""
    for seed in range(10):
        rig = LogRig(seed).start()
        deletions: list[Promise[None]] = []
        for _ in range(3):
            for index in range(4):
                rig.write(2, index)
            begin_hiccup(rig, 0, 1)
            for number in range(10):
                deletions.append(churn(rig, len(deletions)))
                rig.write(1, 2)
                if number % 3 == 0 and rig.partition(3).high_watermark > 2:
                    rig.partition(3).delete_records(rig.partition(3).high_watermark - 1)
                rig.settle(0.05)
                assert rig.log.read_only is None, (seed, rig.log.read_only)
            end_hiccup(rig)
            rig.settle(6)
        assert_all_accept(rig, 4)
        assert all(deletion.done and deletion.error is None for deletion in deletions), seed
        rig.crash().start()
        assert rig.report.fenced == []


@pytest.mark.parametrize("deaths", [1, 20])
def test_the_death_of_the_sync_process_leaves_the_log_writable(deaths: int) -> None:
    """Its death in a checkpoint fences every partition, whether one is at fault or not."""
    for seed in range(20 // deaths):
        rig = LogRig(seed).start()
        deletions: list[Promise[None]] = []
        for _ in range(deaths):
            append_where_possible(rig)
            rig.log.checkpoint()
            rig.settle(0.0005)
            append_where_possible(rig)
            rig.disk.kill_sync_process()
            for _ in range(30):
                append_where_possible(rig)
                deletions.append(churn(rig, len(deletions)))
                rig.settle(0.04)
                assert rig.log.read_only is None, (seed, rig.log.read_only)
        rig.settle(10)
        assert_all_accept(rig, 4)
        assert all(deletion.done for deletion in deletions)
        ends = [rig.offsets(index) for index in range(4)]
        rig.crash().start()
        assert [rig.offsets(index) for index in range(4)] == ends


def append_where_possible(rig: LogRig) -> None:
    for index in range(4):
        if can_append(rig, index):
            rig.append(index)
    rig.settle(0.0003)


def can_append(rig: LogRig, index: int) -> bool:
    partition = rig.partition(index)
    return partition.fence_reason is None and not partition._awaits_epoch


def test_a_fenced_partition_lets_checkpoints_wait_that_the_journal_does_not_need() -> None:
    """One disk that has just failed is not asked again at once, for the sake of a deletion."""
    rig = LogRig().start()
    rig.write(2)
    rig.write(2, 1)
    begin_hiccup(rig, 0)
    rig.log.checkpoint()
    rig.settle(0.1)
    end_hiccup(rig)
    before = checkpoint_number(rig)
    deletions = [churn(rig, number) for number in range(5)]
    rig.settle(0.5)
    assert checkpoint_number(rig) == before
    rig.settle(1)
    assert checkpoint_number(rig) > before
    assert all(deletion.done for deletion in deletions)
    assert_all_accept(rig, 2)


def test_a_partition_that_cannot_be_repaired_keeps_no_deletion_waiting() -> None:
    rig = LogRig().start()
    rig.write(2)
    begin_hiccup(rig, 0)
    rig.log.checkpoint()
    rig.settle(30)
    assert rig.partition(0).fence_reason is not None
    deletions = [churn(rig, number) for number in range(5)]
    rig.settle(5)
    assert all(deletion.done and deletion.error is None for deletion in deletions)


def test_a_fenced_partition_never_needs_more_journal_files_than_when_its_sync_failed() -> None:
    rig = LogRig().start()
    rig.write(2)
    begin_hiccup(rig, 0)
    rig.log.checkpoint()
    rig.settle(30)
    for _ in range(20):
        rig.write(3, 1)
        rig.log.checkpoint()
        rig.settle(1)
    assert len(rig.disk.list("journal")) <= CONFIG.journal_files + 1
    end_hiccup(rig)
    rig.settle(12)
    assert_all_accept(rig, 2)
    rig.log.checkpoint()
    rig.settle(5)
    assert len(rig.disk.list("journal")) == CONFIG.journal_files


def pin_all_journal_files(rig: LogRig) -> int:
    """Partition after partition fails for good, each with records in a file of its own, until no file is
    left. Returns how many."""
    for index in range(20):
        rig.append(index)
        rig.settle(0.01)
        begin_hiccup(rig, *range(index + 1))
        rig.log.checkpoint()
        rig.settle(4)
        if rig.log.read_only is not None:
            return index + 1
    raise AssertionError("there is always another journal file")


def test_without_any_journal_file_all_writes_stop_until_one_is_free() -> None:
    rig = LogRig().start()
    failed = pin_all_journal_files(rig)
    assert failed >= 2 * CONFIG.journal_files - 1
    assert rig.log.read_only == "partitions that the disk failed under need all journal files"
    for index in (0, failed, failed + 1):
        with pytest.raises(StorageError):
            rig.append(index)
    end_hiccup(rig)
    rig.settle(20)
    assert_all_accept(rig, failed + 2)
    rig.crash().start()
    assert rig.report.fenced == []
    assert all(rig.offsets(index) == [0, 1] for index in range(failed - 1))


def test_without_room_for_a_journal_file_all_writes_stop_until_there_is() -> None:
    rig = LogRig().start()
    rig.write(1)
    real = rig.disk.zero_file
    rig.disk.zero_file = lambda *_: Promise.failed(OSError(errno.ENOSPC, "full"))  # type: ignore[method-assign]
    for _ in range(CONFIG.journal_files):  # each failed sync costs a file
        fail_one_group(rig)
        rig.settle(3)
    assert rig.log.read_only is not None
    assert "no journal file can be created" in rig.log.read_only
    rig.disk.zero_file = real  # type: ignore[method-assign]
    rig.settle(10)
    assert_all_accept(rig, 2)


def test_a_journal_that_fails_for_a_while_stops_writes_for_a_while() -> None:
    for seed in range(10):
        rig = LogRig(seed).start()
        rig.write(2)
        rig.write(2, 1)
        rig.disk.sync_fails = 1.0
        promises = [rig.append(index, size=size)[1] for index, size in ((0, 100), (1, 5000), (2, 100))]
        rig.settle(0.5)
        assert rig.log.read_only is not None
        assert all(isinstance(promise.error, StorageError) for promise in promises)
        rig.settle(5)
        assert rig.log.read_only is not None
        end_hiccup(rig)
        rig.settle(10)
        assert_all_accept(rig, 3)
        assert rig.offsets() == [0, 1, 2]
        rig.crash().start()
        assert rig.offsets() == [0, 1, 2]
        assert rig.offsets(1) == [0, 1, 2]


def test_a_direct_sync_that_fails_while_writes_are_stopped_is_not_forgotten() -> None:
    """The descriptor has shown its error once: a later sync of it would succeed without its bytes."""
    rig = LogRig().start()
    rig.write(1)
    rig.disk.slow_s = 0.0
    rig.disk.sync_fails = 1.0
    rig.disk.slow_s = 0.01
    _, large = rig.append(1, size=5000)
    rig.clock.run()
    rig.append(0)
    rig.settle(0.5)
    end_hiccup(rig)
    rig.settle(10)
    assert isinstance(large.error, StorageError)
    assert_all_accept(rig, 2)
    rig.write(1, 1, size=5000)
    rig.crash().start()
    assert rig.offsets(1) == [0, 1]


@pytest.mark.parametrize("config", [CONFIG, OS])
def test_a_write_that_cannot_be_undone_ends_without_a_restart(config: LogConfig) -> None:
    rig = LogRig(config=config).start()
    rig.write(1)
    calls = rig.disk.calls
    rig.disk.fail = {calls + 1: errno.EIO, calls + 2: errno.EIO, calls + 3: errno.EIO}
    with pytest.raises(StorageError):
        rig.append()
    assert rig.partition().fence_reason is not None
    rig.disk.fail.clear()
    rig.settle(5)
    assert_all_accept(rig, 1)
    rig.crash("kill").start()
    assert rig.offsets() == [0, 1]


def test_a_repair_succeeds_when_the_last_committed_segment_was_deleted() -> None:
    """All of it was deleted, after a roll, and nothing is committed in the segment after it."""
    rig = LogRig().start()
    rig.partition(0, SMALL)
    rig.write(2, size=2000)
    rig.partition().roll()
    deleted = rig.partition().delete_records(2)
    rig.settle(1)
    assert deleted.result() == 2
    begin_hiccup(rig, 0)
    _, failed = rig.append(size=4500)  # synced directly
    rig.settle(0.2)
    assert failed.error is not None
    end_hiccup(rig)
    rig.settle(10)
    assert_all_accept(rig, 1)


def count_journal_bytes(rig: LogRig, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Bytes that were read of the journal, in each turn of the loop that read some."""
    turns: dict[int, int] = {}
    turn = count_turns(rig, monkeypatch)
    real_pread = SimFile.pread

    def pread(file: SimFile, length: int, position: int) -> bytes:
        data = real_pread(file, length, position)
        if file.path.startswith("journal/"):
            turns[turn[0]] = turns.get(turn[0], 0) + len(data)
        return data

    monkeypatch.setattr(SimFile, "pread", pread)
    return lambda: list(turns.values())


def count_turns(rig: LogRig, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of the present turn of the loop, in a list that stays up to date."""
    turn = [0]
    real_turn = rig.clock.turn

    def counted() -> None:
        turn[0] += 1
        real_turn()

    monkeypatch.setattr(rig.clock, "turn", counted)
    return turn


def journal_bytes_read(partitions: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    with monkeypatch.context() as patched:
        patched.setattr(segment_repair, "BYTES_PER_TURN", 1000)
        rig = LogRig().start()
        for _ in range(4):
            for index in range(20):
                rig.append(index, size=100)
            rig.settle()
        begin_hiccup(rig, *range(partitions))
        rig.log.checkpoint()
        rig.settle(0.5)
        end_hiccup(rig)
        turns = count_journal_bytes(rig, patched)
        rig.settle(5)
        assert_all_accept(rig, 20)
        return turns()


def test_one_pass_over_the_journal_repairs_all_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one for each, of 256 MB."""
    alone = sum(journal_bytes_read(1, monkeypatch))
    together = sum(journal_bytes_read(20, monkeypatch))
    assert together < 3 * alone, "each record is read at most twice, and no group for each partition"


def test_a_repair_reads_one_group_of_the_journal_in_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = journal_bytes_read(1, monkeypatch)
    assert len(turns) >= 4
    assert max(turns) <= 20 * 300, "more than a group and the records that are written again"


def test_a_checkpoint_writes_the_side_files_of_one_partition_in_each_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each file that is opened, written and closed can take tens of milliseconds on a busy disk."""
    rig = LogRig().start()
    for index in range(20):
        rig.append(index)
    rig.settle()
    turn = count_turns(rig, monkeypatch)
    folders: dict[int, set[str]] = {}
    real_write = rig.disk.write_all

    def write_all(path: str, data: Buffer) -> None:
        if path.startswith("partitions/"):
            folders.setdefault(turn[0], set()).add(path.rpartition("/")[0])
        real_write(path, data)

    monkeypatch.setattr(rig.disk, "write_all", write_all)
    rig.log.checkpoint()
    rig.settle(5)
    assert len(set().union(*folders.values())) == 20
    assert max(map(len, folders.values())) == 1


@pytest.mark.parametrize("config", [CONFIG, OS], ids=["disk", "os"])
def test_a_log_that_is_closed_while_it_waits_for_the_disk_accepts_nothing_later(config: LogConfig) -> None:
    rig = LogRig(config=config).start()
    rig.write(2)
    partition = rig.partition()
    if config is OS:
        rig.disk.fail = dict.fromkeys(range(rig.disk.calls + 50), errno.EIO)
        with pytest.raises(StorageError):
            rig.append()
    else:
        rig.disk.sync_fails = 1.0
        rig.append()
        rig.settle(0.5)
    assert partition.fence_reason is not None
    rig.disk.fail = {}
    rig.disk.sync_fails = 0.0
    while config is CONFIG and rig.log._checkpointer._run is None:  # the one that ends the waiting
        rig.settle(0.0002)
    closed = rig.log.close()
    rig.settle(60)
    assert closed.done
    assert partition.fence_reason is not None

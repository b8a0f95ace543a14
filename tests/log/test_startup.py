"""Starts with many files: how many are open at once, and how many are synced together."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

from mainstem.log import paths
from mainstem.log.disk.contract import File, SyncResults
from mainstem.log.errors import LogFolderError
from tests.log.logs import TOPIC, LogRig


def count_syncs(machine: LogRig, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of files in each sync of the next start."""
    synced: list[int] = []
    sync_each_now = machine.disk.sync_each_now

    def counting(files: Sequence[File], folders: Sequence[str]) -> SyncResults:
        synced.append(len(files))
        return sync_each_now(files, folders)

    monkeypatch.setattr(machine.disk, "sync_each_now", counting)
    return synced


def test_many_partitions_are_synced_together(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = LogRig().start()
    for index in range(100):
        machine.append(index)
    machine.settle(1)
    machine.crash("kill")
    machine.disk.max_unsynced_files = 40
    synced = count_syncs(machine, monkeypatch)
    machine.start()
    assert synced.count(20) == 5  # each with its folder
    assert max(synced) == 20
    machine.crash("power").start()
    assert [machine.offsets(index) for index in range(100)] == [[0]] * 100


def test_a_failing_sync_makes_only_its_own_partition_read_only() -> None:
    machine = LogRig().start()
    for index in range(3):
        machine.write(1, index)
    machine.log.checkpoint()
    machine.settle(1)
    for index in range(3):
        machine.write(1, index, size=5000)  # directly: the journal has none of it
    machine.crash("kill")
    machine.disk.sync_fails, machine.disk.sync_fails_in = 1.0, f"partitions/{TOPIC.hex}-1"
    machine.start()
    assert machine.report.fenced == [(TOPIC, 1)]
    assert [machine.offsets(index) for index in (0, 2)] == [[0, 1], [0, 1]]
    machine.crash("kill").start()
    assert machine.report.fenced == []
    assert [machine.offsets(index) for index in range(3)] == [[0, 1]] * 3


def test_many_segments_without_a_checkpoint_are_recovered_with_few_open_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = LogRig().start()
    for _ in range(100):
        machine.write(1)
        machine.partition().roll()
    machine.write(1)
    machine.log.checkpoint()
    machine.settle(1)
    machine.crash("kill")
    for name in ("checkpoint-0", "checkpoint-1"):
        machine.disk.unlink(name)
    machine.disk.max_unsynced_files = 10
    synced = count_syncs(machine, monkeypatch)
    machine.start()
    assert machine.offsets() == list(range(101))
    assert sum(synced) >= 101
    assert max(synced) <= 10
    machine.crash("power").start()
    assert machine.offsets() == list(range(101))


def test_a_start_that_cannot_open_a_file_to_sync_reports_an_unusable_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = LogRig().start()
    machine.write(1)
    machine.crash("kill")

    def fails(files: Sequence[File], folders: Sequence[str]) -> SyncResults:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(machine.disk, "sync_each_now", fails)
    with pytest.raises(LogFolderError, match="cannot be used: Too many open files"):
        machine.start()


@pytest.mark.parametrize("free_bytes", [0, paths.BALLAST_BYTES])
def test_a_start_removes_the_ballast_where_the_disk_is_full(
    monkeypatch: pytest.MonkeyPatch, free_bytes: int
) -> None:
    machine = LogRig().start()
    machine.write(1)
    machine.disk.replace_now(paths.BALLAST, bytes(100))
    machine.crash("kill")
    monkeypatch.setattr(machine.disk, "free_bytes", lambda: free_bytes)
    machine.start()
    assert machine.disk.exists(paths.BALLAST) == (free_bytes > 0)
    assert machine.offsets() == [0]

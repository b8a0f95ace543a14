"""A backup holds what was acknowledged before it began, whatever the server does meanwhile.

One seed makes one life on the simulated disk (see test_log_model), with a backup that goes on between its
operations, piece by piece; then a log starts on the copy and is judged. `python -m tests.log.test_backup
--seeds 5000 [--first 0]` runs more of them.
"""

from __future__ import annotations

import argparse
import copy
import logging
import random
import sys
from collections.abc import Iterator
from typing import Protocol

import pytest

from mainstem.log import paths
from mainstem.log.commit.checkpoint import NAMES
from mainstem.log.errors import CorruptBatch, LogFolderError
from mainstem.log.log import Log
from mainstem.log.offline import backup
from mainstem.log.offline.backup import Backup, Key
from mainstem.log.storage import record_batch
from tests.log.logs import SMALL, LogRig
from tests.log.partition_model import PartitionModel, body_of
from tests.log.test_log_model import CONFIG, PARTITION, TOPIC, Faults, RandomLogRun
from tests.support.clock import SimClock
from tests.support.simdisk import SimDisk
from tests.support.siminode import SimInode


class SimSink:
    def __init__(self, disk: SimDisk, path: str) -> None:
        self._disk = disk
        if disk.exists(path):
            disk.unlink(path)
        self._file = disk.open(path, create=True)

    def write(self, data: bytes) -> None:
        self._file.pwrite(data, self._file.size())

    def close(self) -> None:
        self._disk.sync_now([self._file])


class SimulatedMachine(Protocol):
    """A simulated machine whose disk is copied."""

    rng: random.Random

    @property
    def disk(self) -> SimDisk: ...


class SimTarget:
    """The copy: another simulated disk, which can share files with the source."""

    def __init__(self, life: SimulatedMachine) -> None:
        self._life = life
        self.disk = SimDisk(SimClock(), life.rng)
        self.disk.name = "another disk"
        self.shared: list[tuple[SimInode, bytes]] = []

    def make_folder(self, folder: str) -> None:
        self.disk.make_folder(folder)

    def share(self, path: str) -> bool:
        if self._life.rng.random() < 0.2:
            return False
        inode = self._life.disk.inode(path)
        inode.links += 1
        folder, name = self.disk._parent(path)
        self.disk._rename([(folder, name, inode)])
        self.shared.append((inode, bytes(inode.seen)))
        return True

    def clone(self, path: str) -> bool:
        return False

    def create(self, path: str) -> SimSink:
        return SimSink(self.disk, path)

    def write_small(self, path: str, data: bytes) -> None:
        self.disk.write_all(path, data)

    def keep_only(self, wanted_paths: set[str]) -> None:
        for folder in ("", paths.JOURNAL, *backup.STATE_LOGS.values(), *self._partitions()):
            for name in self.disk.list(folder):
                path = f"{folder}/{name}" if folder else name
                if path not in wanted_paths and "." in name:
                    self.disk.unlink(path)

    def _partitions(self) -> list[str]:
        return [f"{paths.PARTITIONS}/{name}" for name in self.disk.list(paths.PARTITIONS)]

    def sync_folders(self) -> None:
        folders = ["", paths.JOURNAL, paths.PARTITIONS, *backup.STATE_LOGS.values(), *self._partitions()]
        self.disk.sync_now([], folders)


class LiveSource:
    """The folder as it is now, also after its server was killed and started again."""

    def __init__(self, life: SimulatedMachine) -> None:
        self._life = life

    def __getattr__(self, name: str) -> object:
        return getattr(self._life.disk, name)


class BackupRun(RandomLogRun):
    """A random run of the log during which backups are made."""

    def __init__(self, seed: int, faults: Faults) -> None:
        super().__init__(seed, "disk", faults)
        self.target: SimTarget | None = None
        self.going: Iterator[int] | None = None
        self.before: list[PartitionModel] = []
        self.made = 0

    def step(self) -> None:
        super().step()
        if self.going is None and self.rng.random() < 0.1:
            self.mark_visible()
            self.before = copy.deepcopy(self.models)
            self.target = SimTarget(self)
            source = LiveSource(self)
            self.going = Backup(source, self.target, lambda: _any).run()  # type: ignore[arg-type]
        for _ in range(self.rng.randrange(4)):
            if self.going is not None:
                try:
                    next(self.going)
                except StopIteration:
                    self.going = None
                    self.mark_visible()
                    self.judge_copy()

    def choose_crash(self) -> None:
        super().choose_crash()
        if self.crash == "power":
            self.going = None  # it went with the machine

    def judge_copy(self) -> None:
        assert self.target is not None
        self.made += 1
        clock = SimClock(self.clock.wall_ms() + 1000)
        disk = self.target.disk.power_cut(clock)
        self._share_again(disk)
        log = Log.open(disk, clock, self.rng, CONFIG)
        report = log.recover(lambda _: "live")
        assert not report.fenced, report.notes
        assert report.is_copy
        for index, before in enumerate(self.before):
            self.judge_partition(log, index, before)
        for index in range(len(self.models)):  # what the copy does now, the backup's files do not feel
            partition = log.partition(TOPIC, index, PARTITION)
            for _ in range(5):
                partition.append(
                    memoryview(record_batch.build([(b"new", bytes(2000), (), 1_356_998_400_000)]))
                )
        clock.advance(1)
        for inode, content in self.target.shared:
            assert bytes(inode.seen) == content

    def _share_again(self, disk: SimDisk) -> None:
        """A start on the backup itself, or on a copy with hard links of it."""
        assert self.target is not None
        by_content = {content: inode for inode, content in self.target.shared}
        for folder in disk.list(paths.PARTITIONS):
            for name in disk.list(f"{paths.PARTITIONS}/{folder}"):
                path = f"{paths.PARTITIONS}/{folder}/{name}"
                inode = by_content.get(bytes(disk.inode(path).seen))
                if inode is not None and name.endswith(".log"):
                    disk._rename([(*disk._parent(path), inode)])

    def judge_partition(self, log: Log, index: int, before: PartitionModel) -> None:
        now, partition = self.models[index], log.partition(TOPIC, index, PARTITION)
        end = partition.high_watermark
        assert end >= before.safe, f"the copy of {index} ends at {end}, {before.safe} was promised"
        starts = before.log_start, partition.log_start_offset, max(now.log_start_requested, 0)
        assert sorted(starts) == list(starts), starts
        assert partition.epoch > self.partition(index).epoch
        offset = partition.log_start_offset
        while offset < end:
            try:
                data = bytes(partition.read_blocking(offset, 100_000).data)
            except CorruptBatch as error:  # where the folder that was copied has it too
                if offset not in now.holes:
                    raise
                offset = int(str(error).rpartition(" ")[2])
                continue
            assert data, f"nothing at {offset} of {end}"
            for position, header in record_batch.iter_batches(data):
                whole = data[position : position + header.total_bytes]
                assert record_batch.crc_matches(whole, header)
                stored = header.next_offset, body_of(whole)
                if header.base_offset < before.safe:
                    assert before.batches[header.base_offset] == stored
                elif min(now.batches, default=0) <= header.base_offset < now.safe:
                    assert now.batches[header.base_offset] == stored, "another event has its place"
                else:
                    assert body_of(whole) in now.tried[header.base_offset]
                offset = header.next_offset


def _any(_: Key) -> bool:
    return True


def test_a_commit_that_fails_makes_the_backup_begin_again() -> None:
    machine = LogRig().start()
    machine.write(2)
    _, failing = machine.append(fill=b"x")
    machine.clock.advance(0)  # it is written to the journal, and being synced
    target = SimTarget(machine)
    made = Backup(LiveSource(machine), target, lambda: _any)  # type: ignore[arg-type]
    going = made.run()
    while not target.disk.exists(f"{paths.partition_folder(TOPIC, 0)}/{paths.segment_name(0)}"):
        next(going)
    machine.disk.sync_fails = 1.0
    while not failing.done:
        machine.clock.advance(0.0001)
    assert failing.error is not None
    machine.disk.sync_fails = 0.0
    machine.settle()
    machine.write()
    for _ in going:
        pass
    assert made.summary.attempts == 2
    copied = LogRig()
    copied.disk = target.disk
    copied.crash().start()
    assert copied.offsets() == [0, 1, 2]
    assert b"x" * 100 not in bytes(copied.partition().read_blocking(2, 1000).data)


class CountingSource(LiveSource):
    """Counts how often the journal and the checkpoint are read."""

    def __init__(self, life: SimulatedMachine) -> None:
        super().__init__(life)
        self.reads = 0

    def __getattr__(self, name: str) -> object:
        method = getattr(self._life.disk, name)

        def counted(path: str) -> object:
            self.reads += path.startswith(paths.JOURNAL) or path in NAMES
            return method(path)

        return counted if name in ("open", "read_all") else method


def reads_of_a_backup_of(partitions: int) -> int:
    """Of partitions whose first segments retention removes meanwhile. Judges the copy."""
    machine = LogRig().start()
    for index in range(partitions):
        machine.partition(index, SMALL)
        machine.write(12, index, size=1000)
    checkpoint = machine.log.checkpoint()
    machine.settle()
    checkpoint.result()
    source, target = CountingSource(machine), SimTarget(machine)
    made = Backup(source, target, lambda: _any)  # type: ignore[arg-type]
    going = made.run()
    while not any(target.disk.list(folder) for folder in backup.STATE_LOGS.values()) and not target.disk.list(
        paths.PARTITIONS
    ):
        next(going)
    starts = []
    for index in range(partitions):
        deleted = machine.partition(index).delete_records(9)
        machine.settle()
        starts.append(deleted.result())
        assert min(name for name in machine.disk.list(paths.partition_folder(TOPIC, index))) > f"{0:020}~"
    for _ in going:
        pass
    assert made.summary.attempts == 1
    copied = LogRig()
    copied.disk = target.disk
    copied.crash().start()
    assert not copied.report.fenced
    for index, start in enumerate(starts):
        assert copied.offsets(index)[-1] == 11
        assert 0 < copied.partition(index).log_start_offset <= start
    return source.reads


def test_a_backup_reads_the_journal_no_more_often_for_many_trimmed_partitions() -> None:
    assert reads_of_a_backup_of(6) == reads_of_a_backup_of(1)


def seed_run(seed: int) -> BackupRun:
    """The run of one seed, at its end."""
    faults: tuple[Faults, ...] = ("none", "none", "syncs", "calls")
    run = BackupRun(seed, faults[seed % 4])
    run.run(steps=120)
    return run


@pytest.mark.parametrize("first", range(0, 80, 20))
def test_a_backup_holds_what_was_acknowledged_before_it_began(first: int) -> None:
    made = 0
    for seed in range(first, first + 20):
        try:
            made += seed_run(seed).made
        except (AssertionError, LogFolderError, OSError, KeyError) as error:
            raise AssertionError(
                f"seed {seed}: python -m tests.log.test_backup --first {seed} --seeds 1"
            ) from error
    assert made > 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_backups_hold_what_was_acknowledged() -> None:
    assert sum(seed_run(seed).made for seed in range(1000, 3000)) > 2000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable()
    made = 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        try:
            made += seed_run(seed).made
        except BaseException:
            print(f"seed {seed} fails", file=sys.stderr)
            raise
    print(f"{made} backups in {arguments.seeds} lives from seed {arguments.first}: nothing lost")


if __name__ == "__main__":
    main()

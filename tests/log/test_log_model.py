"""Random runs of the whole log on the simulated disk, checked against a small model after every start.

One seed makes one run: appends, deletions of records, checkpoints, failing syncs, kills, power cuts in the
middle of any call, clean stops. `python -m tests.log.test_log_model --seeds 5000 [--first 0]` runs more of
them; a failure prints its seed, and that seed repeats it.
"""

from __future__ import annotations

import argparse
import errno
import logging
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Literal
from uuid import UUID

import pytest
from crc32c import crc32c

from mainstem.log.commit import checkpoint as checkpoints
from mainstem.log.commit import journal
from mainstem.log.config import LogConfig, PartitionConfig
from mainstem.log.errors import CorruptBatch, LogError, LogFolderError
from mainstem.log.log import Log
from mainstem.log.partition.partition import AppendedBatch, Partition
from mainstem.log.storage import record_batch
from mainstem.promise import Promise
from tests.log.logs import Status
from tests.log.partition_model import PartitionModel, body_of
from tests.support.clock import SimClock
from tests.support.simdisk import TORN_HEADER, PowerCut, SimDisk

TOPIC = UUID(int=77)
CONFIG = LogConfig(
    journal_file_bytes=64 << 10,
    first_journal_file_bytes=48 << 10,
    journal_files=3,
    journal_file_records_max=40,
    checkpoint_interval_s=0.2,
    direct_sync_bytes=2000,
    group_bytes_max=8 << 10,
)
PARTITION = PartitionConfig(segment_bytes=7000, index_interval_bytes=500)
Faults = Literal["none", "syncs", "segments", "calls", "hiccups"]

RATES: dict[Faults, tuple[float, ...]] = {
    "none": (0.0,),
    "calls": (0.0,),
    "syncs": (0.005, 0.05),
    "segments": (0.05, 0.5),
    "hiccups": (0.0, 0.3),
}
"""Probability that a sync fails."""


class RandomLogRun:
    """The run of one seed."""

    def __init__(
        self, seed: int, durability: Literal["disk", "os"] = "disk", faults: Faults = "none"
    ) -> None:
        self.rng = random.Random(seed)
        self.durability: Literal["disk", "os"] = durability
        self.faults = faults
        self.clock = SimClock()
        self.disk = SimDisk(self.clock, self.rng)
        self.models = [PartitionModel() for _ in range(self.rng.randint(1, 4))]
        self.names = 0
        self.starts = 0
        self.crashes = Counter[str]()
        """By kind. A clean stop also ends in one."""
        self.stops = 0
        """How often all writes stopped for a while."""
        self.log: Log

    def start(self) -> None:
        """Open and recover; it may crash in the middle, and starts again."""
        config = (
            CONFIG if self.durability == "disk" else LogConfig(durability="os", checkpoint_interval_s=0.2)
        )
        while True:
            self.starts += 1
            clock = SimClock(wall_ms=1_356_998_400_000 + self.starts * 100_000)
            self.fenced |= self.faults == "calls" or any("partitions" in path for path in self.disk.failed)
            self.disk = self.disk.power_cut(clock) if self.crash == "power" else self.disk.kill(clock)
            self.clock = clock
            self.crashes[self.crash] += self.starts > 1
            if self.rng.random() < 0.2:
                self.disk.cut_at = self.rng.randint(1, 40)
            fails = self.fail_at_start()
            self.damage_checkpoint()
            try:
                self.log = Log.open(self.disk, self.clock, self.rng, config)
                report = self.log.recover(self.status)
            except PowerCut:
                self.choose_crash()
                continue
            except LogFolderError:
                assert fails
                self.choose_crash()
                continue
            if report.fenced and fails:  # only until the disk can be read again
                self.choose_crash()
                continue
            assert not report.fenced, report.notes
            # A file that a checkpoint has freed may be half overwritten, and is read while an older one is
            # kept for a fenced partition. That is a false alarm: the checkpoint covers all its records.
            notes = [note for note in report.notes if "damaged" in note and not TORN_HEADER.search(note)]
            may_report = self.fenced or self.damaged
            assert not notes or may_report, f"nothing was damaged in this run: {notes}"
            self.disk.cut_at, self.disk.sync_fails = -1, 0.0
            self.disk.fail.clear()
            return

    def status(self, topic_id: UUID) -> Status:
        """What the state log says of a topic."""
        return "live"

    def fail_at_start(self) -> bool:
        """Let the disk fail during recovery, sometimes."""
        if self.rng.random() < 0.8:
            return False
        if self.faults == "calls":
            self.disk.fail[self.rng.randint(1, 40)] = self.rng.choice((errno.EIO, errno.ENOSPC))
        else:
            self.disk.sync_fails = self.rng.choice(RATES[self.faults])
        return self.faults != "none"

    def damage_checkpoint(self) -> None:
        """Damage the newest checkpoint, rarely. Not if it may be the only one with a log start."""
        is_needed = any(model.log_start_requested for model in self.models)
        newest = checkpoints.load(self.disk) if self.rng.random() < 0.05 and not is_needed else None
        if newest is not None and not checkpoints.damaged_files(self.disk) and newest.number > 1:
            inode = self.disk.inode(checkpoints.NAMES[newest.number % 2])
            inode.seen[:], inode.disk[:] = b"x", b"x"
            self.damaged = True

    damaged = False
    """A checkpoint was damaged since the last check."""
    crash: Literal["power", "kill"] = "kill"
    was_power_cut = False
    fenced = False
    """A partition may have been fenced in this run."""

    def choose_crash(self) -> None:
        self.crash = self.rng.choice(("power", "kill"))
        self.was_power_cut |= self.crash == "power"

    def run(self, steps: int) -> None:
        self.start()
        for _ in range(self.rng.randint(2, 5)):
            clean = False
            self.disk.cold = self.rng.choice((0.0, 0.2))
            self.disk.slow_s = self.rng.choice((0.0005, 0.02))
            self.disk.sync_fails = self.rng.choice(RATES[self.faults])
            self.disk.sync_fails_in = "partitions/" if self.faults in ("segments", "hiccups") else ""
            if self.faults == "calls":
                for _ in range(self.rng.randint(1, 4)):
                    number = self.disk.calls + self.rng.randint(1, steps * 4)
                    self.disk.fail[number] = self.rng.choice((errno.EIO, errno.ENOSPC))
            if self.rng.random() < 0.7:
                self.disk.cut_at = self.disk.calls + self.rng.randint(1, steps * 4)
            try:
                for _ in range(steps):
                    self.step()
                if self.rng.random() < 0.5:
                    self.heal()
                if self.rng.random() < 0.3 and self.faults == "none":
                    clean = True  # the power may fail once the stop is complete
                    self.stop()
            except PowerCut:
                pass
            self.mark_visible()
            self.was_power_cut = False
            self.choose_crash()
            self.start()
            for index in range(len(self.models)):
                self.check(index, clean)
            self.damaged = False

    def heal(self) -> None:
        """The disk works again: soon all partitions accept events, without a restart."""
        self.disk.sync_fails = 0.0
        self.disk.fail.clear()
        self.clock.advance(25)
        self.mark_visible()
        assert self.log.read_only is None
        for index in range(len(self.models)):
            partition = self.partition(index)
            assert partition.fence_reason is None, partition.fence_reason
            safe = self.models[index].safe
            self.names += 1
            data = record_batch.build([(b"%d" % self.names, b"again", (), 1_356_998_400_000)])
            self.send(index, data, -1, 0)
            self.clock.advance(1)
            assert partition.log_end_offset == partition.high_watermark
            assert self.models[index].safe > safe, "an event was not accepted"

    def stop(self) -> None:
        closed = self.log.close()
        self.clock.advance(5)
        assert closed.done

    def partition(self, index: int) -> Partition:
        return self.log.partition(TOPIC, index, PARTITION)

    # What can happen.

    def step(self) -> None:
        index = self.rng.randrange(len(self.models))
        choice = self.rng.random()
        if choice < 0.6:
            self.append(index)
        elif choice < 0.65:
            self.append_again(index)
        elif choice < 0.68:
            self.delete_records(index)
        elif choice < 0.70:
            self.log.checkpoint()
        elif choice < 0.75:
            self.read(index)
        else:
            self.clock.advance(self.rng.choice((0.0001, 0.002, 0.05, 0.3, 1.5)))
            self.mark_visible()

    def append(self, index: int) -> None:
        model = self.models[index]
        producer = self.rng.choice((-1, -1, 1, 2))
        self.names += 1
        size = self.rng.choice((10, 100, 700, 2500))
        count = self.rng.choice((1, 1, 3))
        records = [(b"%d" % self.names, bytes(size), (), 1_356_998_400_000) for _ in range(count)]
        sequence = model.sequences.get(producer, 0) if producer >= 0 else -1
        data = record_batch.build(
            records, producer_id=producer, producer_epoch=0 if producer >= 0 else -1, base_sequence=sequence
        )
        body = body_of(data)
        if producer >= 0:
            model.last_sent[producer] = (count, body)
        self.send(index, data, producer, sequence + count)

    def append_again(self, index: int) -> None:
        """Repeat a batch, as a client that got no reply."""
        model = self.models[index]
        producer = self.rng.choice((1, 2))
        if producer in model.last_sent:
            count, body = model.last_sent[producer]
            data = bytearray(record_batch.CRC_FROM) + body
            first = record_batch.build([(b"", b"", (), 0)])
            data[: record_batch.CRC_FROM] = first[: record_batch.CRC_FROM]
            data[8:12] = (len(data) - record_batch.LENGTH_OVERHEAD).to_bytes(4, "big")
            data[17:21] = crc32c(body).to_bytes(4, "big")
            sequence = record_batch.read_header(data).base_sequence
            self.send(index, data, producer, sequence + count)

    def send(self, index: int, data: bytearray, producer: int, next_sequence: int) -> None:
        model, partition = self.models[index], self.partition(index)
        body = body_of(data)
        end = partition.log_end_offset
        header = record_batch.read_header(data)
        model.tried.setdefault(end, set()).add(body)  # also if the power fails in the middle
        try:
            done = partition.append(memoryview(data))
        except LogError:
            return
        if done.duplicate:
            first = model.batches.get(done.base_offset)
            is_deleted = first is None and done.base_offset < partition.log_start_offset
            assert is_deleted or first == (done.next_offset, body)
        else:
            assert done.base_offset == end
            assert done.next_offset == end + header.count
            start = partition.log_start_offset
            copies = [batch for batch in model.batches.values() if batch[1] == body and batch[0] > start]
            assert producer < 0 or not copies, "an idempotent producer's batch is there twice"
            model.appended(done.base_offset, done.next_offset, body)
        if producer >= 0:
            model.sequences[producer] = max(model.sequences.get(producer, 0), next_sequence)
        partition.when_committed(done.next_offset).then(self.reported(model, partition, done, body))

    def reported(
        self, model: PartitionModel, partition: Partition, done: AppendedBatch, body: bytes
    ) -> Callable[[Promise[None]], None]:
        def call(promise: Promise[None]) -> None:
            if promise.error is None:
                assert (
                    done.next_offset <= model.log_start_requested
                    or model.batches[done.base_offset][1] == body
                )
                model.safe = max(model.safe, done.next_offset)
            elif model.batches.get(done.base_offset) == (done.next_offset, body):
                assert done.duplicate or done.base_offset >= model.safe, "it was visible"
                # Fenced with its commit under way: it failed, but it may yet be there.
                if not done.duplicate and partition.log_end_offset <= done.base_offset:
                    del model.batches[done.base_offset]

        return call

    def delete_records(self, index: int) -> None:
        model, partition = self.models[index], self.partition(index)
        if partition.high_watermark > partition.log_start_offset:
            before = self.rng.randint(partition.log_start_offset, partition.high_watermark)
            model.log_start_requested = max(model.log_start_requested, before)

            def done(promise: Promise[int]) -> None:
                if promise.error is None:
                    model.log_start = max(model.log_start, before)

            try:
                partition.delete_records(before).then(done)
            except LogError:
                return

    def read(self, index: int) -> None:
        partition = self.partition(index)
        if partition.log_start_offset < partition.high_watermark:
            offset = self.rng.randrange(partition.log_start_offset, partition.high_watermark)
            try:
                result = partition.read(offset, 3000)
            except CorruptBatch:
                if not self.models[index].is_hole(offset):
                    raise
                return
            if not isinstance(result, Promise):
                self.compare(self.models[index], bytes(result.data), offset)

    def compare(self, model: PartitionModel, data: bytes, offset: int) -> None:
        assert data
        for position, header in record_batch.iter_batches(data):
            assert model.batches[header.base_offset] == (
                header.next_offset,
                body_of(data[position : position + header.total_bytes]),
            )
            assert header.next_offset > offset

    def mark_visible(self) -> None:
        """Readers may have seen everything below the watermark."""
        for index, model in enumerate(self.models):
            partition = self.log.partition(TOPIC, index)
            assert partition.log_start_offset <= partition.high_watermark <= partition.log_end_offset
            model.safe = max(model.safe, partition.high_watermark)
            if partition.fence_reason is None and not partition._awaits_epoch:  # then it is durable
                model.epoch = max(model.epoch, partition.epoch)

    # What must hold after a start.

    def check(self, index: int, clean: bool) -> None:
        model, partition = self.models[index], self.partition(index)
        end = partition.high_watermark
        assert partition.fence_reason is None, partition.fence_reason
        assert end == partition.log_end_offset
        if self.durability == "os" and self.was_power_cut:
            model.safe = min(model.safe, end)  # the end may be lost then, but never the middle
        assert end >= model.safe, (
            f"partition {index} ends at {end}, before {model.safe}, up to which it was acknowledged"
        )
        assert model.log_start <= partition.log_start_offset <= max(model.log_start_requested, 0)
        if model.safe and not self.damaged:
            assert partition.epoch >= model.epoch + (0 if clean else 1)
        model.epoch = partition.epoch
        batches: dict[int, tuple[int, bytes]] = {}
        offset, epoch = partition.log_start_offset, 0
        while offset < end:
            try:
                data = bytes(partition.read_blocking(offset, 100_000).data)
            except CorruptBatch as error:  # in bytes that were never acknowledged
                if not (self.damaged and offset >= model.safe) and not model.is_hole(offset):
                    raise
                following = int(str(error).rpartition(" ")[2])
                model.holes[offset] = following
                offset = following
                continue
            assert data, f"nothing at {offset} of {end}"
            for position, header in record_batch.iter_batches(data):
                whole = data[position : position + header.total_bytes]
                assert record_batch.crc_matches(whole, header)
                assert header.leader_epoch >= epoch
                body = body_of(whole)
                if header.base_offset < model.safe:
                    assert model.batches[header.base_offset] == (header.next_offset, body)
                else:
                    assert body in model.tried.get(header.base_offset, ())
                batches[header.base_offset] = (header.next_offset, body)
                assert header.base_offset <= offset < header.next_offset
                offset, epoch = header.next_offset, header.leader_epoch
        bodies = [body for _, body in batches.values()]
        assert len(bodies) == len(set(bodies)), "a batch is there twice"
        model.batches = batches
        model.safe = end
        model.log_start = partition.log_start_offset
        for producer in (1, 2):
            headers = [record_batch.read_header(bytes(21) + body) for body in bodies]
            ends = [
                header.base_sequence + header.count for header in headers if header.producer_id == producer
            ]
            if ends or partition.log_start_offset == 0:
                model.sequences[producer] = max(ends, default=0)
            else:
                model.sequences.pop(producer, None)
                model.last_sent.pop(producer, None)


class EagerCommitLogRun(RandomLogRun):
    """Each batch begins its commit at once, as that of a single producer does."""

    def send(self, index: int, data: bytearray, producer: int, next_sequence: int) -> None:
        super().send(index, data, producer, next_sequence)
        self.log.commit_now_if_idle()


KINDS: tuple[Faults, ...] = ("none", "none", "syncs", "syncs", "calls", "segments", "none")


def run_seed(seed: int, kind: type[RandomLogRun] = RandomLogRun) -> Counter[str]:
    """Run one seed; returns its crashes."""
    return seed_run(seed, kind).crashes


def seed_run(seed: int, kind: type[RandomLogRun] = RandomLogRun) -> RandomLogRun:
    """The run of one seed, at its end."""
    faults: Faults = KINDS[seed % len(KINDS)]
    run = kind(seed, "os" if seed % len(KINDS) == len(KINDS) - 1 else "disk", faults)
    run.run(steps=60)
    return run


@pytest.mark.parametrize("first", range(0, 160, 20))
def test_nothing_acknowledged_is_lost(first: int) -> None:
    for seed in range(first, first + 20):
        try:
            run_seed(seed)
        except (AssertionError, LogFolderError, OSError, KeyError) as error:
            raise AssertionError(
                f"seed {seed}: python -m tests.log.test_log_model --first {seed} --seeds 1"
            ) from error


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_nothing_is_lost_when_commits_begin_at_once(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SINGLE_WRITER_GROUPS", 0)
    for seed in range(first, first + 20):
        run_seed(seed, EagerCommitLogRun)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_acknowledged_is_lost_in_many_runs() -> None:
    logging.disable()  # else the log lines of 5,000 runs are kept in memory
    try:
        for seed in range(1000, 6000):
            run_seed(seed)
    finally:
        logging.disable(logging.NOTSET)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable()
    crashes = Counter[str]()
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        try:
            crashes += run_seed(seed)
        except BaseException:
            print(f"seed {seed} fails", file=sys.stderr)
            raise
    counts = f"{crashes['power']} power cuts and {crashes['kill']} kills"
    print(f"{arguments.seeds} runs from seed {arguments.first}, with {counts}: nothing lost")


if __name__ == "__main__":
    main()

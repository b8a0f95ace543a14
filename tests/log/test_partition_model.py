"""A partition against a list: random appends, commits, failures, restarts, reads, look-ups."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mainstem.log.config import PartitionConfig
from mainstem.log.errors import OffsetOutOfRange, StorageError
from mainstem.log.partition.partition import BatchSlice
from mainstem.log.storage.record_batch import decode, iter_batches, read_header
from mainstem.promise import Promise
from tests.log.batches import batch
from tests.support.memdisk import ImmediateCommitter, ManualCommitter, PartitionRig


@dataclass
class ExpectedPartition:
    """What the partition should hold."""

    records: list[tuple[int, int, int]] = field(default_factory=list)
    """(timestamp, arrival, epoch) by offset; committed up to `committed`."""
    committed: int = 0
    start: int = 0
    epoch: int = 0

    def first_at(self, timestamp: int) -> int | None:
        for offset in range(self.start, self.committed):
            if self.records[offset][0] >= timestamp:
                return offset
        return None


class PartitionMachine(RuleBasedStateMachine):
    """Each rule does the same to both."""

    @initialize(cold=st.booleans(), immediate=st.booleans())
    def begin(self, cold: bool, immediate: bool) -> None:
        config = PartitionConfig(segment_bytes=1500, index_interval_bytes=200, segment_ms=10**12)
        committer = ImmediateCommitter() if immediate else ManualCommitter()
        self.bench = PartitionRig(config, committer=committer)
        self.bench.disk.cold = cold
        self.model = ExpectedPartition()
        self.waiting: list[tuple[int, Promise[None]]] = []
        self.moved = 0
        self.bench.partition.watch(self._moved)

    def _moved(self, _: object) -> None:
        self.moved += 1

    def _now(self, later: object) -> object:
        if isinstance(later, Promise):
            self.bench.wait(later)
            return later.result()
        return later

    @rule(
        count=st.integers(1, 5),
        size=st.integers(0, 120),
        timestamp=st.integers(0, 1000),
        ms=st.sampled_from([0, 1, 700, 1000, 5000, -3000]),
    )
    def append(self, count: int, size: int, timestamp: int, ms: int) -> None:
        self.bench.clock.wall += ms
        partition, model = self.bench.partition, self.model
        appended = partition.append(batch(count, size=size, timestamp_ms=timestamp))
        assert appended.base_offset == len(model.records)
        arrival = self.bench.committer.last_arrival_ms
        model.records += [(timestamp + n, arrival, model.epoch) for n in range(count)]
        assert appended.next_offset == len(model.records)
        if isinstance(self.bench.committer, ImmediateCommitter):
            model.committed = len(model.records)
        self.waiting.append((appended.next_offset, partition.when_committed(appended.next_offset)))

    @rule(count=st.integers(1, 4))
    def commit(self, count: int) -> None:
        pending = self.bench.committer.pending
        self.model.committed = max([self.model.committed, *(write.end_offset for write in pending[:count])])
        self.bench.committer.commit(count)

    @rule()
    def fail(self) -> None:
        if self.bench.committer.pending:
            self.bench.committer.fail()
            self.model.epoch += 1
        del self.model.records[self.model.committed :]

    @rule()
    def checkpoint(self) -> None:
        self.bench.checkpoint()

    @rule()
    def restart(self) -> None:
        self.commit(1000)
        self.bench.restart()
        self.waiting.clear()

    @rule(lose_files=st.sets(st.sampled_from([".index", ".timeindex", "snapshot", "-checkpoint"])))
    def crash(self, lose_files: set[str]) -> None:
        state = self.bench.state(clean=False)
        for path in list(self.bench.disk.files):
            if path.endswith(tuple(lose_files)):
                del self.bench.disk.files[path]
        del self.model.records[self.model.committed :]
        self.model.epoch += 1
        self.bench.crash(state)
        self.waiting.clear()

    @rule(data=st.data(), max_bytes=st.integers(0, 3000))
    def read(self, data: st.DataObject, max_bytes: int) -> None:
        model = self.model
        offset = data.draw(st.integers(model.start, model.committed))
        found = self._now(self.bench.partition.read(offset, max_bytes))
        assert isinstance(found, BatchSlice)
        if offset == model.committed:
            assert (bytes(found.data), found.next_offset) == (b"", offset)
            return
        headers = [header for _, header in iter_batches(found.data)]
        assert sum(header.total_bytes for header in headers) == len(found.data)
        assert headers[0].base_offset <= offset < headers[0].next_offset
        assert headers[-1].next_offset == found.next_offset <= model.committed
        assert len(found.data) <= max_bytes or len(headers) == 1
        at = 0
        for header in headers:
            for record in decode(bytes(found.data[at : at + header.total_bytes])):
                assert record.timestamp_ms == model.records[record.offset][0]
            assert header.leader_epoch == model.records[header.base_offset][2]
            at += header.total_bytes

    @rule(timestamp=st.integers(0, 1010))
    def look_up_by_time(self, timestamp: int) -> None:
        found = self._now(self.bench.partition.offset_for_time(timestamp))
        expected = self.model.first_at(timestamp)
        assert (found.offset if found else None) == expected  # type: ignore[attr-defined]

    @rule()
    def look_up_largest(self) -> None:
        model = self.model
        found = self._now(self.bench.partition.offset_of_max_timestamp())
        stamps = [record[0] for record in model.records[model.start : model.committed]]
        if not stamps:
            assert found is None
        else:
            assert found is not None
            assert found.timestamp_ms == max(stamps)  # type: ignore[attr-defined]
            assert found.offset == model.start + stamps.index(max(stamps))  # type: ignore[attr-defined]

    @rule(data=st.data())
    def arrivals(self, data: st.DataObject) -> None:
        model = self.model
        if model.start == model.committed:
            return
        offset = data.draw(st.integers(model.start, model.committed - 1))
        arrival = model.records[offset][1]
        assert arrival - 1000 < self.bench.partition.arrival_of(offset) <= arrival
        found = self.bench.partition.offset_for_arrival(arrival)
        first = next(n for n in range(model.start, model.committed) if model.records[n][1] >= arrival)
        assert found <= first
        assert all(model.records[n][1] > arrival - 1000 for n in range(found, first))

    @rule(data=st.data())
    def delete_records(self, data: st.DataObject) -> None:
        model = self.model
        before = data.draw(st.integers(-1, model.committed))
        later = self.bench.partition.delete_records(before)
        self.bench.committer.commit(0)
        model.start = max(model.start, model.committed if before == -1 else before)
        assert later.result() == model.start

    @rule(data=st.data())
    def byte_ranges(self, data: st.DataObject) -> None:
        model = self.model
        first = data.draw(st.integers(model.start, model.committed))
        last = data.draw(st.integers(first, model.committed))
        seen: set[int] = set()
        for path, start, stop in self.bench.partition.byte_ranges(first, last):
            for _, header in iter_batches(bytes(self.bench.disk.files[path][start:stop])):
                seen |= set(range(header.base_offset, header.next_offset))
        assert set(range(first, last)) <= seen
        assert not seen or max(seen) < model.committed

    @precondition(lambda self: self.model.committed > self.model.start)
    @rule()
    def epochs(self) -> None:
        model = self.model
        for epoch in range(model.epoch + 1):
            ends = [n + 1 for n in range(model.start, model.committed) if model.records[n][2] <= epoch]
            end = self.bench.partition.epoch_end(epoch)[1]
            assert end == (max(ends) if ends else model.start) or epoch == model.epoch
        assert self.bench.partition.epoch_end(model.epoch) == (model.epoch, model.committed)
        assert self.bench.partition.epoch_end(model.epoch + 1) == (-1, -1)

    @invariant()
    def offsets_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        partition, model = self.bench.partition, self.model
        assert partition.log_start_offset == model.start
        assert partition.high_watermark == model.committed
        assert partition.log_end_offset == len(model.records)
        assert partition.epoch == model.epoch
        for offset in (model.start - 1, len(model.records) + 1):
            with pytest.raises(OffsetOutOfRange):
                partition.read(offset, 10)
        for offset, later in self.waiting:
            if offset > len(model.records):
                assert later.done
                assert isinstance(later.error, StorageError)
        self.waiting = [one for one in self.waiting if not one[1].done]
        assert all(offset > model.committed for offset, _ in self.waiting)


PartitionMachine.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestPartition = PartitionMachine.TestCase


def test_each_segment_begins_with_its_base_offset() -> None:
    bench = PartitionRig(PartitionConfig(segment_bytes=1000))
    for _ in range(30):
        bench.partition.append(batch(3, size=50))
    for segment in bench.partition.segments:
        assert read_header(bench.disk.files[segment.path]).base_offset == segment.base_offset

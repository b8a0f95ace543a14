"""A partition compared with a list: random appends, commits, failures, restarts, reads, look-ups."""

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
from tests.log.committers import ImmediateCommitter, ManualCommitter
from tests.log.partition_rig import PartitionRig


@dataclass
class ModelPartition:
    """What the partition should hold."""

    records: list[tuple[int, int, int]] = field(default_factory=list)
    """(timestamp, arrival, epoch) by offset; committed up to `committed`."""
    committed: int = 0
    start: int = 0
    epoch: int = 0

    def first_since(self, timestamp: int) -> int | None:
        for offset in range(self.start, self.committed):
            if self.records[offset][0] >= timestamp:
                return offset
        return None


class PartitionMachine(RuleBasedStateMachine):
    """Each rule changes the partition and the list in the same way, or compares them."""

    @initialize(cold=st.booleans(), immediate=st.booleans())
    def begin(self, cold: bool, immediate: bool) -> None:
        config = PartitionConfig(segment_bytes=1500, index_interval_bytes=200, segment_ms=10**12)
        committer = ImmediateCommitter() if immediate else ManualCommitter()
        self.rig = PartitionRig(config, committer=committer)
        self.rig.disk.cold = cold
        self.model = ModelPartition()
        self.waiting: list[tuple[int, Promise[None]]] = []
        self.watermark_moves = 0
        self.rig.partition.watch(self._on_watermark)

    def _on_watermark(self, _: object) -> None:
        self.watermark_moves += 1

    def _result_of(self, value: object) -> object:
        if isinstance(value, Promise):
            self.rig.wait(value)
            return value.result()
        return value

    @rule(
        count=st.integers(1, 5),
        size=st.integers(0, 120),
        timestamp=st.integers(0, 1000),
        ms=st.sampled_from([0, 1, 700, 1000, 5000, -3000]),
    )
    def append(self, count: int, size: int, timestamp: int, ms: int) -> None:
        self.rig.clock.wall += ms
        partition, model = self.rig.partition, self.model
        appended = partition.append(batch(count, size=size, timestamp_ms=timestamp))
        assert appended.base_offset == len(model.records)
        arrival = self.rig.committer.last_arrival_ms
        model.records += [(timestamp + n, arrival, model.epoch) for n in range(count)]
        assert appended.next_offset == len(model.records)
        if isinstance(self.rig.committer, ImmediateCommitter):
            model.committed = len(model.records)
        self.waiting.append((appended.next_offset, partition.when_committed(appended.next_offset)))

    @rule(count=st.integers(1, 4))
    def commit(self, count: int) -> None:
        pending = self.rig.committer.pending
        self.model.committed = max([self.model.committed, *(write.end_offset for write in pending[:count])])
        self.rig.committer.commit(count)

    @rule()
    def fail(self) -> None:
        if self.rig.committer.pending:
            self.rig.committer.fail()
            self.model.epoch += 1
        del self.model.records[self.model.committed :]

    @rule()
    def checkpoint(self) -> None:
        self.rig.checkpoint()

    @rule()
    def restart(self) -> None:
        self.commit(1000)
        self.rig.restart()
        self.waiting.clear()

    @rule(lose_files=st.sets(st.sampled_from([".index", ".timeindex", "snapshot", "-checkpoint"])))
    def crash(self, lose_files: set[str]) -> None:
        state = self.rig.state(clean=False)
        for path in list(self.rig.disk.files):
            if path.endswith(tuple(lose_files)):
                del self.rig.disk.files[path]
        del self.model.records[self.model.committed :]
        self.model.epoch += 1
        self.rig.crash(state)
        self.waiting.clear()

    @rule(data=st.data(), max_bytes=st.integers(0, 3000))
    def read(self, data: st.DataObject, max_bytes: int) -> None:
        model = self.model
        offset = data.draw(st.integers(model.start, model.committed))
        part = self._result_of(self.rig.partition.read(offset, max_bytes))
        assert isinstance(part, BatchSlice)
        if offset == model.committed:
            assert (bytes(part.data), part.next_offset) == (b"", offset)
            return
        headers = [header for _, header in iter_batches(part.data)]
        assert sum(header.total_bytes for header in headers) == len(part.data)
        assert headers[0].base_offset <= offset < headers[0].next_offset
        assert headers[-1].next_offset == part.next_offset <= model.committed
        assert len(part.data) <= max_bytes or len(headers) == 1
        position = 0
        for header in headers:
            for record in decode(bytes(part.data[position : position + header.total_bytes])):
                assert record.timestamp_ms == model.records[record.offset][0]
            assert header.leader_epoch == model.records[header.base_offset][2]
            position += header.total_bytes

    @rule(timestamp=st.integers(0, 1010))
    def look_up_by_time(self, timestamp: int) -> None:
        record = self._result_of(self.rig.partition.offset_for_time(timestamp))
        expected = self.model.first_since(timestamp)
        assert (record.offset if record else None) == expected  # type: ignore[attr-defined]

    @rule()
    def look_up_largest(self) -> None:
        model = self.model
        largest = self._result_of(self.rig.partition.offset_of_max_timestamp())
        timestamps = [record[0] for record in model.records[model.start : model.committed]]
        if not timestamps:
            assert largest is None
        else:
            first = model.start + timestamps.index(max(timestamps))
            assert largest is not None
            assert largest.timestamp_ms == max(timestamps)  # type: ignore[attr-defined]
            assert largest.offset == first  # type: ignore[attr-defined]

    @rule(data=st.data())
    def arrivals(self, data: st.DataObject) -> None:
        model = self.model
        if model.start == model.committed:
            return
        offset = data.draw(st.integers(model.start, model.committed - 1))
        arrival = model.records[offset][1]
        assert arrival - 1000 < self.rig.partition.arrival_of(offset) <= arrival
        since = self.rig.partition.offset_for_arrival(arrival)
        first = next(n for n in range(model.start, model.committed) if model.records[n][1] >= arrival)
        assert since <= first
        assert all(model.records[n][1] > arrival - 1000 for n in range(since, first))

    @rule(data=st.data())
    def delete_records(self, data: st.DataObject) -> None:
        model = self.model
        before = data.draw(st.integers(-1, model.committed))
        deletion = self.rig.partition.delete_records(before)
        self.rig.committer.commit(0)
        model.start = max(model.start, model.committed if before == -1 else before)
        assert deletion.result() == model.start

    @rule(data=st.data())
    def byte_ranges(self, data: st.DataObject) -> None:
        model = self.model
        first = data.draw(st.integers(model.start, model.committed))
        last = data.draw(st.integers(first, model.committed))
        offsets: set[int] = set()
        for path, start, stop in self.rig.partition.byte_ranges(first, last):
            for _, header in iter_batches(bytes(self.rig.disk.files[path][start:stop])):
                offsets |= set(range(header.base_offset, header.next_offset))
        assert set(range(first, last)) <= offsets
        assert not offsets or max(offsets) < model.committed

    @precondition(lambda self: self.model.committed > self.model.start)
    @rule()
    def epochs(self) -> None:
        model = self.model
        for epoch in range(model.epoch + 1):
            ends = [n + 1 for n in range(model.start, model.committed) if model.records[n][2] <= epoch]
            end = self.rig.partition.epoch_end(epoch)[1]
            assert end == (max(ends) if ends else model.start) or epoch == model.epoch
        assert self.rig.partition.epoch_end(model.epoch) == (model.epoch, model.committed)
        assert self.rig.partition.epoch_end(model.epoch + 1) == (-1, -1)

    @invariant()
    def offsets_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        partition, model = self.rig.partition, self.model
        assert partition.log_start_offset == model.start
        assert partition.high_watermark == model.committed
        assert partition.log_end_offset == len(model.records)
        assert partition.epoch == model.epoch
        for offset in (model.start - 1, len(model.records) + 1):
            with pytest.raises(OffsetOutOfRange):
                partition.read(offset, 10)
        for offset, promise in self.waiting:
            if offset > len(model.records):
                assert promise.done
                assert isinstance(promise.error, StorageError)
        self.waiting = [(offset, promise) for offset, promise in self.waiting if not promise.done]
        assert all(offset > model.committed for offset, _ in self.waiting)


PartitionMachine.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestPartition = PartitionMachine.TestCase


def test_each_segment_begins_with_its_base_offset() -> None:
    rig = PartitionRig(PartitionConfig(segment_bytes=1000))
    for _ in range(30):
        rig.partition.append(batch(3, size=50))
    for segment in rig.partition.segments:
        assert read_header(rig.disk.files[segment.path]).base_offset == segment.base_offset

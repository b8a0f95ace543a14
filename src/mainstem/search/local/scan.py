"""Scans one unit, a few MiB of batches, for the events that match a query.

Owns: the order of the tests, from cheap to expensive: times in the batch headers, the bytes of many batches
at once, CRC, the bytes of decompressed batches, records. At most one decompressed batch is in memory. A batch
that cannot be decoded is reported as damage, and the scan continues. Refuses: processes and messages
(`workers/worker.py`), and to read from brokers.

The header's largest timestamp is an upper bound of a batch's times, as in Kafka's own look-up by time. There
is no lower bound (the base timestamp is that of the first record, and later records may be older), except
with LogAppendTime, where all times are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec

from mainstem.log.errors import CorruptBatch
from mainstem.log.storage import codecs
from mainstem.log.storage.record_batch import BatchHeader, Record, crc_matches, decompressed, records_in
from mainstem.search.blocks.batches import LocatedBatch, MappedRange, OpenRange, locate_batches
from mainstem.search.ipc import Row, ScanCounts, Unit
from mainstem.search.match.divided_counter import DividedCounter, has_only_field_terms
from mainstem.search.match.event_view import EventView
from mainstem.search.match.field_counter import FieldValueCounter
from mainstem.search.match.matcher import Matcher, either
from mainstem.search.query.ast import Everything, Not
from mainstem.search.query.parser import parse

BATCH_BYTES_MAX = 64 << 20
"""A batch that is larger when decompressed is reported as unreadable."""
GROUP_BYTES = 512 << 10
"""Bytes of batches that are prefiltered together: large enough for few calls, small enough that the bytes are
still in the processor's cache when the batches are scanned."""
PAUSE_EVENTS = 256
"""A scan can pause after each batch of which it has decoded something, and within a batch after this many
events."""
ROW_OVERHEAD_BYTES = 64
"""Memory of a match besides its key, value and headers, roughly."""


class CompiledQuery:
    """A query and the times of its request, compiled once for many units. With a `baseline`, whose matches
    are counted apart, the matcher is that of both queries."""

    def __init__(
        self,
        query: str,
        now_ms: int,
        since_ms: int | None,
        until_ms: int | None,
        baseline: str | None = None,
    ) -> None:
        self.matcher = Matcher.of(either(query, baseline), now_ms=now_ms)
        self.node = parse(query)
        self.check = self.matcher.check_of(self.node)
        self.rest_is_baseline = baseline is not None and parse(baseline) == Not(self.node)
        """Whether the matches of the baseline are just the events that do not match the query."""
        self.baseline_check = None
        if baseline is not None and not self.rest_is_baseline:
            self.baseline_check = self.matcher.check_of(parse(baseline))
        self.divides_by_fields = self.rest_is_baseline and has_only_field_terms(self.node)
        """Whether a test of decoded payloads suffices to say which of both an event matches."""
        self._since_ms, self._until_ms = since_ms, until_ms
        self.any_time = since_ms is None and until_ms is None
        """Whether the request includes records of any time."""
        query_from_ms, query_to_ms = self.matcher.time_range
        self.from_ms = max((ms for ms in (query_from_ms, since_ms) if ms is not None), default=None)
        self.to_ms = min((ms for ms in (query_to_ms, until_ms) if ms is not None), default=None)

    def may_be_in_time_range(self, header: BatchHeader) -> bool:
        """Whether a record of a batch with this header may be in the query's range of time."""
        if self.from_ms is not None and header.max_timestamp < self.from_ms:
            return False
        return not (self.to_ms is not None and header.log_append_time and header.max_timestamp >= self.to_ms)

    def is_in_time_range(self, record: Record) -> bool:
        """Whether the record is within the times of the request; the query tests its own."""
        time_ms = record.timestamp_ms
        if self._since_ms is not None and time_ms < self._since_ms:
            return False
        return self._until_ms is None or time_ms < self._until_ms


@dataclass(slots=True)
class ScanResult:
    """The counts of the scan of one unit, so far or at its end, and the matches that are not passed on
    yet."""

    bytes: int = 0
    skipped_bytes: int = 0
    events: int = 0
    matches: int = 0
    stopped_at: int | None = None
    rows: list[Row] = field(default_factory=list)
    row_bytes: int = 0
    baseline_matches: int = 0
    rest: Unit | None = None
    """What is still to be searched, if the scan was paused. None: nothing is, or the scan stopped at a
    limit."""

    @classmethod
    def after(cls, so_far: ScanCounts) -> ScanResult:
        """The result of a scan that goes on after a pause."""
        counts = so_far.bytes, so_far.skipped_bytes, so_far.events, so_far.matches
        return cls(*counts, row_bytes=so_far.row_bytes, baseline_matches=so_far.baseline_matches)

    def counts(self) -> ScanCounts:
        """The counts, to go on with after a pause."""
        return ScanCounts(
            self.bytes,
            self.skipped_bytes,
            self.events,
            self.matches,
            self.row_bytes,
            self.baseline_matches,
        )


@dataclass(slots=True)
class ScanTask:
    """The options and callbacks of the scan of one unit: what to do with matches, and when to stop."""

    newest_first: bool
    limit: int
    max_bytes: int
    return_rows: bool
    """Whether to return the matches, not only their number."""
    value_counter: FieldValueCounter | None
    on_matches: Callable[[list[Row]], None]
    on_damage: Callable[[int, str], None]
    is_cancelled: Callable[[], bool]
    should_pause: Callable[[], bool]
    """Called wherever the scan can pause, after it has searched something. True: it pauses. It is true, too,
    of a cancelled scan."""
    on_progress: Callable[[ScanResult], None]
    """Called with the counts so far after each group of batches but the last."""
    so_far: ScanCounts
    """What was counted before a pause."""
    baseline_counter: FieldValueCounter | None = None
    """Counts the values of the matches of the baseline; None: there is no baseline."""


def scan_unit(
    unit: Unit, query: CompiledQuery, task: ScanTask, open_range: OpenRange = MappedRange
) -> ScanResult:
    """Search a unit of a segment. Raises DataDeleted if its file was deleted."""
    with open_range(unit.path, unit.start, unit.end) as file:
        file.prefetch()
        result = scan_bytes(file.view, unit, query, task)
        if result.rest is not None:
            start, end = unit.start + result.rest.start, unit.start + result.rest.end
            result.rest = msgspec.structs.replace(result.rest, start=start, end=end)
        return result


def scan_bytes(
    view: memoryview, unit: Unit, query: CompiledQuery, task: ScanTask, *, offset_gaps: bool = False
) -> ScanResult:
    """Search batches in memory: all batches of a unit, or with `offset_gaps` some of them (see
    `locate_batches`). Positions in the rest of a paused scan are relative to `view`."""
    end_offset = None if offset_gaps else unit.high
    batches = list(locate_batches(view, end_offset=end_offset, offset_gaps=offset_gaps))
    if not offset_gaps:
        _name_first_damage(batches, unit)
    scan = _UnitScan(view, unit, query, task, batches)
    for group in _batch_groups(batches, task.newest_first):
        is_over = scan.search(group)
        scan.flush()
        if is_over:
            break
        task.on_progress(scan.result)
    return scan.result


def _name_first_damage(batches: list[LocatedBatch], unit: Unit) -> None:
    """If a unit begins with damage, no batch before it says which offset is lost first: it is the first of
    the unit, if offsets of the unit are lost at all."""
    if batches and batches[0].header is None:
        following = batches[1].offset if len(batches) > 1 else unit.high
        if following > unit.low:
            batches[0] = batches[0]._replace(offset=unit.low)


def _is_compressed(batch: LocatedBatch) -> bool:
    return batch.header is not None and batch.header.codec != codecs.NONE


def _batch_groups(batches: Sequence[LocatedBatch], newest_first: bool) -> Iterator[list[LocatedBatch]]:
    """Adjacent batches in groups of about GROUP_BYTES, each oldest first. The first group has one batch, so
    that the first match is returned early."""
    group: list[LocatedBatch] = []
    size = GROUP_BYTES - 1
    for batch in reversed(batches) if newest_first else batches:
        group.append(batch)
        size += batch.end - batch.position
        if size >= GROUP_BYTES:
            yield group[::-1] if newest_first else group
            group, size = [], 0
    if group:
        yield group[::-1] if newest_first else group


class _UnitScan:
    """The scan of one unit."""

    def __init__(
        self,
        view: memoryview,
        unit: Unit,
        query: CompiledQuery,
        task: ScanTask,
        batches: Sequence[LocatedBatch],
    ) -> None:
        self._view, self._unit, self._query, self._task = view, unit, query, task
        self._beside_damage = {
            batch.position
            for pair in pairwise(batches)
            if pair[0].header is None or pair[1].header is None
            for batch in pair
        }
        """Positions of batches after which the scan does not pause: the rest must begin and end with whole
        batches, or the damage would be seen differently."""
        self.result = ScanResult.after(task.so_far)
        self._divided: DividedCounter | None = None
        selection, baseline = task.value_counter, task.baseline_counter
        if selection and baseline and selection.counts_all_fields and query.divides_by_fields:
            self._divided = DividedCounter(query.node, query.check, selection, baseline)

    def search(self, group: Sequence[LocatedBatch]) -> bool:
        """Search adjacent batches. True: the limit of matches or of bytes is reached, or the scan has paused;
        it is over."""
        may_match = self._may_match(group)
        ordered = group[::-1] if self._task.newest_first else group
        for batch in ordered:
            events = self.result.events
            if self._search_batch(batch, batch.position in may_match):
                return True
            is_costly = self.result.events > events or _is_compressed(batch) or batch is ordered[-1]
            if is_costly and self._pauses_after(batch):
                return True
        return False

    def _pauses_after(self, batch: LocatedBatch) -> bool:
        """Whether the scan pauses now, after this batch. It goes on if nothing is left."""
        if batch.header is None or batch.position in self._beside_damage or not self._task.should_pause():
            return False
        if self._task.newest_first:
            return self._set_rest(0, batch.position, self._unit.low, batch.header.base_offset)
        return self._set_rest(batch.end, len(self._view), batch.header.next_offset, self._unit.high)

    def _pauses_within(self, batch: LocatedBatch, offset: int) -> bool:
        """Whether the scan pauses now, after this event of the batch. After its last, the batch is
        finished."""
        assert batch.header is not None, "events are those of a batch"
        last = batch.header.base_offset if self._task.newest_first else batch.next_offset - 1
        if offset == last or not self._task.should_pause():
            return False
        if self._task.newest_first:
            return self._set_rest(0, batch.end, self._unit.low, offset)
        return self._set_rest(batch.position, len(self._view), offset + 1, self._unit.high)

    def _set_rest(self, start: int, end: int, low: int, high: int) -> bool:
        low, high = max(low, self._unit.low), min(high, self._unit.high)
        if start >= end or low >= high:
            return False
        self.result.rest = msgspec.structs.replace(self._unit, start=start, end=end, low=low, high=high)
        return True

    def flush(self) -> None:
        """Pass the matches since the last flush to `on_matches` of the task."""
        if self.result.rows:
            self._task.on_matches(self.result.rows)
            self.result.rows = []

    def _may_have_wanted_events(self, header: BatchHeader) -> bool:
        """Whether the batch may have events with the offsets and the times of the search."""
        unit = self._unit
        return (
            not header.is_control
            and header.next_offset > unit.low
            and header.base_offset < unit.high
            and self._query.may_be_in_time_range(header)
        )

    def _may_match(self, group: Sequence[LocatedBatch]) -> set[int]:
        """The positions of the batches that may match, judged by their bytes. Compressed batches may always
        match."""
        if not self._query.matcher.required_bytes:
            return {batch.position for batch in group}
        uncompressed = [
            batch.header is not None
            and batch.header.codec == codecs.NONE
            and self._may_have_wanted_events(batch.header)
            for batch in group
        ]
        positions = {
            batch.position
            for batch, is_uncompressed in zip(group, uncompressed, strict=True)
            if not is_uncompressed
        }
        changes = [i for i, (before, after) in enumerate(pairwise(uncompressed), 1) if before != after]
        for begin, end in pairwise([0, *changes, len(group)]):
            if uncompressed[begin]:
                start = group[begin].position
                ends = [batch.end - start for batch in group[begin:end]]
                raw = self._view[start : group[end - 1].end]
                candidates = self._query.matcher.stretches_that_may_match(raw, ends)
                positions.update(group[begin + candidate].position for candidate in candidates)
        return positions

    def _search_batch(self, batch: LocatedBatch, may_match: bool) -> bool:
        """Search one batch. True: the limit of matches or of bytes is reached, or the scan has paused."""
        unit, result, header = self._unit, self.result, batch.header
        size = batch.end - batch.position
        if header is None and not size:
            self._task.on_damage(max(unit.low, batch.offset), "no batch has these offsets")
            return False
        if header is None:
            result.bytes += size
            if unit.low <= batch.offset < unit.high:
                self._task.on_damage(batch.offset, f"{size:,} bytes are not a batch")
            return False
        if not self._may_have_wanted_events(header):
            result.skipped_bytes += size
            return False
        result.bytes += size
        try:
            records = self._records(self._view[batch.position : batch.end], header, may_match)
        except CorruptBatch as error:
            self._task.on_damage(max(unit.low, header.base_offset), str(error))
            return False
        is_over = bool(records) and self._search_records(batch, records)
        if result.rest is not None:
            result.bytes -= size  # counted when the batch is finished
        return is_over

    def _records(self, batch: memoryview, header: BatchHeader, may_match: bool) -> list[Record]:
        """The records of a batch; empty if its bytes exclude a match. Raises CorruptBatch."""
        if not crc_matches(batch, header):
            raise CorruptBatch(f"the batch at offset {header.base_offset} is damaged")
        if not may_match:
            return []
        data = decompressed(batch, header, BATCH_BYTES_MAX)
        if header.codec != codecs.NONE and not self._query.matcher.may_match(data):
            return []
        return records_in(batch, header, data)

    def _search_records(self, batch: LocatedBatch, records: Sequence[Record]) -> bool:
        """Search the records of a batch. True: the limit of matches or of bytes is reached, or the scan has
        paused."""
        if self._divided is not None:
            return self._divide_records(self._divided, batch, records)
        unit, query, task, result = self._unit, self._query, self._task, self.result
        low, high, topic, partition = unit.low, unit.high, unit.topic, unit.partition
        may_pass, check, baseline_check = query.is_in_time_range, query.check, query.baseline_check
        any_time, any_event = query.any_time, isinstance(query.node, Everything)
        rest_is_baseline, limit = query.rest_is_baseline, task.limit - result.matches
        matches: list[Record] = []
        baseline_matches: list[Record] = []
        events = 0
        for record in reversed(records) if task.newest_first else records:
            if not low <= record.offset < high:
                continue
            events += 1
            if any_time or may_pass(record):
                view = EventView(topic, partition, record)
                if baseline_check is not None and baseline_check(view):
                    baseline_matches.append(record)
                if any_event or check(view):
                    matches.append(record)
                    if task.return_rows:
                        result.row_bytes += _row_bytes(record)
                    if len(matches) >= limit or result.row_bytes >= task.max_bytes:
                        result.stopped_at = record.offset
                        break
                elif rest_is_baseline:
                    baseline_matches.append(record)
            if events % PAUSE_EVENTS == 0 and self._pauses_within(batch, record.offset):
                break
        result.events += events
        result.matches += len(matches)
        result.baseline_matches += len(baseline_matches)
        if task.baseline_counter is not None:
            task.baseline_counter.add(topic, partition, baseline_matches)
        if task.value_counter is not None:
            task.value_counter.add(topic, partition, matches)
        elif task.return_rows:
            result.rows += [
                (record.offset, record.timestamp_ms, record.key, record.value, record.headers)
                for record in matches
            ]
        return result.stopped_at is not None or result.rest is not None

    def _divide_records(
        self, divided: DividedCounter, batch: LocatedBatch, records: Sequence[Record]
    ) -> bool:
        """Count the matches of the query and the other records of a batch. True: the scan has paused."""
        unit, query, result = self._unit, self._query, self.result
        low, high = unit.low, unit.high
        wanted = [record for record in records if low <= record.offset < high]
        if self._task.newest_first:
            wanted.reverse()
        for start in range(0, len(wanted), PAUSE_EVENTS):
            some = wanted[start : start + PAUSE_EVENTS]
            result.events += len(some)
            offset = some[-1].offset
            if not query.any_time:
                some = list(filter(query.is_in_time_range, some))
            matches = divided.add(unit.topic, unit.partition, some)
            result.matches += matches
            result.baseline_matches += len(some) - matches
            if self._pauses_within(batch, offset):
                return True
        return False


def _row_bytes(record: Record) -> int:
    """The memory of a match, roughly."""
    size = ROW_OVERHEAD_BYTES + len(record.key or b"") + len(record.value or b"")
    return size + sum(len(name) + len(content or b"") for name, content in record.headers)

"""Searching one unit: some MiB of batches of one segment.

Owns: the order of the work, from cheap to dear: times in the headers, bytes of many batches at once, CRC, the
bytes of compressed ones, records. Refuses: processes and messages (`worker.py`), and to hold more than one
decompressed batch. A batch that cannot be decoded is reported, never passed over in silence.

The times of a batch's header are believed as Kafka's own look-up by time believes them: the largest timestamp
bounds its records from above. From below nothing does (the base timestamp is that of the first record, and
later ones may be older) but LogAppendTime, where all are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from mainstem.log.errors import CorruptBatch
from mainstem.log.storage import codecs
from mainstem.log.storage.record_batch import BatchHeader, Record, crc_matches, decompressed, records_in
from mainstem.search.blocks.batches import LocatedBatch, MappedRange, locate_batches
from mainstem.search.facets import FieldValueCounter
from mainstem.search.ipc import Row, Unit
from mainstem.search.match.matcher import Matcher

BATCH_BYTES_MAX = 64 << 20
"""A batch that is larger when decompressed is reported as unreadable."""
STRETCH_BYTES = 512 << 10
"""So many bytes of batches are searched at once: few calls, and they are in the processor's cache for what
comes after."""


class CompiledQuery:
    """A compiled query with the times of its request. Used for many units."""

    def __init__(self, query: str, now_ms: int, since_ms: int | None, until_ms: int | None) -> None:
        self.matcher = Matcher.of(query, now_ms=now_ms)
        self._since_ms, self._until_ms = since_ms, until_ms
        since, until = self.matcher.time_range
        self.from_ms = max((each for each in (since, since_ms) if each is not None), default=None)
        self.to_ms = min((each for each in (until, until_ms) if each is not None), default=None)

    def may_be_in_time_range(self, header: BatchHeader) -> bool:
        """A record of a batch with this header may be in the range of time."""
        if self.from_ms is not None and header.max_timestamp < self.from_ms:
            return False
        return not (self.to_ms is not None and header.log_append_time and header.max_timestamp >= self.to_ms)

    def matches(self, topic: str, partition: int, record: Record) -> bool:
        """The record is wanted."""
        time_ms = record.timestamp_ms
        if self._since_ms is not None and time_ms < self._since_ms:
            return False
        if self._until_ms is not None and time_ms >= self._until_ms:
            return False
        return self.matcher.matches(topic, partition, record)


@dataclass(slots=True)
class ScanResult:
    """What became of a unit, or has until now."""

    bytes: int = 0
    skipped_bytes: int = 0
    events: int = 0
    matches: int = 0
    stopped_at: int | None = None
    rows: list[Row] = field(default_factory=list)
    row_bytes: int = 0


@dataclass(slots=True)
class ScanTask:
    """What is to be done with the matches of a unit."""

    newest_first: bool
    limit: int
    max_bytes: int
    return_rows: bool
    """Give the matches, not only their number."""
    value_counter: FieldValueCounter | None
    on_matches: Callable[[list[Row]], None]
    on_damage: Callable[[int, str], None]
    is_cancelled: Callable[[], bool]
    on_progress: Callable[[ScanResult], None]
    """Called after each stretch but the last."""


def scan_unit(unit: Unit, question: CompiledQuery, order: ScanTask) -> ScanResult:
    """Search a unit. DataDeleted: its file is gone."""
    with MappedRange(unit.path, unit.start, unit.end) as file:
        file.prefetch()
        return scan_bytes(file.view, unit, question, order)


def scan_bytes(
    view: memoryview, unit: Unit, question: CompiledQuery, order: ScanTask, *, offset_gaps: bool = False
) -> ScanResult:
    """Search batches that are in memory: all of a unit's, or with `offset_gaps` some of them: see
    `locate_batches`."""
    going = _UnitScan(view, unit, question, order)
    end_offset = None if offset_gaps else unit.high
    batches = list(locate_batches(view, end_offset=end_offset, offset_gaps=offset_gaps))
    for stretch in _stretches(batches, order.newest_first):
        if order.is_cancelled():
            break
        more = going.search(stretch)
        going.flush()
        if not more:
            break
        order.on_progress(going.outcome)
    return going.outcome


def _stretches(batches: Sequence[LocatedBatch], newest_first: bool) -> Iterator[list[LocatedBatch]]:
    """Neighbours of about STRETCH_BYTES, oldest first. The first stretch is small: somebody waits."""
    stretch: list[LocatedBatch] = []
    size = STRETCH_BYTES - 1
    for batch in reversed(batches) if newest_first else batches:
        stretch.append(batch)
        size += batch.end - batch.position
        if size >= STRETCH_BYTES:
            yield stretch[::-1] if newest_first else stretch
            stretch, size = [], 0
    if stretch:
        yield stretch[::-1] if newest_first else stretch


class _UnitScan:
    """A unit while it is searched."""

    def __init__(self, view: memoryview, unit: Unit, question: CompiledQuery, order: ScanTask) -> None:
        self._view, self._unit, self._question, self._order = view, unit, question, order
        self.outcome = ScanResult()

    def search(self, stretch: Sequence[LocatedBatch]) -> bool:
        """Search batches that lie side by side; False: enough."""
        may_match = self._may_match(stretch)
        for batch in reversed(stretch) if self._order.newest_first else stretch:
            if not self._one(batch, batch.position in may_match):
                return False
        return True

    def flush(self) -> None:
        """Give what was found."""
        if self.outcome.rows:
            self._order.on_matches(self.outcome.rows)
            self.outcome.rows = []

    def _wanted(self, header: BatchHeader) -> bool:
        unit = self._unit
        return (
            not header.is_control
            and header.next_offset > unit.low
            and header.base_offset < unit.high
            and self._question.may_be_in_time_range(header)
        )

    def _may_match(self, stretch: Sequence[LocatedBatch]) -> set[int]:
        """The positions of those batches whose bytes, as they are, do not prove that nothing in them can
        match. Of compressed ones the bytes prove nothing."""
        if not self._question.matcher.required_bytes:
            return {batch.position for batch in stretch}
        plain = [
            batch.header is not None and batch.header.codec == codecs.NONE and self._wanted(batch.header)
            for batch in stretch
        ]
        found = {batch.position for batch, is_plain in zip(stretch, plain, strict=True) if not is_plain}
        runs = [at for at, (one, other) in enumerate(pairwise(plain), 1) if one != other]
        for begin, end in pairwise([0, *runs, len(stretch)]):
            if plain[begin]:
                start = stretch[begin].position
                ends = [batch.end - start for batch in stretch[begin:end]]
                raw = self._view[start : stretch[end - 1].end]
                opened_too = self._question.matcher.stretches_that_may_match(raw, ends)
                found.update(stretch[begin + at].position for at in opened_too)
        return found

    def _one(self, batch: LocatedBatch, may_match: bool) -> bool:
        """Search one batch; False: enough."""
        unit, outcome, header = self._unit, self.outcome, batch.header
        size = batch.end - batch.position
        if header is None and not size:
            self._order.on_damage(max(unit.low, batch.offset), "no batch has these offsets")
            return True
        if header is None:
            outcome.bytes += size
            if unit.low <= batch.offset < unit.high:
                self._order.on_damage(batch.offset, f"{size:,} bytes are no batch")
            return True
        if not self._wanted(header):
            outcome.skipped_bytes += size
            return True
        outcome.bytes += size
        try:
            records = self._records(self._view[batch.position : batch.end], header, may_match)
        except CorruptBatch as error:
            self._order.on_damage(max(unit.low, header.base_offset), str(error))
            return True
        return not records or self._match(records)

    def _records(self, batch: memoryview, header: BatchHeader, may_match: bool) -> list[Record]:
        """The records of a batch, none if its bytes say that they cannot match."""
        if not crc_matches(batch, header):
            raise CorruptBatch(f"the batch at offset {header.base_offset} is damaged")
        if not may_match:
            return []
        data = decompressed(batch, header, BATCH_BYTES_MAX)
        if header.codec != codecs.NONE and not self._question.matcher.may_match(data):
            return []
        return records_in(batch, header, data)

    def _match(self, records: Sequence[Record]) -> bool:
        unit, outcome, matches, order = self._unit, self.outcome, self._question.matches, self._order
        for record in reversed(records) if order.newest_first else records:
            if not unit.low <= record.offset < unit.high:
                continue
            outcome.events += 1
            if matches(unit.topic, unit.partition, record):
                self._take(record)
                if outcome.matches >= order.limit or outcome.row_bytes >= order.max_bytes:
                    outcome.stopped_at = record.offset
                    return False
        return True

    def _take(self, record: Record) -> None:
        outcome, order = self.outcome, self._order
        outcome.matches += 1
        if order.value_counter is not None:
            order.value_counter.add(self._unit.topic, self._unit.partition, record)
        elif order.return_rows:
            outcome.rows.append(
                (record.offset, record.timestamp_ms, record.key, record.value, record.headers)
            )
            outcome.row_bytes += 64 + len(record.key or b"") + len(record.value or b"")
            outcome.row_bytes += sum(len(name) + len(content or b"") for name, content in record.headers)

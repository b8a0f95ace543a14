"""Searching one unit: some MiB of batches of one segment.

Owns: the order of the work on a batch, from cheap to dear: times in the header, CRC, bytes, records. Refuses:
processes and messages (`worker.py`), and to hold more than one decompressed batch. A batch that cannot be
decoded is reported, never passed over in silence.

The times of a batch's header are believed as Kafka's own look-up by time believes them: the largest timestamp
bounds its records from above. From below nothing does (the base timestamp is that of the first record, and
later ones may be older) but LogAppendTime, where all are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mainstem.log import codecs
from mainstem.log.batch import HEADER_BYTES, BatchHeader, Record, crc_ok, decode
from mainstem.log.errors import CorruptBatch
from mainstem.search.batches import Mapped, Placed, placed
from mainstem.search.facets import Tally
from mainstem.search.matcher import Matcher
from mainstem.search.messages import Row, Unit

BATCH_BYTES_MAX = 64 << 20
"""A batch that is larger when decompressed is reported as unreadable."""
FLUSH_BYTES = 256 << 10


class Question:
    """A compiled query with the times of its request. Used for many units."""

    def __init__(self, query: str, now_ms: int, since_ms: int | None, until_ms: int | None) -> None:
        self.matcher = Matcher.of(query, now_ms=now_ms)
        self._since_ms, self._until_ms = since_ms, until_ms
        since, until = self.matcher.time_range
        self.from_ms = max((each for each in (since, since_ms) if each is not None), default=None)
        self.to_ms = min((each for each in (until, until_ms) if each is not None), default=None)

    def times_fit(self, header: BatchHeader) -> bool:
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
class Outcome:
    """What became of a unit."""

    bytes: int = 0
    skipped_bytes: int = 0
    events: int = 0
    matches: int = 0
    stopped_at: int | None = None
    rows: list[Row] = field(default_factory=list)
    row_bytes: int = 0


@dataclass(slots=True)
class Order:
    """What is to be done with the matches of a unit."""

    newest_first: bool
    limit: int
    max_bytes: int
    keep: bool
    """Give the matches, not only their number."""
    tally: Tally | None
    found: Callable[[list[Row]], None]
    damaged: Callable[[int, str], None]
    cancelled: Callable[[], bool]


def scan(unit: Unit, question: Question, order: Order) -> Outcome:
    """Search a unit. Removed: its file is gone."""
    outcome = Outcome()
    with Mapped(unit.path, unit.start, unit.end) as file:
        file.will_read()
        batches = list(placed(file.view))
        sent = 0
        for batch in reversed(batches) if order.newest_first else batches:
            if not _one(file.view, batch, unit, question, order, outcome) or order.cancelled():
                break
            if outcome.row_bytes - sent > FLUSH_BYTES or (outcome.rows and not sent):
                # The first matches go at once: somebody waits for them.
                order.found(outcome.rows)
                outcome.rows, sent = [], outcome.row_bytes
    if outcome.rows:
        order.found(outcome.rows)
    return outcome


def _one(
    view: memoryview, batch: Placed, unit: Unit, question: Question, order: Order, outcome: Outcome
) -> bool:
    """Search one batch; False: enough."""
    size = batch.end - batch.position
    header = batch.header
    if header is None:
        outcome.bytes += size
        if unit.low <= batch.offset < unit.high:
            order.damaged(batch.offset, f"{size:,} bytes are no batch")
        return True
    if header.is_control or header.next_offset <= unit.low or header.base_offset >= unit.high:
        outcome.skipped_bytes += size
        return True
    if not question.times_fit(header):
        outcome.skipped_bytes += size
        return True
    outcome.bytes += size
    try:
        records = _records(view[batch.position : batch.end], header, question)
    except CorruptBatch as error:
        order.damaged(max(unit.low, header.base_offset), str(error))
        return True
    for record in reversed(records) if order.newest_first else records:
        if not unit.low <= record.offset < unit.high:
            continue
        outcome.events += 1
        if question.matches(unit.topic, unit.partition, record):
            _take(record, unit, order, outcome)
            if outcome.matches >= order.limit or outcome.row_bytes >= order.max_bytes:
                outcome.stopped_at = record.offset
                return False
    return True


def _records(batch: memoryview, header: BatchHeader, question: Question) -> list[Record]:
    """The records of a batch, none if its bytes say that they cannot match."""
    if question.matcher.required_bytes:
        if not crc_ok(batch, header):
            raise CorruptBatch(f"the batch at offset {header.base_offset} is damaged")
        if header.codec > codecs.ZSTD:
            raise CorruptBatch(f"there is no codec {header.codec}")
        data = codecs.decompress(header.codec, batch[HEADER_BYTES:], BATCH_BYTES_MAX)
        if not question.matcher.may_match(bytes(data)):
            return []
    return decode(batch, cap_bytes=BATCH_BYTES_MAX)


def _take(record: Record, unit: Unit, order: Order, outcome: Outcome) -> None:
    outcome.matches += 1
    if order.tally is not None:
        order.tally.add(unit.topic, unit.partition, record)
    elif order.keep:
        outcome.rows.append((record.offset, record.timestamp_ms, record.key, record.value, record.headers))
        outcome.row_bytes += 64 + len(record.key or b"") + len(record.value or b"")
        outcome.row_bytes += sum(len(name) + len(content or b"") for name, content in record.headers)

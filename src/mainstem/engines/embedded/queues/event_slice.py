"""A slice of a partition's log that is opened once for all views that look into it.

Owns: which batches and events are opened for a question, and its cost. A batch stays closed if no filter may
match in it; of the others each event is decoded at most once. Refuses: to read the log, and to know views.

Questions are generators: each yields what its steps cost, in microseconds of a usual machine, so that long
ones are divided among turns of the event loop. Answers are kept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from mainstem.log.disk.contract import Buffer
from mainstem.log.errors import CorruptBatch
from mainstem.log.storage.record_batch import BatchHeader, Record, decompressed, iter_batches, records_in
from mainstem.queues.event_headers import NOT_BEFORE_HEADER, not_before_of
from mainstem.queues.keys import KEY_END
from mainstem.queues.runs import Run, add_run
from mainstem.search.match.matcher import Matcher
from mainstem.search.match.needle_index import NeedleIndex

CAP_BYTES = 64 << 20
"""A batch that is larger when it is decompressed counts as damaged."""
STEP_EVENTS = 250
"""Events that are tested in a step, at most."""
BATCH_US, RECORD_US, TEST_US = 3.0, 0.4, 4.0
"""What it costs to open a batch, to find where a record ends, and to test an event."""
HIT_US = 3
"""What it costs to find an event that may match, when many filters are searched for at once."""
DECODE_US = 1.2
"""What it costs to decode an event."""
BYTES_PER_US = 2_000
"""How fast bytes are decompressed and searched for one needle."""
_NOT_BEFORE = NOT_BEFORE_HEADER.encode()


class OpenedBatch:
    """A batch whose bytes are decompressed."""

    __slots__ = ("data", "header", "raw", "records")

    def __init__(self, data: memoryview, header: BatchHeader, raw: Buffer) -> None:
        self.data = data
        self.header = header
        self.raw = raw
        self.records: list[Record] | None = None
        """Those of all of its events, once one of them was needed."""


class EventSlice:
    """Batches of a partition, from some offset on. `open` comes before the other questions."""

    def __init__(self, topic: str, partition: int, data: Buffer) -> None:
        self.topic = topic
        self.partition = partition
        self.end = 0
        """The offset after the last batch."""
        self.unreadable: list[Run] = []
        """Offsets of events that damage has made unreadable."""
        self.keys: dict[int, int] | None = None
        """Offset -> hash of the key, of the events that have one; None: `read_keys` was not asked."""
        self.times: dict[int, int] | None = None
        """Offset -> the time before which an event is not to be delivered, of those that name one; None:
        `find_times` was not asked."""
        self._data = memoryview(data)
        self._batches: list[OpenedBatch] = []
        self._firsts: list[int] = []
        """For each batch the number of its first event in the slice."""
        self._raw: Buffer = b""
        self._ends: list[int] = []
        """Where each event ends in `_raw`."""
        self._candidates: dict[Matcher, list[int]] = {}
        """For some filters, the numbers of the events that may match."""
        self._matches: dict[Matcher, list[int]] = {}

    # --- questions ----------------------------------------------------------------------------------------

    def open(self) -> Iterator[int]:
        """Find the events."""
        parts: list[Buffer] = []
        size = 0
        for position, header in iter_batches(self._data):
            data = self._data[position : position + header.total_bytes]
            self.end = header.next_offset
            cost = BATCH_US
            if not header.is_control and header.count:
                try:
                    raw = decompressed(data, header, CAP_BYTES)
                    ends = record_ends(raw, header.count)
                except CorruptBatch:
                    self._lose(header)
                else:
                    self._firsts.append(len(self._ends))
                    self._batches.append(OpenedBatch(data, header, raw))
                    self._ends += [size + end for end in ends] if size else ends
                    parts.append(raw)
                    size += len(raw)
                    cost += len(raw) / BYTES_PER_US + header.count * RECORD_US
            yield int(cost) + 1
        self._raw = parts[0] if len(parts) == 1 else b"".join(parts)

    def find_candidates(self, index: NeedleIndex) -> Iterator[int]:
        """Find the events that may match for many filters at once; so most of the questions that follow cost
        nothing."""
        stretches = index.stretches_that_may_match(self._raw, self._ends) if self._ends else {}
        yield len(self._raw) // BYTES_PER_US + 2
        if stretches is None:
            return
        for matcher in index.covered:
            self._candidates[matcher] = sorted(stretches.get(matcher, ()))
        yield sum(map(len, stretches.values())) * HIT_US + len(index.covered) // 2

    def find_matches(self, matcher: Matcher) -> Iterator[int]:
        """Find the events that match."""
        if matcher in self._matches:
            return
        matched: list[int] = []
        if self._ends:
            candidates = self._candidates.get(matcher)
            if candidates is None:
                candidates = sorted(matcher.stretches_that_may_match(self._raw, self._ends))
                yield len(self._raw) // BYTES_PER_US + 2
            for start in range(0, len(candidates), STEP_EVENTS):
                step = candidates[start : start + STEP_EVENTS]
                cost = TEST_US * len(step)
                for number in step:
                    record, decoded = self._record(number)
                    cost += DECODE_US * decoded
                    if record is not None and matcher.matches(self.topic, self.partition, record):
                        matched.append(record.offset)
                yield int(cost) + 1
        self._matches[matcher] = matched

    def read_keys(self) -> Iterator[int]:
        """Find the hashes of all keys."""
        if self.keys is not None:
            return
        keys: dict[int, int] = {}
        for batch in self._batches:
            decoded = self._decode(batch)
            for record in batch.records or ():
                if record.key is not None:
                    keys[record.offset] = key_hash(record.key)
            yield int(DECODE_US * decoded + RECORD_US * batch.header.count) + 1
        self.keys = keys

    def find_times(self) -> Iterator[int]:
        """Find the events that are not to be delivered before a time. Without such events, it is a search
        through the bytes."""
        if self.times is not None:
            return
        times: dict[int, int] = {}
        raw = bytes(self._raw)
        place = raw.find(_NOT_BEFORE)
        while place >= 0:
            number = bisect_right(self._ends, place)
            record, decoded = self._record(number)
            if record is not None and (not_before_ms := not_before_of(record.headers)):
                times[record.offset] = not_before_ms
            yield int(HIT_US + DECODE_US * decoded) + 1
            place = raw.find(_NOT_BEFORE, self._ends[number])
        yield len(self._raw) // BYTES_PER_US + 1
        self.times = times

    # --- answers ------------------------------------------------------------------------------------------

    def has_answer(self, matcher: Matcher) -> bool:
        """Whether `find_matches` has ended for this matcher."""
        return matcher in self._matches

    def matches(self, matcher: Matcher, first: int) -> list[int]:
        """The offsets from `first` on whose events match, ascending."""
        matched = self._matches[matcher]
        return matched[bisect_right(matched, first - 1) :] if first else matched

    def readable(self, first: int) -> list[Run]:
        """The offsets from `first` on that have an event."""
        runs: list[Run] = []
        for batch in self._batches:
            header = batch.header
            if header.count == header.next_offset - header.base_offset and batch.records is None:
                low = max(first, header.base_offset)
                if low < header.next_offset:
                    add_run(runs, low, header.next_offset)
                continue
            self._decode(batch)
            for record in batch.records or ():
                if record.offset >= first:
                    add_run(runs, record.offset, record.offset + 1)
        return runs

    # --- records ------------------------------------------------------------------------------------------

    def _record(self, number: int) -> tuple[Record | None, int]:
        """An event of the slice, and how many were decoded for it. None: it is damaged."""
        index = bisect_right(self._firsts, number) - 1
        batch = self._batches[index]
        decoded = self._decode(batch)
        records, number = batch.records or [], number - self._firsts[index]
        return (records[number] if number < len(records) else None), decoded

    def _decode(self, batch: OpenedBatch) -> int:
        """Decode the events of a batch, unless they are; returns how many were."""
        if batch.records is not None:
            return 0
        try:
            batch.records = records_in(batch.data, batch.header, batch.raw)
        except CorruptBatch:
            batch.records = []
            self._lose(batch.header)
        return batch.header.count

    def _lose(self, header: BatchHeader) -> None:
        self.unreadable.append((header.base_offset, header.next_offset))


def record_ends(raw: Buffer, count: int) -> list[int]:
    """Where each of the records ends that are these bytes. CorruptBatch: they are not as many, or do not end
    where the bytes do."""
    ends: list[int] = []
    position, size = 0, len(raw)
    try:
        for _ in range(count):
            byte = raw[position]
            position += 1
            length, shift = byte & 0x7F, 7
            while byte & 0x80:
                byte = raw[position]
                position += 1
                length |= (byte & 0x7F) << shift
                shift += 7
                if shift > 35:
                    raise CorruptBatch("the length of a record has no end")
            if length & 1:
                raise CorruptBatch("the length of a record is negative")
            position += length >> 1
            ends.append(position)
    except IndexError:
        raise CorruptBatch("a batch ends before its last record") from None
    if position != size:
        raise CorruptBatch(f"the records of a batch have {position} bytes, not {size}")
    return ends


def key_hash(key: bytes) -> int:
    """A number below KEY_END that equal keys share. It is of this process: keys are in no record."""
    return hash(key) & (KEY_END - 1)

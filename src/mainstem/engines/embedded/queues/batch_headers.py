"""Finds the events of a batch that say in their headers when they are to be delivered, where batches are
delivered as they are stored.

Owns: the test of a batch's bytes, which opens only batches that may have such an event. Refuses: to change
anything.
"""

from __future__ import annotations

from mainstem.log.errors import CorruptBatch
from mainstem.log.storage.codecs import NONE
from mainstem.log.storage.record_batch import HEADER_BYTES, BatchHeader, Record, decompressed, records_in
from mainstem.queues.event_headers import EXPIRES_HEADER, NOT_BEFORE_HEADER

CAP_BYTES = 64 << 20
"""A batch that is larger when it is decompressed is delivered as it is."""
_NAMES = EXPIRES_HEADER.encode(), NOT_BEFORE_HEADER.encode()


def events_with_times(batch: memoryview, header: BatchHeader) -> list[Record]:
    """The events of a batch that may have one of the headers: all of it, or none. None of a damaged one."""
    try:
        raw = batch[HEADER_BYTES:] if header.codec == NONE else decompressed(batch, header, CAP_BYTES)
        raw = bytes(raw)  # searched much faster than a view
        if not any(name in raw for name in _NAMES):
            return []
        return [record for record in records_in(batch, header, raw) if record.headers]
    except CorruptBatch:
        return []

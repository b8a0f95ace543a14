"""Appends events to partitions in batches, for the embedded engine.

Owns: the choice of a partition by key, and the size of batches. Batches are not compressed, because they do
not cross a network. Refuses: the look-up of topics, and raising errors: each event gets a result of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from mainstem.contract import NewEvent, Position, StreamError
from mainstem.engines.embedded.errors import translate
from mainstem.log.errors import BatchTooLarge
from mainstem.log.partition.partition import Partition
from mainstem.log.storage.record_batch import HEADER_BYTES, build
from mainstem.promise import Promise, gather

BATCH_EVENTS_MAX = 1_000
BATCH_BYTES = 256 << 10
RECORD_OVERHEAD_BYTES = 24

PublishResult = Position | StreamError
"""Of one event."""


def murmur2(data: bytes) -> int:
    """Kafka's hash of a key (org.apache.kafka.common.utils.Utils.murmur2), as an unsigned 32-bit number."""
    length = len(data)
    multiplier = 0x5BD1E995
    hashed = 0x9747B28C ^ length
    for position in range(0, length - 3, 4):
        word = int.from_bytes(data[position : position + 4], "little") * multiplier & 0xFFFFFFFF
        word = (word ^ word >> 24) * multiplier & 0xFFFFFFFF
        hashed = hashed * multiplier & 0xFFFFFFFF ^ word
    tail_bytes = length & 3
    if tail_bytes:
        hashed = (hashed ^ int.from_bytes(data[length - tail_bytes :], "little")) * multiplier & 0xFFFFFFFF
    hashed = (hashed ^ hashed >> 13) * multiplier & 0xFFFFFFFF
    return hashed ^ hashed >> 15


_murmur2_of_known = lru_cache(maxsize=4_096)(murmur2)
"""Keys come again, and the hash takes microseconds."""
KNOWN_KEY_BYTES_MAX = 64
"""Longer keys are not kept."""


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as Java's BuiltInPartitioner.partitionForKey chooses it."""
    hashed = _murmur2_of_known(key) if len(key) <= KNOWN_KEY_BYTES_MAX else murmur2(key)
    return (hashed & 0x7FFFFFFF) % partitions


def append(
    topic: str,
    partition: Partition,
    events: Sequence[NewEvent],
    now_ms: int,
    codec: str = "none",
    producer_id: int = -1,
) -> list[Promise[list[PublishResult]]]:
    """Append the events of one partition in batches. Each promise is for one batch: it is done when the batch
    is durable, and its value has the result of each event. None of the promises fails. `producer_id`: that of
    the server (`ProducerIds.server_id`), for batches whose `mainstem-` headers are believed."""
    promises: list[Promise[list[PublishResult]]] = []
    batch: list[NewEvent] = []
    size_bytes = 0
    max_bytes = min(BATCH_BYTES, partition.config.max_message_bytes - HEADER_BYTES)
    for event in events:
        event_bytes = RECORD_OVERHEAD_BYTES + len(event.key or b"") + len(event.value or b"")
        if event.headers:
            event_bytes += sum(len(name) + len(content or b"") + 4 for name, content in event.headers)
        if batch and (size_bytes + event_bytes > max_bytes or len(batch) >= BATCH_EVENTS_MAX):
            promises += _append(topic, partition, batch, now_ms, codec, producer_id)
            batch, size_bytes = [], 0
        batch.append(event)
        size_bytes += event_bytes
    if batch:
        promises += _append(topic, partition, batch, now_ms, codec, producer_id)
    return promises


def _append(
    topic: str, partition: Partition, events: Sequence[NewEvent], now_ms: int, codec: str, producer_id: int
) -> list[Promise[list[PublishResult]]]:
    records = [
        (event.key, event.value, event.headers, now_ms if event.timestamp_ms is None else event.timestamp_ms)
        for event in events
    ]
    results: Promise[list[PublishResult]] = Promise()
    try:
        if producer_id < 0:
            batch = build(records, codec=codec)
        else:
            # A commit that fails takes its sequence numbers back, so they are asked for each time.
            sequence = partition.derived.windows.next_sequence(producer_id)
            batch = build(
                records, codec=codec, producer_id=producer_id, producer_epoch=0, base_sequence=sequence
            )
        appended = partition.append(memoryview(batch))
    except BatchTooLarge as error:
        if len(events) == 1:
            return [Promise.resolved(_failed(error, topic, 1))]
        half = len(events) // 2  # one event may be too large: the others are appended all the same
        return [
            *_append(topic, partition, events[:half], now_ms, codec, producer_id),
            *_append(topic, partition, events[half:], now_ms, codec, producer_id),
        ]
    except Exception as error:
        return [Promise.resolved(_failed(error, topic, len(events)))]
    offsets = range(appended.base_offset, appended.base_offset + len(events))
    assert offsets.stop == appended.next_offset, "a batch has one offset for each of its events"

    def on_committed(committed: Promise[None]) -> None:
        if isinstance(committed.error, Exception):
            results.resolve(_failed(committed.error, topic, len(events)))
        else:
            results.resolve([Position(topic, partition.index, offset) for offset in offsets])

    partition.when_committed(appended.next_offset).then(on_committed)
    return [results]


def _failed(error: Exception, topic: str, count: int) -> list[PublishResult]:
    translated = translate(error, f"topic {topic}")
    if not isinstance(translated, StreamError):
        raise translated
    return [translated] * count


async def results_of(promises: list[Promise[list[PublishResult]]]) -> list[list[PublishResult]]:
    """The result of each event, once all batches are durable or have failed."""
    return [promise.result() for promise in await gather(promises)]

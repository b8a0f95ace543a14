"""Events into batches into partitions, for the embedded engine.

Owns: which partition an event goes to, and how many go into one batch. Refuses: compression (events do not
cross a network; a topic's own setting is kept by producers).
"""

from __future__ import annotations

from collections.abc import Sequence

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


def murmur2(data: bytes) -> int:
    """Kafka's hash of keys (org.apache.kafka.common.utils.Utils.murmur2), as an unsigned number."""
    length = len(data)
    multiplier = 0x5BD1E995
    hashed = 0x9747B28C ^ length
    for at in range(0, length - 3, 4):
        word = int.from_bytes(data[at : at + 4], "little") * multiplier & 0xFFFFFFFF
        word = (word ^ word >> 24) * multiplier & 0xFFFFFFFF
        hashed = hashed * multiplier & 0xFFFFFFFF ^ word
    rest = length & 3
    if rest:
        hashed = (hashed ^ int.from_bytes(data[length - rest :], "little")) * multiplier & 0xFFFFFFFF
    hashed = (hashed ^ hashed >> 13) * multiplier & 0xFFFFFFFF
    return hashed ^ hashed >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as Java's BuiltInPartitioner.partitionForKey gives it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def append(
    topic: str, partition: Partition, events: Sequence[NewEvent], now_ms: int, codec: str = "none"
) -> list[Promise[list[PublishResult]]]:
    """Append the events of one partition, in batches. Each Promise is done when its batch is durable, and
    gives what became of each of its events; none of them fails."""
    out: list[Promise[list[PublishResult]]] = []
    batch: list[NewEvent] = []
    size_bytes = 0
    most_bytes = min(BATCH_BYTES, partition.config.max_message_bytes - HEADER_BYTES)
    for event in events:
        event_bytes = RECORD_OVERHEAD_BYTES + len(event.key or b"") + len(event.value or b"")
        event_bytes += sum(len(name) + len(content or b"") + 4 for name, content in event.headers)
        if batch and (size_bytes + event_bytes > most_bytes or len(batch) >= BATCH_EVENTS_MAX):
            out += _append(topic, partition, batch, now_ms, codec)
            batch, size_bytes = [], 0
        batch.append(event)
        size_bytes += event_bytes
    if batch:
        out += _append(topic, partition, batch, now_ms, codec)
    return out


def _append(
    topic: str, partition: Partition, events: Sequence[NewEvent], now_ms: int, codec: str
) -> list[Promise[list[PublishResult]]]:
    records = [
        (each.key, each.value, each.headers, now_ms if each.timestamp_ms is None else each.timestamp_ms)
        for each in events
    ]
    results: Promise[list[PublishResult]] = Promise()
    try:
        appended = partition.append(memoryview(build(records, codec=codec)))
    except BatchTooLarge as error:
        if len(events) == 1:
            return [Promise.resolved(_failed(error, topic, 1))]
        half = len(events) // 2  # one event too many, or too large: the others are not kept back
        return [
            *_append(topic, partition, events[:half], now_ms, codec),
            *_append(topic, partition, events[half:], now_ms, codec),
        ]
    except Exception as error:
        return [Promise.resolved(_failed(error, topic, len(events)))]
    first = appended.base_offset

    def durable(done: Promise[None]) -> None:
        if isinstance(done.error, Exception):
            results.resolve(_failed(done.error, topic, len(events)))
        else:
            results.resolve([Position(topic, partition.index, first + at) for at in range(len(events))])

    partition.when_committed(appended.next_offset).then(durable)
    return [results]


def _failed(error: Exception, topic: str, count: int) -> list[PublishResult]:
    told = translate(error, f"topic {topic}")
    if not isinstance(told, StreamError):
        raise told
    return [told] * count


async def results_of(laters: list[Promise[list[PublishResult]]]) -> list[list[PublishResult]]:
    """Wait for all."""
    return [each.result() for each in await gather(laters)]

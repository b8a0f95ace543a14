"""What a dead letter says, and reading dead letters again.

Owns: the headers, in both directions. Only batches with the server's own producer id are believed, for no
client may use that id; all others are not even decoded. So headers that a publisher made up lead nowhere, and
those that an event had before are renamed in its copy. Refuses: to write (`dead_letters.py`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence

from mainstem.clock import Clock
from mainstem.contract import Event, Position
from mainstem.engines.embedded.queues.events import read_batches
from mainstem.log.errors import CorruptBatch, OffsetOutOfRange
from mainstem.log.partition.partition import Partition
from mainstem.log.storage.record_batch import Record, decode, iter_batches
from mainstem.queue_contract import (
    DEAD_LETTER_ATTEMPTS_HEADER,
    DEAD_LETTER_DETAIL_HEADER,
    DEAD_LETTER_EVENT_TIME_HEADER,
    DEAD_LETTER_FROM_HEADER,
    DEAD_LETTER_REASON_HEADER,
    DEAD_LETTER_SUBSCRIPTION_HEADER,
    DEAD_LETTER_TIME_HEADER,
    DEAD_LETTER_TOPIC_ID_HEADER,
    DeadLetterInfo,
)
from mainstem.turns import next_turn

SERVER_PREFIX = "mainstem-"
"""Of headers that only the server may set; an event's own header of that kind has the prefix `user.` in a
batch that the server builds."""
KAFKA_MESSAGES = {
    "rejected": "Offset rejected by client.",
    "failed": "Offset delivery count exceeded the threshold.",
}
"""Kafka's words for the reasons for which an event is given up."""
READ_BYTES = 128 << 10

Headers = Sequence[tuple[str, bytes | None]]


def users_headers(headers: Headers) -> list[tuple[str, bytes | None]]:
    """The headers of an event as they are in a batch that the server builds: none is the server's."""
    return [
        (f"user.{name}" if name.startswith(SERVER_PREFIX) else name, content) for name, content in headers
    ]


def letter_headers(facts: DeadLetterInfo, subscription: str) -> list[tuple[str, bytes | None]]:
    """The headers of a dead letter, beside those of its event. The letter in `facts` is the event."""
    origin = facts.origin
    values = {
        DEAD_LETTER_REASON_HEADER: facts.reason,
        DEAD_LETTER_DETAIL_HEADER: facts.detail,
        DEAD_LETTER_ATTEMPTS_HEADER: str(facts.attempts),
        DEAD_LETTER_SUBSCRIPTION_HEADER: subscription,
        DEAD_LETTER_FROM_HEADER: f"{origin.topic}/{origin.partition}/{origin.offset}",
        DEAD_LETTER_TOPIC_ID_HEADER: facts.topic_id,
        DEAD_LETTER_EVENT_TIME_HEADER: str(facts.letter.timestamp_ms),
        DEAD_LETTER_TIME_HEADER: str(facts.time_ms),
    }
    return [(name, value.encode()) for name, value in values.items() if value]


def share_group_headers(facts: DeadLetterInfo, group: str, deliveries: int) -> list[tuple[str, bytes | None]]:
    """The headers with which Kafka says where a dead letter of a share group comes from (KIP-1191)."""
    origin = facts.origin
    values = {
        "__dlq.errors.topic": origin.topic,
        "__dlq.errors.partition": str(origin.partition),
        "__dlq.errors.offset": str(origin.offset),
        "__dlq.errors.group": group,
        "__dlq.errors.delivery.count": str(deliveries),
        "__dlq.errors.message": KAFKA_MESSAGES.get(facts.reason, facts.reason),
    }
    return [(name, value.encode()) for name, value in values.items()]


def letter_of(topic: str, partition: int, record: Record, subscription: str) -> DeadLetterInfo | None:
    """The dead letter that a record of the server is, if it is one of this subscription."""
    headers = {name: content or b"" for name, content in record.headers if name.startswith(SERVER_PREFIX)}
    if headers.get(DEAD_LETTER_SUBSCRIPTION_HEADER) != subscription.encode():
        return None
    texts = {name: content.decode(errors="replace") for name, content in headers.items()}
    try:
        origin_topic, origin_partition, offset = texts[DEAD_LETTER_FROM_HEADER].split("/")
        return DeadLetterInfo(
            letter=Event(
                topic, partition, record.offset, record.timestamp_ms, record.key, record.value, record.headers
            ),
            origin=Position(origin_topic, int(origin_partition), int(offset)),
            topic_id=texts[DEAD_LETTER_TOPIC_ID_HEADER],
            reason=texts[DEAD_LETTER_REASON_HEADER],
            detail=texts.get(DEAD_LETTER_DETAIL_HEADER, ""),
            attempts=int(texts[DEAD_LETTER_ATTEMPTS_HEADER]),
            time_ms=int(texts[DEAD_LETTER_TIME_HEADER]),
        )
    except (KeyError, ValueError):
        return None  # of an earlier version, which did not say the topic's id


async def letters_of(
    clock: Clock, topic: str, partition: Partition, start: int, server_id: int, subscription: str
) -> AsyncGenerator[DeadLetterInfo, None]:
    """The dead letters of a subscription in one partition, from an offset to the end of now. What damage has
    made unreadable is left out. LogError: the disk or the partition fails."""
    position, end = max(start, partition.log_start_offset), partition.high_watermark
    while position < end:
        try:
            batches = await read_batches(partition, position, READ_BYTES)
        except CorruptBatch as error:
            position = max(error.next_offset or 0, position + 1)
            continue
        except OffsetOutOfRange:
            position = max(position + 1, partition.log_start_offset)
            continue
        view, following = memoryview(batches.data), position
        for at_byte, header in iter_batches(view):
            following = max(following, header.next_offset)
            if header.producer_id == server_id and not header.is_control:
                records = _decoded(view[at_byte : at_byte + header.total_bytes])
                for record in records:
                    if position <= record.offset < end:
                        letter = letter_of(topic, partition.index, record, subscription)
                        if letter is not None:
                            yield letter
        position = max(following, position + 1)
        await next_turn(clock)


def _decoded(batch: memoryview) -> Iterable[Record]:
    try:
        return decode(batch)
    except CorruptBatch:
        return ()

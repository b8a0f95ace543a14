"""Streams by name: what they are in the log, for the doors of both of RabbitMQ's protocols.

A stream is a topic of one partition, under its own name, or partition N of a topic under the name `TOPIC-N`.
A topic named `TOPIC-N` wins over a partition. Owns: these names, the arguments of streams as settings of
topics, and the places from which consumers read. Refuses: wires and their errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from mainstem.amqp.field_values import Timestamp
from mainstem.contract import Engine, InvalidArgument, UnknownTopic

_AGE = re.compile(r"([1-9][0-9]{0,8})([YMDhms])")
_UNIT_SECONDS = {"Y": 365 * 86_400, "M": 30 * 86_400, "D": 86_400, "h": 3_600, "m": 60, "s": 1}
_PARTITION = re.compile(r"(.+)-(0|[1-9][0-9]{0,8})", re.DOTALL)
SEGMENT_BYTES_MIN = 1 << 20


class StreamPlace(NamedTuple):
    """Where the events of a stream are."""

    topic: str
    partition: int


async def partition_count(engine: Engine, topic: str) -> int:
    """The number of partitions of a topic; 0: there is none of this name."""
    try:
        return await engine.partitions(topic)
    except (UnknownTopic, InvalidArgument):
        return 0


async def place_of(engine: Engine, stream: str) -> StreamPlace | None:
    """Where a stream is; None: there is none of this name. NotAuthorized."""
    if count := await partition_count(engine, stream):
        if count == 1:
            return StreamPlace(stream, 0)
    elif match := _PARTITION.fullmatch(stream):
        topic, partition = match[1], int(match[2])
        if partition < await partition_count(engine, topic):
            return StreamPlace(topic, partition)
    return None


# --- arguments --------------------------------------------------------------------------------------------


def age_ms(text: str) -> int:
    """The milliseconds of a time such as 7D or 90m, in RabbitMQ's units: Y, M, D, h, m, s. ValueError."""
    match = _AGE.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is no time such as 7D or 90m")
    return int(match[1]) * _UNIT_SECONDS[match[2]] * 1_000


def _size(value: object, minimum: int = 0) -> str:
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError(f"'{text}' is no number of bytes")
    return str(max(int(text), minimum))


def stream_settings(arguments: Mapping[str, object]) -> dict[str, str]:
    """The settings of a topic that a stream's arguments ask for, with or without `x-` before their names. As
    in RabbitMQ a stream without limits keeps everything. Arguments about replicas are ignored: there are
    none. ValueError: a bad value."""
    given = {name.removeprefix("x-"): value for name, value in arguments.items()}
    settings = {"retention.ms": "-1", "retention.bytes": "-1"}
    if "max-age" in given:
        settings["retention.ms"] = str(age_ms(str(given["max-age"])))
    if "max-length-bytes" in given:
        settings["retention.bytes"] = _size(given["max-length-bytes"])
    if "stream-max-segment-size-bytes" in given:
        settings["segment.bytes"] = _size(given["stream-max-segment-size-bytes"], SEGMENT_BYTES_MIN)
    return settings


async def has_settings(engine: Engine, topic: str, settings: Mapping[str, str]) -> bool:
    """Whether a topic has these. UnknownTopic."""
    values = {setting.name: setting.value for setting in (await engine.topic(topic)).settings}
    return all(values.get(setting) == value for setting, value in settings.items())


# --- where consumers begin --------------------------------------------------------------------------------

FIRST, LAST, NEXT, OFFSET, TIMESTAMP = range(1, 6)
"""Types of an offset specification, by their numbers in the stream protocol."""


_NAMED = {"first": FIRST, "last": LAST, "next": NEXT}


def consumer_start(value: object, now_ms: int) -> tuple[int, int]:
    """Where a consumer begins, by an argument: first, last, next, an offset, a timestamp in seconds, or a
    time before now such as 5m. Times are ms since 1970. ValueError."""
    if isinstance(value, Timestamp):
        return TIMESTAMP, int(value) * 1_000
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError("an offset is 0 or more")
        return OFFSET, int(value)
    if not isinstance(value, str):
        raise ValueError("it is no text, number or timestamp")
    return (_NAMED[value], 0) if value in _NAMED else (TIMESTAMP, now_ms - age_ms(value))


async def offset_of(engine: Engine, place: StreamPlace, spec: tuple[int, int]) -> int:
    """The offset from which a consumer with this specification reads; one before the first event is that of
    the first, one after the end is the end. ValueError: an unknown type. UnknownTopic."""
    kind, value = spec
    bounds = await engine.bounds(*place)
    if kind == FIRST:
        return bounds.begin
    if kind == LAST:
        return max(bounds.begin, bounds.end - 1)
    if kind == NEXT:
        return bounds.end
    if kind == OFFSET:
        return min(max(value, bounds.begin), bounds.end)
    if kind == TIMESTAMP:
        offset = await engine.offset_for_time(*place, max(value, 0))
        return bounds.end if offset is None else max(offset, bounds.begin)
    raise ValueError(f"there is no offset of the type {kind}")


async def message_count(engine: Engine, place: StreamPlace) -> int:
    """How many offsets a stream has; 0: it does not exist any more."""
    try:
        bounds = await engine.bounds(*place)
    except UnknownTopic:
        return 0
    return bounds.end - bounds.begin

"""Streams and super streams by name: what they are in the log, their creation and deletion.

A stream is a topic of one partition, under its own name, or partition N of a topic under the name `TOPIC-N`.
A super stream is a topic; its partitions are its streams. A topic named `TOPIC-N` wins over a partition.
Owns: these names, the arguments of streams as settings of topics. Refuses: the name of a topic with several
partitions as that of a stream, and super streams whose partitions or binding keys are other than the
numbers of partitions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from mainstem.contract import Engine, InvalidArgument, TopicExists, UnknownTopic
from mainstem.doors.rabbitmq_stream.response_code import CommandRefused, ResponseCode

PARTITIONS_MAX = 1_000
"""Most partitions of a super stream that a client may create."""
_AGE = re.compile(r"([1-9][0-9]{0,8})([YMDhms])")
_UNIT_SECONDS = {"Y": 365 * 86_400, "M": 30 * 86_400, "D": 86_400, "h": 3_600, "m": 60, "s": 1}
_PARTITION = re.compile(r"(.+)-(0|[1-9][0-9]{0,8})", re.DOTALL)
SEGMENT_BYTES_MIN = 1 << 20


class StreamPlace(NamedTuple):
    """Where the events of a stream are."""

    topic: str
    partition: int


async def _count(engine: Engine, topic: str) -> int:
    """The number of partitions of a topic; 0: there is none of this name."""
    try:
        return await engine.partitions(topic)
    except (UnknownTopic, InvalidArgument):
        return 0


async def find_stream(engine: Engine, stream: str) -> StreamPlace:
    """Where a stream is. CommandRefused: there is none of this name. NotAuthorized."""
    if count := await _count(engine, stream):
        if count == 1:
            return StreamPlace(stream, 0)
    elif match := _PARTITION.fullmatch(stream):
        topic, partition = match[1], int(match[2])
        if partition < await _count(engine, topic):
            return StreamPlace(topic, partition)
    raise CommandRefused(ResponseCode.STREAM_DOES_NOT_EXIST)


async def find_super_stream(engine: Engine, name: str) -> list[str]:
    """The streams of a super stream, in order. CommandRefused: there is none of this name."""
    count = await _count(engine, name)
    if not count:
        raise CommandRefused(ResponseCode.STREAM_DOES_NOT_EXIST)
    return [f"{name}-{partition}" for partition in range(count)]


def route(streams: list[str], routing_key: str) -> list[str]:
    """Those of a super stream's streams whose binding key is this one: the keys are the numbers."""
    return [stream for stream in streams if stream.rpartition("-")[2] == routing_key]


def age_ms(text: str) -> int:
    """The milliseconds of `max-age`, such as 7D or 90m. CommandRefused."""
    match = _AGE.fullmatch(text)
    if match is None:
        raise CommandRefused(ResponseCode.PRECONDITION_FAILED)
    return int(match[1]) * _UNIT_SECONDS[match[2]] * 1_000


def _size(text: str, minimum: int = 0) -> str:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise CommandRefused(ResponseCode.PRECONDITION_FAILED)
    return str(max(int(text), minimum))


def settings_of(arguments: Mapping[str, str]) -> dict[str, str]:
    """The settings of a topic that a stream's arguments ask for. As in RabbitMQ a stream without limits keeps
    everything. Arguments about replicas are ignored: there are none. CommandRefused: a bad value."""
    given = {name.removeprefix("x-"): value for name, value in arguments.items()}
    settings = {"retention.ms": "-1", "retention.bytes": "-1"}
    if "max-age" in given:
        settings["retention.ms"] = str(age_ms(given["max-age"]))
    if "max-length-bytes" in given:
        settings["retention.bytes"] = _size(given["max-length-bytes"])
    if "stream-max-segment-size-bytes" in given:
        settings["segment.bytes"] = _size(given["stream-max-segment-size-bytes"], SEGMENT_BYTES_MIN)
    return settings


async def create_stream(engine: Engine, name: str, arguments: Mapping[str, str]) -> None:
    """Create a stream. CommandRefused: it exists, with these or with other arguments; a bad name or value."""
    if not name.strip():
        raise CommandRefused(ResponseCode.PRECONDITION_FAILED)
    settings = settings_of(arguments)
    try:
        await find_stream(engine, name)
    except CommandRefused:
        pass
    else:
        raise CommandRefused(await _existing(engine, name, settings))
    try:
        await engine.create_topic(name, partitions=1, settings=settings)
    except TopicExists:
        raise CommandRefused(await _existing(engine, name, settings)) from None


async def _existing(engine: Engine, name: str, settings: Mapping[str, str]) -> ResponseCode:
    """The answer to the creation of a stream that exists."""
    try:
        values = {setting.name: setting.value for setting in (await engine.topic(name)).settings}
    except UnknownTopic:  # a partition of a topic
        return ResponseCode.STREAM_ALREADY_EXISTS
    same = all(values.get(setting) == value for setting, value in settings.items())
    return ResponseCode.STREAM_ALREADY_EXISTS if same else ResponseCode.PRECONDITION_FAILED


async def delete_stream(engine: Engine, name: str) -> None:
    """Delete a stream. CommandRefused: there is none, or it is one of several of a super stream."""
    place = await find_stream(engine, name)
    if place.topic != name:
        raise CommandRefused(ResponseCode.PRECONDITION_FAILED)
    await engine.delete_topic(name)


async def create_super_stream(
    engine: Engine, name: str, partitions: list[str], binding_keys: list[str], arguments: Mapping[str, str]
) -> None:
    """Create a super stream. CommandRefused: it exists, or its partitions are not numbered from 0."""
    numbers = [str(number) for number in range(len(partitions))]
    if (
        not name.strip()
        or not 0 < len(partitions) <= PARTITIONS_MAX
        or partitions != [f"{name}-{number}" for number in numbers]
        or binding_keys != numbers
    ):
        raise CommandRefused(ResponseCode.PRECONDITION_FAILED)
    settings = settings_of(arguments)
    for stream in partitions:
        if await _count(engine, stream):
            raise CommandRefused(ResponseCode.STREAM_ALREADY_EXISTS)
    await engine.create_topic(name, partitions=len(partitions), settings=settings)


async def delete_super_stream(engine: Engine, name: str) -> None:
    """Delete a super stream and its streams. CommandRefused: there is none."""
    await find_super_stream(engine, name)
    await engine.delete_topic(name)


FIRST, LAST, NEXT, OFFSET, TIMESTAMP = range(1, 6)
"""Types of an offset specification."""


async def resolve_offset(engine: Engine, place: StreamPlace, spec: tuple[int, int]) -> int:
    """The offset from which a consumer with this specification reads; one before the first event is that of
    the first, one after the end is the end. CommandRefused: an unknown type."""
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
    raise CommandRefused(ResponseCode.PRECONDITION_FAILED)


async def stats_of(engine: Engine, place: StreamPlace) -> list[tuple[str, int]]:
    """What StreamStats answers; -1: the stream is empty."""
    bounds = await engine.bounds(*place)
    is_empty = bounds.begin == bounds.end
    last = -1 if is_empty else bounds.end - 1
    return [
        ("first_chunk_id", -1 if is_empty else bounds.begin),
        ("last_chunk_id", last),
        ("committed_chunk_id", last),
        ("committed_offset", last),
    ]

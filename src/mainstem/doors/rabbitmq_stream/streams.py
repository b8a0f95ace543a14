"""Streams and super streams by name, as the stream protocol asks for them: their creation and deletion.

A super stream is a topic; its partitions are its streams (`mainstem.amqp.streams`). Owns: the answers of the
protocol. Refuses: the name of a topic with several partitions as that of a stream, and super streams whose
partitions or binding keys are other than the numbers of partitions.
"""

from __future__ import annotations

from collections.abc import Mapping

from mainstem.amqp.streams import (
    StreamPlace,
    has_settings,
    offset_of,
    partition_count,
    place_of,
    stream_settings,
)
from mainstem.contract import Engine, TopicExists, UnknownTopic
from mainstem.doors.rabbitmq_stream.response_code import CommandRefused, ResponseCode

PARTITIONS_MAX = 1_000
"""Most partitions of a super stream that a client may create."""


async def find_stream(engine: Engine, stream: str) -> StreamPlace:
    """Where a stream is. CommandRefused: there is none of this name. NotAuthorized."""
    place = await place_of(engine, stream)
    if place is None:
        raise CommandRefused(ResponseCode.STREAM_DOES_NOT_EXIST)
    return place


async def find_super_stream(engine: Engine, name: str) -> list[str]:
    """The streams of a super stream, in order. CommandRefused: there is none of this name."""
    count = await partition_count(engine, name)
    if not count:
        raise CommandRefused(ResponseCode.STREAM_DOES_NOT_EXIST)
    return [f"{name}-{partition}" for partition in range(count)]


def route(streams: list[str], routing_key: str) -> list[str]:
    """Those of a super stream's streams whose binding key is this one: the keys are the numbers."""
    return [stream for stream in streams if stream.rpartition("-")[2] == routing_key]


def settings_of(arguments: Mapping[str, str]) -> dict[str, str]:
    """See `stream_settings`. CommandRefused: a bad value."""
    try:
        return stream_settings(arguments)
    except ValueError:
        raise CommandRefused(ResponseCode.PRECONDITION_FAILED) from None


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
        same = await has_settings(engine, name, settings)
    except UnknownTopic:  # a partition of a topic
        return ResponseCode.STREAM_ALREADY_EXISTS
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
        if await partition_count(engine, stream):
            raise CommandRefused(ResponseCode.STREAM_ALREADY_EXISTS)
    await engine.create_topic(name, partitions=len(partitions), settings=settings)


async def delete_super_stream(engine: Engine, name: str) -> None:
    """Delete a super stream and its streams. CommandRefused: there is none."""
    await find_super_stream(engine, name)
    await engine.delete_topic(name)


async def resolve_offset(engine: Engine, place: StreamPlace, spec: tuple[int, int]) -> int:
    """See `offset_of`. CommandRefused: an unknown type."""
    try:
        return await offset_of(engine, place, spec)
    except ValueError:
        raise CommandRefused(ResponseCode.PRECONDITION_FAILED) from None


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

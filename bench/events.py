"""Large data folders of real events, made fast: flights and webhooks with fresh ids, in prebuilt batches.

Owns: about 1 KB an event, in batches of about 64 KB as busy producers send them, and writing them to a data
folder that is kept for the next run. Refuses: to build a record twice: of a batch that is used again only the
ids, the times and the CRC are new.
"""

from __future__ import annotations

import asyncio
import json
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cramjam
from crc32c import crc32c

from mainstem.clock import LoopClock
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.log.disk.real_disk import RealDisk
from mainstem.log.storage.record_batch import CRC_FROM, build
from mainstem.node import Node
from mainstem.settings import Settings

TOPIC = "events"
PARTITIONS = 4
NEEDLE = "needle4711x"
BATCH_BYTES = 64 << 10
TEMPLATES = 160
FIRST_MS = 1_700_000_000_000
EXAMPLES = Path(__file__).parents[1] / "examples"
_WEBHOOKS = 0.073
"""The share of webhooks, so that flights of 300 bytes and webhooks of 10 KB make 1 KB on average."""
_ID_DIGITS = 16
_MARK = '{"id":"'
_TIMES = struct.Struct(">qq")
_CRC = struct.Struct(">I")
_TIMES_AT, _CRC_AT = 27, 17
_MIX = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class Template:
    """A batch, and the positions of its events' ids."""

    data: bytes
    ids: tuple[int, ...]
    payload: int
    """Total bytes of the values."""


@dataclass(frozen=True, slots=True)
class Filled:
    """The contents of a data folder."""

    events: int
    payload: int
    last_id: str
    """Id of the newest event."""


def lines(kind: str) -> list[bytes]:
    """The events of `examples/KIND-sample.jsonl.zst`."""
    packed = (EXAMPLES / f"{kind}-sample.jsonl.zst").read_bytes()
    return bytes(cramjam.zstd.decompress(packed)).splitlines()


def templates() -> list[Template]:
    """Batches whose ids are zeros."""
    flights, webhooks = lines("flights"), lines("github-webhooks")
    rng = random.Random(4711)
    made = []
    for _ in range(TEMPLATES):
        values: list[bytes] = []
        while sum(map(len, values)) < BATCH_BYTES:
            line = rng.choice(webhooks if rng.random() < _WEBHOOKS else flights)
            values.append(f'{_MARK}{"0" * _ID_DIGITS}",'.encode() + line[1:])
        data = bytes(build([(None, value, (), 0) for value in values]))
        made.append(Template(data, tuple(_id_positions(data, len(values))), sum(map(len, values))))
    return made


def _id_positions(data: bytes, count: int) -> Iterator[int]:
    mark, position = f'{_MARK}{"0" * _ID_DIGITS}"'.encode(), 0
    for _ in range(count):
        position = data.index(mark, position) + len(mark)
        yield position - _ID_DIGITS - 1


class Batches:
    """An endless supply of batches with unique ids."""

    def __init__(self, made: Sequence[Template], *, first_id: int = 0) -> None:
        self._made = made
        self._buffers = [bytearray(template.data) for template in made]
        self._next_id = first_id
        self._rng = random.Random(4711)
        self.last_id = ""

    def next(self, time_ms: int) -> tuple[bytearray, Template]:
        """The next batch and its template; valid until this template is used again."""
        chosen = self._rng.randrange(len(self._made))
        template, buffer = self._made[chosen], self._buffers[chosen]
        number = self._next_id
        for position in template.ids:
            buffer[position : position + _ID_DIGITS] = b"%016x" % (number * _MIX & 0xFFFFFFFFFFFFFFFF)
            number += 1
        self._next_id = number
        self.last_id = f"{(number - 1) * _MIX & 0xFFFFFFFFFFFFFFFF:016x}"
        buffer[:8] = bytes(8)  # the log has written the last one's offset there
        _TIMES.pack_into(buffer, _TIMES_AT, time_ms, time_ms)
        _CRC.pack_into(buffer, _CRC_AT, crc32c(memoryview(buffer)[CRC_FROM:]))
        return buffer, template


async def filled(folder: Path, payload: int) -> Filled:
    """A data folder with `payload` bytes of values, one event a millisecond, and NEEDLE in the middle: made
    now, or by an earlier run."""
    mark = folder / "bench.json"
    if mark.exists():
        return Filled(**json.loads(mark.read_text()))
    loop = asyncio.get_running_loop()
    settings = Settings(data=str(folder), durability="os")
    node = await Node.open(settings, RealDisk(str(folder), loop), LoopClock(loop), random.Random(1))
    try:
        done = await _fill(node, payload, templates())
    finally:
        await node.close()
    mark.write_text(json.dumps({name: getattr(done, name) for name in Filled.__slots__}))
    return done


async def _fill(node: Node, payload: int, made: Sequence[Template]) -> Filled:
    await EmbeddedEngine(node).create_topic(TOPIC, partitions=PARTITIONS)
    topic = node.topics.get(TOPIC)
    assert topic is not None
    batches = Batches(made)
    written = events = number = 0
    marked = False
    while written < payload:
        partition = node.partition(topic, number % PARTITIONS)
        if not marked and written > payload // 2:
            marked = True
            value = f'{_MARK}{"0" * _ID_DIGITS}","note":"{NEEDLE}"}}'.encode()
            partition.append(memoryview(build([(None, value, (), FIRST_MS + events)])))
            events += 1
        buffer, template = batches.next(FIRST_MS + events)
        end = partition.append(memoryview(buffer)).next_offset
        written += template.payload
        events += len(template.ids)
        number += 1
        if number % 64 == 0:
            await partition.when_committed(end)
            await asyncio.sleep(0)
    return Filled(events, written, batches.last_id)

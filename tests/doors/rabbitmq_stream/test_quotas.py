"""Quotas of the stream door's clients, and offsets that cannot be stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from mainstem.amqp.streams import StreamPlace
from mainstem.contract import Engine, Position, StreamError
from mainstem.doors.rabbitmq_stream.offsets import OffsetStore
from mainstem.doors.rabbitmq_stream.response_code import ResponseCode
from mainstem.quota_contract import DEFAULT, QuotaEntity, QuotaKey
from mainstem.serve.server import Running
from tests.doors.rabbitmq_stream.raw_client import connected, publish_frame, run

MESSAGE = b"\x00\x53\x75\xb0" + (50_000).to_bytes(4, "big") + bytes(50_000)


def test_a_client_beyond_its_quotas_gets_everything_later(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        quotas = running.node.quotas
        limits = {QuotaKey.PRODUCE: 50_000.0, QuotaKey.FETCH: 50_000.0}
        await quotas.alter(QuotaEntity(user=DEFAULT), limits)
        async with connected(running) as client:
            await client.create("orders")
            assert await client.declare(1, "orders") == ResponseCode.OK
            for number in range(12):
                client.write(publish_frame(1, [(number, MESSAGE)]))
            assert await client.confirms(12) == list(range(12))
            assert await client.subscribe(7, "orders", (4, 0)) == ResponseCode.OK
            assert await client.messages(12) == [MESSAGE] * 12
        used = dict(quotas.use())
        assert used[QuotaKey.PRODUCE].throttled
        assert used[QuotaKey.FETCH].throttled

    run(tmp_path / "data", scenario)


def test_an_offset_that_cannot_be_stored_is_a_warning() -> None:
    class RefusingEngine:
        async def set_positions(self, group: str, positions: Sequence[Position]) -> None:
            raise StreamError("the group has members of its own")

    warnings: list[tuple[str, str]] = []
    store = OffsetStore(cast(Engine, RefusingEngine()), lambda kind, text: warnings.append((kind, text)))
    store.store("billing", StreamPlace("orders", 0), 6)
    asyncio.run(store.run())
    store.store("", StreamPlace("orders", 0), 6)
    assert warnings == [
        ("offset", "1 offsets of 'billing' are not stored: the group has members of its own"),
        ("offset", "the offset of a stream for '' is not stored: no reference, or no offset"),
    ]

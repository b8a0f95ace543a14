"""Pushing goes on after unexpected errors, and pauses as an endpoint asks."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mainstem.contract import NewEvent
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.push import pusher
from mainstem.push.payload import make_request
from mainstem.push.retry_after import WAIT_S_MAX, retry_after_s
from mainstem.queue_contract import Delivery
from tests.push.receiver import Received, pushing, receiving, status


def test_pushing_goes_on_after_an_unexpected_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pusher, "RETRY_S", 0.05)
    failing = True
    pull = EmbeddedEngine.pull

    async def broken(self: EmbeddedEngine, name: str, *args: Any, **limits: Any) -> list[Delivery]:
        if failing:
            raise RuntimeError("a bug with a secret")
        return await pull(self, name, *args, **limits)

    async def test() -> None:
        nonlocal failing
        async with receiving() as receiver, pushing(tmp_path) as rig:
            monkeypatch.setattr(EmbeddedEngine, "pull", broken)
            await rig.create("orders", [NewEvent(b"x")], endpoint=receiver.url)
            info = await rig.until(
                "orders", lambda info: info.push is not None and info.push.pull_failures > 1
            )
            assert info.push is not None
            assert info.push.pull_error == "an unexpected error: RuntimeError"
            assert info.problems == (
                "events cannot be pulled to be pushed: an unexpected error: RuntimeError",
            )
            (totals,) = await rig.engine.subscription_totals()
            assert totals.push_pull_failures > 1
            assert totals.problems == info.problems
            failing = False
            info = await rig.until("orders", lambda info: info.acked == 1)
            assert info.push is not None
            assert (info.push.pull_error, info.problems) == (None, ())

    asyncio.run(test())
    assert "subscription orders cannot be pulled to be pushed; trying again in 0.05 s" in caplog.text
    assert "trying again in 0.1 s" in caplog.text


def test_an_event_whose_request_cannot_be_made_is_given_back_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [RuntimeError("a bug with a secret")]

    async def broken(*args: Any) -> Any:
        if errors:
            raise errors.pop()
        return await make_request(*args)

    async def test() -> None:
        monkeypatch.setattr(pusher, "make_request", broken)
        async with receiving() as receiver, pushing(tmp_path) as rig:
            await rig.create("orders", [NewEvent(b"x")], endpoint=receiver.url)
            info = await rig.until("orders", lambda info: info.acked == 1)
            assert info.push is not None
            assert (info.push.failed, info.nacked) == (1, 1)
            assert (info.push.last_error or "").endswith("an unexpected error: RuntimeError")

    asyncio.run(test())


def test_an_endpoint_that_asks_for_a_pause_gets_one(tmp_path: Path) -> None:
    async def test() -> None:
        async with receiving() as receiver, pushing(tmp_path) as rig:

            async def reply(request: Received) -> bytes:
                if len(receiver.requests) == 1:
                    return status(503, b"", b"Retry-After: 120")
                return status(204)

            receiver.answer = reply
            await rig.create("orders", [NewEvent(b"x")], endpoint=receiver.url)
            info = await rig.until("orders", lambda info: info.push is not None and info.push.failed == 1)
            assert info.push is not None
            assert info.push.paused_until_ms is not None
            assert 110 < info.push.paused_until_ms / 1000 - time.time() <= 120
            assert info.problems == (f"pushing fails: {receiver.url}: status 503",)
            (totals,) = await rig.engine.subscription_totals()
            assert (totals.push_paused, totals.push_failed, totals.push_delivered) == (1, 1, 0)
            await asyncio.sleep(0.15)
            assert len(receiver.requests) == 1
            # Another endpoint has not asked for it.
            assert info.settings.push is not None
            moved = replace(info.settings, push=replace(info.settings.push, endpoint=receiver.url + "/2"))
            await rig.engine.alter_subscription("orders", moved)
            await rig.until("orders", lambda info: info.acked == 1)

    asyncio.run(test())


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("9" * 18, WAIT_S_MAX),
        ("9" * 30, None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:05 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", WAIT_S_MAX),
        ("Thu, 99 Jan 1970 00:00:05 GMT", None),
    ],
)
def test_both_forms_of_retry_after_are_read(value: str, seconds: float | None) -> None:
    assert retry_after_s(value, 10_000) == seconds

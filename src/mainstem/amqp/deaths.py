"""What becomes of a message that a queue gives up: its headers `x-death`, and where it may go no more.

Owns: the headers, as RabbitMQ writes them (https://www.rabbitmq.com/docs/dlx), and the rule against cycles.
Refuses: to publish (`dead_lettering.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mainstem.amqp.field_values import FieldTable, Int64, Timestamp
from mainstem.amqp.properties import Properties

DEATHS_MAX = 1_000
"""Entries of `x-death` that are kept: one for each queue and reason."""


@dataclass(frozen=True, slots=True)
class Death:
    """A message that a queue gives up."""

    queue: str
    reason: str
    """rejected, expired, maxlen or delivery_limit."""
    exchange: str
    """To which it was published."""
    routing_keys: tuple[str, ...]
    """With those of the header CC."""
    time_s: int
    """Since 1970."""


def deaths_of(headers: FieldTable | None) -> list[dict[str, Any]]:
    """The entries of `x-death`, the newest first. What is no list of tables counts as none."""
    entries = (headers or {}).get("x-death")
    if not isinstance(entries, list):
        return []
    return [entry for entry in entries if isinstance(entry, dict)]


def buried(properties: Properties, death: Death, *, drops_cc: bool) -> Properties:
    """The properties of the dead letter. `drops_cc`: the queue names a routing key, so that of the header CC
    is none of the letter's."""
    headers: dict[str, Any] = dict(properties.headers or {})
    entries = deaths_of(headers)
    same = [entry for entry in entries if _is_same(entry, death)]
    others = [entry for entry in entries if not _is_same(entry, death)]
    newest = _counted_again(same[0]) if same else _first_time(death, properties.expiration)
    headers["x-death"] = [newest, *others][:DEATHS_MAX]
    for when in ("first", "last"):
        for name, value in (
            (f"x-{when}-death-reason", death.reason),
            (f"x-{when}-death-queue", death.queue),
            (f"x-{when}-death-exchange", death.exchange),
        ):
            if when == "last" or name not in headers:
                headers[name] = value
    if drops_cc:
        headers.pop("CC", None)
    headers.pop("BCC", None)
    return msgspec.structs.replace(properties, headers=headers, expiration=None)


def _is_same(entry: Mapping[str, Any], death: Death) -> bool:
    return entry.get("queue") == death.queue and entry.get("reason") == death.reason


def _counted_again(entry: dict[str, Any]) -> dict[str, Any]:
    count = entry.get("count", 0)
    return {**entry, "count": Int64(count + 1 if isinstance(count, int) else 1)}


def _first_time(death: Death, expiration: str | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "count": Int64(1),
        "reason": death.reason,
        "queue": death.queue,
        "time": Timestamp(death.time_s),
        "exchange": death.exchange,
        "routing-keys": list(death.routing_keys),
    }
    if expiration is not None:
        entry["original-expiration"] = expiration
    return entry


def without_cycles(queues: Sequence[str], properties: Properties) -> tuple[list[str], list[str]]:
    """The queues that a dead letter may go to, and those that it may not: it was dead there before, and no
    consumer has rejected it since. `properties`: those of the letter."""
    entries = deaths_of(properties.headers)
    allowed: list[str] = []
    refused: list[str] = []
    for queue in queues:
        (refused if _is_cycle(queue, entries) else allowed).append(queue)
    return allowed, refused


def _is_cycle(queue: str, entries: Sequence[Mapping[str, Any]]) -> bool:
    for entry in entries:
        if entry.get("reason") == "rejected":
            return False
        if entry.get("queue") == queue:
            return True
    return False

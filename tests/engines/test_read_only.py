"""The read-only view of an engine: complete, and without any call that changes something."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from mainstem.contract import (
    Admin,
    Engine,
    EventLog,
    HasFiles,
    NewEvent,
    NotAllowed,
    PreviewsSettings,
    ReportsMetrics,
)
from mainstem.door_contract import PublishesOnce, WatchesTopics
from mainstem.engines.read_only import READS, ReadOnlyEngine, read_only
from mainstem.queue_contract import Queues


def calls_of(*classes: type) -> set[str]:
    """The public methods that the classes define."""
    return {name for class_ in classes for name in vars(class_) if not name.startswith("_")}


class RecordingReadEngine:
    """Has the reading calls only, and notes which of them are made."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name not in READS:
            raise AttributeError(name)
        return lambda *arguments: self.made.append(name)


def test_every_call_of_the_contract_is_passed_on_or_refused() -> None:
    doors = PublishesOnce, WatchesTopics
    contract = calls_of(EventLog, Admin, Engine, HasFiles, PreviewsSettings, Queues, ReportsMetrics, *doors)
    refused = calls_of(*ReadOnlyEngine.__mro__[1:-1])
    assert contract == READS | refused
    assert READS & refused == set()


def test_reading_calls_are_passed_on() -> None:
    engine = RecordingReadEngine()
    view = read_only(cast(Engine, engine))
    for name in sorted(READS):
        getattr(view, name)()
    assert engine.made == sorted(READS)


def test_changing_calls_are_refused() -> None:
    view = read_only(cast(Engine, RecordingReadEngine()))
    with pytest.raises(NotAllowed, match="publishing is refused: this door is read-only"):
        asyncio.run(view.publish("orders", [NewEvent(b"1")]))
    with pytest.raises(NotAllowed, match="deleting a topic is refused"):
        asyncio.run(view.delete_topic("orders"))

"""What a handler's single parameter says, and what cannot be right is refused where it is written."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from mainstem.api.codec import codec_of
from mainstem.api.event import Event
from mainstem.api.signals import Retry
from mainstem.api.subscriber import Declaration, Subscriber, SubscriberOptions, declared, options_of


class Purchase(msgspec.Struct):
    """A payload."""

    id: int


class Refund(msgspec.Struct):
    """Another payload."""

    id: int


OPTIONS = options_of("orders", "billing")
LISTS = options_of("orders", "lake", batch=10)


def declare(function: Any, options: SubscriberOptions = OPTIONS, model: Any = None) -> Subscriber:
    return declared(function, options, None if model is None else codec_of(model))


async def payload(order: Purchase) -> None: ...
async def event(order: Event[Purchase]) -> None: ...
async def payloads(orders: list[Purchase]) -> None: ...
async def events(orders: list[Event[Purchase]]) -> None: ...
def in_thread(order: Purchase) -> None: ...
async def anything(order) -> None: ...  # type: ignore[no-untyped-def]
async def any_event(order: Event) -> None: ...  # type: ignore[type-arg]
async def with_default(order: Purchase, verbose: bool = False) -> None: ...
async def list_payload(order: list[int]) -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "takes_event", "takes_list", "is_async", "model"),
    [
        (payload, OPTIONS, False, False, True, Purchase),
        (event, OPTIONS, True, False, True, Purchase),
        (in_thread, OPTIONS, False, False, False, Purchase),
        (anything, OPTIONS, False, False, True, None),
        (any_event, OPTIONS, True, False, True, None),
        (with_default, OPTIONS, False, False, True, Purchase),
        (list_payload, OPTIONS, False, False, True, list[int]),
        (payloads, LISTS, False, True, True, Purchase),
        (events, LISTS, True, True, True, Purchase),
        (anything, LISTS, False, True, True, None),
    ],
)
def test_the_annotation_says_what_the_handler_gets(
    function: Any, options: SubscriberOptions, takes_event: bool, takes_list: bool, is_async: bool, model: Any
) -> None:
    made = declare(function, options)
    assert (made.takes_event, made.takes_list, made.is_async) == (takes_event, takes_list, is_async)
    assert made.codec.model == model
    assert made.call is function


def test_the_function_is_given_back_unchanged_and_registered() -> None:
    registered: list[Subscriber] = []
    assert Declaration(registered.append, OPTIONS, None)(payload) is payload
    assert [made.call for made in registered] == [payload]


def test_a_model_of_the_place_where_the_handler_is_written_is_known() -> None:
    class Local(msgspec.Struct):
        id: int

    registered: list[Subscriber] = []

    @Declaration(registered.append, OPTIONS, None)
    async def handler(order: Local) -> None: ...

    assert registered[0].codec.model is Local


class Handlers:
    """Methods and objects as handlers."""

    async def method(self, order: Purchase) -> None: ...

    async def __call__(self, order: Event[Purchase]) -> None: ...


def test_methods_partials_and_objects_are_handlers() -> None:
    handlers = Handlers()
    assert declare(handlers.method).is_async
    assert declare(handlers).takes_event
    assert declare(handlers).is_async

    async def two(tax: float, order: Purchase) -> None: ...

    assert declare(functools.partial(two, 0.2)).codec.model is Purchase


async def two_parameters(order: Purchase, tax: float) -> None: ...
async def no_parameter() -> None: ...
async def keyword_only(*, order: Purchase) -> None: ...
async def generator(order: Purchase) -> Any:
    yield order


async def unknown(order: NotImported) -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def no_model(order: datetime | Purchase | Refund) -> None: ...
async def other_model(order: Refund) -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "model", "message"),
    [
        (two_parameters, OPTIONS, None, "two_parameters: a handler has one parameter"),
        (no_parameter, OPTIONS, None, "has one parameter"),
        (keyword_only, OPTIONS, None, "has one parameter"),
        (generator, OPTIONS, None, "does not yield"),
        (unknown, OPTIONS, None, "'NotImported' is not known"),
        (events, OPTIONS, None, "say how many at most, batch="),
        (payload, LISTS, None, "with batch=10 it gets lists, and Purchase is none"),
        (event, LISTS, None, "with batch=10 it gets lists"),
        (no_model, OPTIONS, None, "no_model: "),
        (other_model, OPTIONS, Purchase, "the topic's model is Purchase, and it takes Refund"),
        (42, OPTIONS, None, "not a function"),
    ],
)
def test_what_cannot_be_right_is_refused(
    function: Any, options: SubscriberOptions, model: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        declare(function, options, model)


@pytest.mark.parametrize(
    "options",
    [
        {"group": ""},
        {"group": "a b"},
        {"group": "g" * 250},
        {"topic": "../orders"},
        {"concurrency": 0},
        {"concurrency": 1_001},
        {"timeout": 0},
        {"batch": 0},
        {"batch": 10, "concurrency": 2},
        {"max_wait": -1},
        {"start": "soon"},
        {"start": datetime(2026, 1, 1)},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        options_of(**{"topic": "orders", "group": "billing"} | options)


def test_times_may_be_timedeltas() -> None:
    options = options_of("o", "g", timeout=timedelta(minutes=1), max_wait=timedelta(seconds=2), retry=Retry())
    assert (options.timeout, options.max_wait, options.name, options.dead_topic) == (60, 2, "o.g", "o.g.dead")
    assert options_of("o", "g", start=datetime.now(UTC)).start != "earliest"

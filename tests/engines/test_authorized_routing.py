"""Namespaces and their queues for one requester: each call needs its rights, or it shows nothing."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from mainstem.access_contract import Operation, ResourceType
from mainstem.contract import InvalidArgument, NewEvent, NotAuthorized
from mainstem.engines.authorized.engine import AuthorizedViews
from mainstem.engines.authorized.routed import AuthorizedRoutedQueues
from mainstem.masking.contract import Masks
from mainstem.queue_contract import SubscriptionSettings
from mainstem.queues.push_settings import PushSettings
from mainstem.routing_contract import QueueBinding, RoutedEvent, RoutedQueues
from tests.engines.routed_door import SPACE, RoutedDoor
from tests.engines.test_authorized import REQUESTER, FakeEngine, view_of
from tests.engines.test_read_only import calls_of
from tests.engines.test_routed_queues import with_door
from tests.support.memory_masks import MemoryMasks, mask_rule
from tests.support.rule_authorizer import RuleAuthorizer

SETTINGS = SubscriptionSettings(dead_letter_topic="dead")
EVENT = RoutedEvent(NewEvent(b"1"), "orders", ["work"])
CALLS: dict[str, tuple[Any, ...]] = {
    "create_namespace": ("shop",),
    "delete_namespace": ("shop",),
    "queues_of": ("shop",),
    "create_queue": ("shop", "work", SETTINGS),
    "bind_queue": ("shop", "work", b"data"),
    "unbind_queue": ("shop", 7),
    "bindings": ("shop",),
    "set_note": ("shop", "exchange orders", b"data"),
    "notes": ("shop",),
}
NAMES = {ResourceType.TOPIC: ("orders", "dead"), ResourceType.SUBSCRIPTION: ("shop/", "shop/work")}


class FakeRoutedQueues:
    """Notes the calls that reach it."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.results: dict[str, Any] = {
            "namespaces": ["bank", "shop"],
            "queues_of": ["work"],
            "bindings": [QueueBinding(7, "work", b"")],
            "publish": ["done"],
        }

    def subscription_of(self, namespace: str, queue: str) -> str:
        return f"{namespace}/{queue}"

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: object) -> Any:
            self.made.append(name)
            return self.results.get(name, True)

        return call


def routed_view(rules: RuleAuthorizer, masks: Masks | None = None) -> tuple[FakeRoutedQueues, Any]:
    engine = FakeEngine()
    queues = FakeRoutedQueues()
    engine.routed_queues = cast(Any, queues)
    return queues, view_of(engine, rules, masks=masks).routed_queues


def declared() -> dict[str, Any]:
    return {name: call for name, call in vars(AuthorizedRoutedQueues).items() if not name.startswith("_")}


def test_every_call_of_the_contract_is_declared_with_its_rights() -> None:
    assert set(declared()) == calls_of(RoutedQueues) == {"namespaces", "publish", "subscription_of", *CALLS}
    assert [name for name, call in declared().items() if not call.rights] == ["subscription_of"]


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_call_without_rights_is_denied_and_does_not_reach_the_engine(name: str) -> None:
    queues, view = routed_view(RuleAuthorizer(is_on=True))
    with pytest.raises(NotAuthorized, match="may not"):
        asyncio.run(getattr(view, name)(*CALLS[name]))
    assert queues.made == []


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_call_needs_each_of_its_rights_and_no_other(name: str) -> None:
    rules = RuleAuthorizer(is_on=True)
    for operation, resource_type in declared()[name].rights:
        for resource in NAMES[resource_type]:
            rules.allow(resource_type, resource, operation)
    queues, view = routed_view(rules)
    asyncio.run(getattr(view, name)(*CALLS[name]))
    assert queues.made[-1] == name


def test_lists_have_only_what_may_be_described() -> None:
    rules = RuleAuthorizer(is_on=True)
    queues, view = routed_view(rules)
    assert asyncio.run(view.namespaces()) == []
    rules.allow(ResourceType.SUBSCRIPTION, "shop/", Operation.DESCRIBE)
    assert asyncio.run(view.namespaces()) == ["shop"]
    assert asyncio.run(view.queues_of("shop")) == asyncio.run(view.bindings("shop")) == []
    rules.allow(ResourceType.SUBSCRIPTION, "shop/work", Operation.READ)
    assert asyncio.run(view.queues_of("shop")) == ["work"]
    assert asyncio.run(view.bindings("shop")) == queues.results["bindings"]


def test_a_namespace_is_deleted_by_who_may_delete_all_its_queues() -> None:
    rules = RuleAuthorizer(is_on=True)
    rules.allow(ResourceType.SUBSCRIPTION, "shop/", Operation.DELETE)
    queues, view = routed_view(rules)
    with pytest.raises(NotAuthorized, match="may not DELETE all queues of namespace shop") as refused:
        asyncio.run(view.delete_namespace("shop"))
    assert "work" not in str(refused.value)
    assert "delete_namespace" not in queues.made


def test_a_binding_is_removed_by_who_may_alter_its_queue() -> None:
    rules = RuleAuthorizer(is_on=True)
    rules.allow(ResourceType.SUBSCRIPTION, "shop/", Operation.DESCRIBE)
    queues, view = routed_view(rules)
    with pytest.raises(NotAuthorized, match="may not remove binding 7 of namespace shop") as refused:
        asyncio.run(view.unbind_queue("shop", 7))
    assert "work" not in str(refused.value)
    assert "unbind_queue" not in queues.made


def test_an_event_needs_the_right_to_its_topic_and_to_each_queue() -> None:
    rules = RuleAuthorizer(is_on=True)
    queues, view = routed_view(rules)
    events = [
        EVENT,
        RoutedEvent(NewEvent(b"2"), "orders", ["work", "other"]),
        RoutedEvent(NewEvent(b"3"), "x"),
    ]
    results = asyncio.run(view.publish("shop", events))
    assert [type(result) for result in results] == [NotAuthorized] * 3
    assert queues.made == [], "not even whether there is such a namespace"
    rules.allow(ResourceType.TOPIC, "orders", Operation.WRITE)
    assert isinstance(asyncio.run(view.publish("shop", [EVENT]))[0], NotAuthorized)
    rules.allow(ResourceType.SUBSCRIPTION, "shop/work", Operation.WRITE)
    results = asyncio.run(view.publish("shop", events))
    assert results[0] == "done"
    assert [str(result) for result in results[1:]] == [
        "User:ANONYMOUS may not WRITE subscription shop/other",
        "User:ANONYMOUS may not WRITE topic x",
    ]


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        SubscriptionSettings(push=PushSettings(endpoint="http://127.0.0.1:9/")),
        SubscriptionSettings(filter="card:4111*"),
        SubscriptionSettings(filter="4111"),
        SubscriptionSettings(topics=("orders",), dead_letters_to_sink=True),
    ],
)
def test_a_queue_reveals_nothing_that_is_masked_in_any_topic(settings: SubscriptionSettings) -> None:
    masks = MemoryMasks()
    queues, view = routed_view(RuleAuthorizer(), masks)
    asyncio.run(view.create_queue("shop", "work", settings))
    masks.put_rule(mask_rule("orders", "card", name="cards"))
    with pytest.raises((NotAuthorized, InvalidArgument), match="masked"):
        asyncio.run(view.create_queue("shop", "work", settings))
    assert queues.made == ["create_queue"]
    engine = FakeEngine()
    engine.results["subscription_settings"] = SubscriptionSettings()
    with pytest.raises((NotAuthorized, InvalidArgument), match="masked"):
        asyncio.run(view_of(engine, RuleAuthorizer(), masks=masks).alter_subscription("shop/work", settings))
    masks.put_rule(mask_rule("orders", "card", *masks.rules()[0][4:5], REQUESTER.principal, name="cards"))
    asyncio.run(view.create_queue("shop", "work", settings))


def test_an_engine_shows_its_namespaces_by_the_names_of_their_queues() -> None:
    async def test(door: RoutedDoor) -> None:
        rules = RuleAuthorizer(is_on=True)
        server = door.server
        views = AuthorizedViews(server.engine, lambda: cast(Any, None), rules, MemoryMasks(), server.clock)
        queues = cast(Any, views.engine(REQUESTER)).routed_queues
        assert await server.drive(queues.namespaces()) == []
        with pytest.raises(NotAuthorized):
            await server.drive(queues.queues_of("no-such-namespace"))
        rules.allow(ResourceType.SUBSCRIPTION, f"{SPACE}/*", Operation.ALL)
        rules.allow(ResourceType.TOPIC, "orders", Operation.WRITE)
        assert await server.drive(queues.namespaces()) == [SPACE]
        assert await server.drive(queues.queues_of(SPACE)) == ["a", "b"]
        event = RoutedEvent(NewEvent(b"1"), "orders", ["a"])
        assert (await server.drive(queues.publish(SPACE, [event])))[0].topic == "orders"

    with_door(test, "a", "b")

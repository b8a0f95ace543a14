"""Attached consumers for one requester: each call needs its rights, and a right that is revoked ends them."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from mainstem.access_contract import Operation, ResourceType
from mainstem.attach_contract import AttachedConsumers, AttachRequest
from mainstem.contract import NotAuthorized
from mainstem.engines.authorized.attached import AuthorizedAttachedConsumers
from mainstem.engines.authorized.engine import AuthorizedViews
from tests.engines.attached_client import AttachedClient, settle_down
from tests.engines.routed_door import SPACE, RoutedDoor
from tests.engines.test_authorized import REQUESTER
from tests.engines.test_read_only import calls_of
from tests.engines.test_routed_queues import with_door
from tests.support.memory_masks import MemoryMasks, mask_rule
from tests.support.rule_authorizer import RuleAuthorizer

QUEUE = f"{SPACE}/a"
CALLS: dict[str, tuple[Any, ...]] = {
    "attach": (AttachRequest(QUEUE, "c"), print, print),
    "settle_soon": (QUEUE, ()),
    "settle": (QUEUE, ()),
    "take": (QUEUE, "c"),
    "queue_counts": (QUEUE,),
    "delivery_states": (QUEUE, ()),
    "purge_ready": (QUEUE,),
}


def declared() -> dict[str, Any]:
    return {
        name: call for name, call in vars(AuthorizedAttachedConsumers).items() if not name.startswith("_")
    }


def view_of_door(door: RoutedDoor, rules: RuleAuthorizer, masks: MemoryMasks | None = None) -> Any:
    server = door.server
    views = AuthorizedViews(
        server.engine, lambda: cast(Any, None), rules, masks or MemoryMasks(), server.clock
    )
    return cast(Any, views.engine(REQUESTER)).attached


async def call(door: RoutedDoor, view: Any, name: str) -> Any:
    result = getattr(view, name)(*CALLS[name])
    return await door.server.drive(result) if asyncio.iscoroutine(result) else result


def test_every_call_of_the_contract_is_declared_with_its_rights() -> None:
    assert set(declared()) == calls_of(AttachedConsumers) == set(CALLS)
    assert all(function.rights for function in declared().values())


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_call_needs_its_right_to_the_queue(name: str) -> None:
    async def test(door: RoutedDoor) -> None:
        rules = RuleAuthorizer(is_on=True)
        view = view_of_door(door, rules)
        with pytest.raises(NotAuthorized, match="may not"):
            await call(door, view, name)
        rules.allow(ResourceType.SUBSCRIPTION, QUEUE, declared()[name].rights[0].operation)
        await call(door, view, name)

    with_door(test, "a")


def test_a_consumer_whose_right_is_revoked_gets_nothing_more() -> None:
    async def test(door: RoutedDoor) -> None:
        rules = RuleAuthorizer(is_on=True)
        rules.allow(ResourceType.SUBSCRIPTION, QUEUE, Operation.READ)
        consumer = AttachedClient(door.server, "c", 0, QUEUE)
        view = view_of_door(door, rules)
        await door.server.drive(
            view.attach(AttachRequest(QUEUE, "c"), consumer.deliver, consumer.ends.append)
        )
        await door.publish("all", "", b"0")
        await settle_down(door.server)
        rules.forbid(ResourceType.SUBSCRIPTION, QUEUE)
        await door.publish("all", "", b"1")
        await settle_down(door.server)
        assert consumer.received == [b"0"]
        assert [type(end) for end in consumer.ends] == [NotAuthorized]
        other = await AttachedClient(door.server, "other", 0, QUEUE).attach()
        await settle_down(door.server)
        assert other.received == [b"0", b"1"]

    with_door(test, "a")


def test_deliveries_have_masks_in_the_place_of_what_is_masked() -> None:
    async def test(door: RoutedDoor) -> None:
        masks = MemoryMasks()
        view = view_of_door(door, RuleAuthorizer(), masks)
        masks.put_rule(mask_rule("orders", "card", name="cards"))
        await door.publish("all", "", b'{"card":"4111"}', b'{"card":"4222"}', partition=0)
        consumer = AttachedClient(door.server, "c", 0, QUEUE)
        taken = await door.server.drive(view.take(QUEUE, "c"))
        request = AttachRequest(QUEUE, "c")
        await door.server.drive(view.attach(request, consumer.deliver, consumer.ends.append))
        await settle_down(door.server)
        for value in (taken.event.value, *consumer.received):
            assert value is not None
            assert b"card" in value
            assert b"4" not in value

    with_door(test, "a")

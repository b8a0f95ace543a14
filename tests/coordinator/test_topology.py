"""Namespaces: their queues, bindings, routes and partitions, and what of them survives a restart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.queues import routing as limits
from mainstem.coordinator.queues.topology import Namespace
from mainstem.promise import Promise
from tests.coordinator.queue_rig import QueueRig
from tests.coordinator.state_rig import code
from tests.coordinator.state_rig import done as done_promise

PLACE = UUID(int=77), 0


def done(result: Any) -> Any:
    """The result of a promise, or what is known at once."""
    return done_promise(result) if isinstance(result, Promise) else result


class SpaceRig(QueueRig):
    """Subscriptions with the namespace `shop`, which has the queues a, b and c."""

    def __init__(self, queues: Sequence[str] = ("a", "b", "c"), **options: Any) -> None:
        super().__init__(**options)
        done(self.routing.create_namespace("shop"))
        for name in queues:
            done(self.routing.create_queue("shop", name, {}, lambda _: 7))

    @property
    def routing(self) -> limits.Routing:
        return self.subscriptions.routing

    @property
    def shop(self) -> Namespace:
        namespace = self.subscriptions.topology.by_name("shop")
        assert namespace is not None
        return namespace

    def ids(self, *names: str) -> tuple[int, ...]:
        return tuple(sorted(self.subscriptions.get(f"shop/{name}").id for name in names))


def test_a_routed_queue_is_a_subscription_with_one_view() -> None:
    rig = SpaceRig()
    (view,) = rig.subscriptions.views_of("shop/b")
    assert (view.place[1], view.partition, view.sequence.start) == (rig.shop.sequence_id, 0, 7)
    assert rig.subscriptions.topology.of_queue(view.subscription) is rig.shop
    done(rig.subscriptions.create("plain"))
    assert rig.subscriptions.topology.of_queue(rig.subscriptions.get("plain").id) is None


def facts(rig: SpaceRig) -> Any:
    return [
        (
            known.id, known.name, known.sequence_id, known.queues, known.partitions, known.joined,
            known.ordinals, known.bindings, dict(known.routes.items()),
        )
        for known in rig.subscriptions.topology.all()
    ]  # fmt: skip


@pytest.mark.parametrize("with_snapshot", [False, True])
def test_all_of_it_survives_a_restart(with_snapshot: bool) -> None:
    rig = SpaceRig()
    done(rig.routing.create_namespace("other"))
    done(rig.routing.bind("shop", "a", b"key"))
    removed = done(rig.routing.bind("shop", "b", b"x"))
    assert done(rig.routing.unbind("shop", removed.id)) is True
    assert done(rig.routing.unbind("shop", removed.id)) is False
    for names in ("a", "ab", "abc", "bc"):
        done(rig.routing.route(rig.shop, rig.ids(*names)))
    assert done(rig.routing.ordinal(rig.shop, PLACE, 5)) == 0
    assert done(rig.routing.ordinal(rig.shop, (PLACE[0], 1), 9)) == 1
    done(rig.subscriptions.delete("shop/c"))
    before = facts(rig)
    if with_snapshot:
        rig.runtime.take_snapshot()
        rig.clock.advance(1)
    rig.restart()
    assert facts(rig) == before
    assert rig.shop.routes.find(rig.ids("a", "b")) is not None
    assert [binding.data for binding in rig.shop.bindings.values()] == [b"key"]
    known = {number for number, _ in rig.shop.routes.items()}
    assert done(rig.routing.bind("shop", "a", b"new")).id not in known


def test_a_deleted_queue_takes_its_bindings_and_leaves_its_routes() -> None:
    rig = SpaceRig()
    done(rig.routing.bind("shop", "a", b"1"))
    done(rig.routing.bind("shop", "b", b"2"))
    route = done(rig.routing.route(rig.shop, rig.ids("a", "b")))
    alone = done(rig.routing.route(rig.shop, rig.ids("a")))
    done(rig.subscriptions.delete("shop/a"))
    assert [binding.data for binding in rig.shop.bindings.values()] == [b"2"]
    assert rig.shop.routes.queues(route) == rig.ids("b")
    assert rig.shop.routes.queues(alone) == ()
    done(rig.routing.create_queue("shop", "a", {}, lambda _: 0))
    assert rig.shop.routes.queues(route) == rig.ids("b"), "another queue of the same name is another queue"


def test_a_deleted_namespace_takes_its_queues() -> None:
    rig = SpaceRig()
    done(rig.subscriptions.create("plain"))
    assert [queue.name for queue in done(rig.routing.delete_namespace("shop"))] == [
        "shop/a",
        "shop/b",
        "shop/c",
    ]
    assert rig.subscriptions.topology.all() == []
    assert [known.name for known in rig.subscriptions.all()] == ["plain"]
    assert rig.subscriptions.views.all() == []
    rig.restart()
    assert [known.name for known in rig.subscriptions.all()] == ["plain"]
    assert code(rig.routing.delete_namespace("shop")) == "GROUP_ID_NOT_FOUND"


def test_a_number_that_events_refer_to_is_returned_when_it_is_durable() -> None:
    rig = SpaceRig()
    rig.log.auto_commit = False
    queues = rig.ids("a", "b")
    first, again = rig.routing.route(rig.shop, queues), rig.routing.route(rig.shop, queues)
    joining = rig.routing.ordinal(rig.shop, PLACE, 0)
    assert not isinstance(first, int)
    assert not isinstance(joining, int)
    assert again is first
    assert not first.done
    rig.log.commit()
    assert rig.routing.route(rig.shop, queues) == done(first)
    assert rig.routing.ordinal(rig.shop, PLACE, 3) == done(joining) == 0
    assert rig.shop.joined == {0: 0}


def test_a_number_whose_record_failed_is_forgotten() -> None:
    rig = SpaceRig()
    rig.log.auto_commit = False
    queues = rig.ids("a", "b")
    route = rig.routing.route(rig.shop, queues)
    rig.log.fail()
    rig.clock.advance(5)
    assert not isinstance(route, int)
    assert route.error is not None
    assert rig.shop.routes.find(queues) is None
    assert not isinstance(rig.routing.route(rig.shop, queues), int)


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = SpaceRig()
    done(rig.subscriptions.create("plain"))
    monkeypatch.setattr(limits, "NAMESPACES_MAX", 2)
    monkeypatch.setattr(limits, "ROUTES_MAX", 1)
    monkeypatch.setattr(limits, "BINDING_BYTES_MAX", 10)
    done(rig.routing.create_namespace("second"))
    done(rig.routing.route(rig.shop, rig.ids("a")))
    foreign = (rig.subscriptions.get("plain").id,)
    refused: list[tuple[Any, str]] = [
        (rig.routing.create_namespace("third"), "INVALID_REQUEST"),
        (rig.routing.create_namespace("shop"), "INVALID_REQUEST"),
        (rig.routing.create_namespace("a\nb"), "INVALID_GROUP_ID"),
        (rig.routing.create_queue("shop", "", {}, lambda _: 0), "INVALID_GROUP_ID"),
        (rig.routing.create_queue("nowhere", "q", {}, lambda _: 0), "GROUP_ID_NOT_FOUND"),
        (rig.routing.create_queue("shop", "a", {}, lambda _: 0), "INVALID_REQUEST"),
        (rig.routing.bind("shop", "plain", b""), "GROUP_ID_NOT_FOUND"),
        (rig.routing.bind("shop", "missing", b""), "GROUP_ID_NOT_FOUND"),
        (rig.routing.bind("shop", "a", bytes(11)), "INVALID_REQUEST"),
        (rig.routing.route(rig.shop, rig.ids("a", "b")), "POLICY_VIOLATION"),
        (rig.routing.route(rig.shop, foreign), "INVALID_REQUEST"),
        (rig.routing.route(rig.shop, ()), "INVALID_REQUEST"),
    ]
    for promise, expected in refused:
        assert isinstance(promise.error, CoordinatorError)
        assert code(promise) == expected


def test_partitions_of_deleted_topics_leave_and_one_that_lost_its_end_joins_earlier() -> None:
    rig = SpaceRig()
    others = [(UUID(int=78), 0), (UUID(int=79), 0)]
    for place in (PLACE, *others):
        done(rig.routing.ordinal(rig.shop, place, 100))
    done(rig.routing.leave_topic(UUID(int=78)))
    ends = {PLACE: 60}
    done(rig.routing.adapt_to_log(lambda *place: ends.get(place)))
    assert rig.shop.partitions == {0: PLACE}
    assert rig.shop.joined == {0: 60}
    assert done(rig.routing.ordinal(rig.shop, others[0], 0)) == 3, "an ordinal is not used again"
    rig.restart()
    assert rig.shop.joined == {0: 60, 3: 0}


def test_after_a_loss_of_records_numbers_are_skipped() -> None:
    rig = SpaceRig()
    before = rig.subscriptions.next_id
    done(rig.routing.skip_lost_ids())
    assert rig.subscriptions.next_id == before + limits.LOST_IDS_MAX
    rig.restart()
    assert rig.subscriptions.next_id == before + limits.LOST_IDS_MAX
    plain = QueueRig()
    done(plain.subscriptions.create("plain"))
    done(plain.subscriptions.routing.skip_lost_ids())
    assert plain.subscriptions.next_id == 2, "no event has numbers of a folder without namespaces"

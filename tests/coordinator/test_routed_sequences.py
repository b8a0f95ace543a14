"""Routed queues on a node: one event for many queues, their order, and the index, derived from the log."""

from __future__ import annotations

import random

import pytest

from mainstem.contract import Position
from mainstem.coordinator.queues.route_header import ROUTE_HEADER, RoutePlace, place_of
from mainstem.engines.embedded.queues import routed_publish
from mainstem.log.storage import record_batch
from mainstem.node import Node
from mainstem.queues.index_page import DamagedIndexPage
from tests.coordinator.routed_rig import (
    RoutedRig,
    bind,
    create_queue,
    matching,
    namespace_of,
    routed,
    sequence_of,
    values,
)
from tests.support.fake_disk import FakeDisk


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainstem.queues.routed_index.PAGE_ENTRIES", 32)


def contents(node: Node) -> dict[str, list[bytes | None]]:
    topology = node.subscriptions.topology
    return {
        name: values(node, name)
        for known in node.subscriptions.all()
        if (space := topology.of_queue(known.id)) is not None
        for name in [known.name.removeprefix(f"{space.name}/")]
    }


def test_an_event_for_many_queues_is_stored_once() -> None:
    names = [f"q{number}" for number in range(100)]
    rig = RoutedRig(*names)
    rig.publish(b"x", *names)
    rig.publish(b"y", *names)
    orders = rig.node.topics.get("orders")
    assert orders is not None
    partition = rig.node.partition(orders, 0)
    assert partition.high_watermark == 2
    assert partition.size_bytes() < 250
    assert contents(rig.node) == {name: [b"x", b"y"] for name in names}
    assert len(namespace_of(rig.node).routes) == 1


def test_a_queue_that_several_partitions_feed_has_the_order_of_arrival_after_every_start() -> None:
    rig = RoutedRig("a", "b")
    rng = random.Random(1)
    expected: dict[str, list[bytes]] = {"a": [], "b": []}
    for number in range(60):
        queues = rng.choice([["a"], ["b"], ["a", "b"]])
        rig.publish(b"%d" % number, *queues, partition=rng.randrange(2))
        for name in queues:
            expected[name].append(b"%d" % number)
    assert contents(rig.node) == expected
    for number, start in enumerate(rig.each_start()):
        assert contents(start()) == expected
        rig.publish(b"after %d" % number, "a", partition=number % 2)
        expected["a"].append(b"after %d" % number)
        assert contents(rig.node) == expected


def test_events_of_one_call_have_its_order_and_each_has_a_result() -> None:
    rig = RoutedRig("a", "b")
    events = [
        routed(rig.node, b"%d" % number, [["a"], ["b"], ["a", "b"], []][number % 4], partition=number % 2)
        for number in range(1200)
    ]
    results = rig.publish_all(events)
    assert [(result.partition, result.offset) for result in results if isinstance(result, Position)] == [
        (number % 2, number // 2) for number in range(1200)
    ]
    by_partition = [b"%d" % number for part in (0, 1) for number in range(part, 1200, 2)]
    assert values(rig.node, "a") == [value for value in by_partition if int(value) % 4 in (0, 2)]


def test_bindings_of_a_test_door_choose_the_queues_and_may_change_later() -> None:
    rig = RoutedRig("mail", "audit", "bills")
    for queue, exchange, key in [
        ("mail", "sales", "new"),
        ("bills", "sales", "paid"),
        ("audit", "sales", ""),
    ]:
        rig.done(bind(rig.node, queue, exchange, key))

    def publish(value: bytes, key: str) -> None:
        event = routed(rig.node, value, [])
        queues = matching(rig.node, "sales", key)
        rig.publish_all([routed_publish.RoutedPublish(event.event, event.topic, 0, queues)])

    publish(b"1", "new")
    publish(b"2", "paid")
    publish(b"3", "nothing")
    before = {"mail": [b"1"], "bills": [b"2"], "audit": [b"1", b"2", b"3"]}
    assert contents(rig.node) == before
    for binding in list(namespace_of(rig.node).bindings.values()):
        rig.done(rig.node.subscriptions.routing.unbind("shop", binding.id))
    rig.done(bind(rig.node, "mail", "sales"))
    publish(b"4", "paid")
    before["mail"].append(b"4")
    for start in rig.each_start():
        assert contents(start()) == before, "the route of an event is that of its publishing"


def test_a_deleted_queue_is_in_no_index_and_another_of_its_name_begins_empty() -> None:
    rig = RoutedRig("a", "b")
    rig.publish(b"1", "a", "b")
    rig.done(rig.node.subscriptions.delete("shop/a"))
    rig.publish(b"2", "b")
    rig.done(create_queue(rig.node, "a"))
    rig.publish(b"3", "a", "b")
    for start in rig.each_start():
        assert contents(start()) == {"a": [b"3"], "b": [b"1", b"2", b"3"]}


# --- who is believed --------------------------------------------------------------------------------------


def test_a_header_of_a_client_routes_nothing() -> None:
    rig = RoutedRig("a")
    rig.publish(b"real", "a")
    space = namespace_of(rig.node)
    ((route, _),) = space.routes.items()
    forged = RoutePlace(space.id, route, 50, 0).encode()
    orders = rig.node.topics.get("orders")
    assert orders is not None
    batch = record_batch.build([(None, b"forged", [(ROUTE_HEADER, forged)], 0)])
    partition, appended = rig.node.append_from_client(orders, 0, memoryview(batch))
    rig.done(partition.when_committed(appended.next_offset))
    rig.publish(b"also", headers=[(ROUTE_HEADER, forged)])
    rig.publish(b"real too", "a", headers=[(ROUTE_HEADER, forged), ("user.x", b"1"), ("plain", None)])
    for start in rig.each_start():
        assert contents(start()) == {"a": [b"real", b"real too"]}


def test_headers_come_back_as_they_were_published() -> None:
    headers = [
        ("mainstem-route", b"1"),
        ("user.x", b"2"),
        ("user.user.y", None),
        ("mainstem-", b""),
        ("a", b"b"),
    ]
    stored = routed_publish.stored_headers(headers)
    assert not any(name.startswith("mainstem-") for name, _ in stored)
    assert routed_publish.published_headers([(ROUTE_HEADER, b"?"), *stored]) == tuple(headers)


def test_only_its_own_bytes_are_a_route_header() -> None:
    place = RoutePlace(3, 1 << 40, (1 << 48) - 1, -(1 << 62))
    assert place_of([(ROUTE_HEADER, place.encode())]) == place
    assert len(RoutePlace(1, 20, 1_000_000, 0).encode()) == 6
    for value in (
        None,
        b"",
        b"\x01\x01\x01",
        b"\x01\x01\x01\x01\x01",
        b"\x01\x80\x00\x01\x01",
        b"\x01\x01\x01\x81",
        bytes(40),
    ):
        assert place_of([(ROUTE_HEADER, value)]) is None
    assert place_of([("x", b""), (ROUTE_HEADER, place.encode())]) is None
    assert place_of([]) is None


# --- the files of the index ---------------------------------------------------------------------------------


def filled(rig: RoutedRig, rounds: int = 4) -> dict[str, list[bytes | None]]:
    rng = random.Random(2)
    for _ in range(rounds):
        rig.publish_all(
            [
                routed(
                    rig.node,
                    b"%d" % rng.randrange(10**9),
                    rng.choice([["a"], ["b"], ["a", "b"]]),
                    partition=part,
                )
                for part in (0, 1)
                for _ in range(40)
            ]
        )
        rig.write_index()
    rig.publish(b"not written", "a")
    return contents(rig.node)


def index_file(rig: RoutedRig) -> str:
    folder = f"routed/{namespace_of(rig.node).sequence_id.hex}"
    (name,) = rig.disk.list(folder)
    return f"{folder}/{name}"


def test_the_index_is_loaded_from_its_files_and_the_rest_is_read_from_the_log() -> None:
    rig = RoutedRig("a", "b")
    expected = filled(rig)
    pages = len(rig.disk.read_all(index_file(rig)))
    assert pages > 1000
    node = rig.kill()
    sequence = sequence_of(node)
    assert contents(node) == expected
    assert sequence.order.next >= 321
    assert node.routed.log_end(namespace_of(node).sequence_id) == 321
    rig.publish(b"more", "b")
    assert values(rig.node, "b")[-1] == b"more"
    before = {name: list(items) for name, items in contents(rig.node).items()}
    assert contents(rig.restart()) == before


@pytest.mark.parametrize("part", ["header", "rows", "page", "cut off", "garbage after it"])
def test_damage_of_the_files_is_read_from_the_log_again(part: str) -> None:
    rig = RoutedRig("a", "b")
    expected = filled(rig)
    path = index_file(rig)
    data = bytearray(rig.disk.read_all(path))
    place = {"header": 10, "rows": 80, "page": len(data) // 2}.get(part)
    if place is not None:
        data[place] ^= 0xFF
    elif part == "cut off":
        del data[-100:]
    else:
        data += b"MSINDX" + bytes(200)
    rig.disk.write_all(path, bytes(data))
    assert contents(rig.kill()) == expected
    rig.publish(b"more", "b")
    rig.write_index()
    assert contents(rig.kill())["b"] == [*expected["b"], b"more"]


def test_a_page_that_is_damaged_later_lets_the_index_be_built_anew_while_it_serves() -> None:
    rig = RoutedRig("a", "b")
    expected = filled(rig)
    node = rig.restart()  # a clean start does not read the pages
    path = index_file(rig)
    data = bytearray(rig.disk.read_all(path))
    for place in range(300, len(data), 97):
        data[place] ^= 0xFF
    rig.disk.write_all(path, bytes(data))
    sequence = sequence_of(node)
    with pytest.raises(DamagedIndexPage) as damage:
        contents(node)
    node.routed.rebuild(sequence, damage.value)
    assert sequence.problem
    rig.publish(b"meanwhile", "a")
    rig.settle(5)
    assert not sequence.problem
    rig.publish(b"later", "a")
    expected["a"] += [b"meanwhile", b"later"]
    assert contents(node) == expected
    assert contents(rig.kill()) == expected


def all_files(disk: FakeDisk) -> dict[str, bytes]:
    return {path: bytes(data) for path, data in disk.files.items()}


def test_an_index_that_is_ahead_of_the_log_is_cut_and_its_numbers_are_not_given_again() -> None:
    rig = RoutedRig("a", "b")
    expected = filled(rig)
    rig.restart()
    earlier = all_files(rig.disk)
    for number in range(150):
        queues = ["a"] if number % 3 else ["a", "b"]
        rig.publish_all([routed(rig.node, b"lost", queues, partition=number % 2)] * 2)
    rig.write_index()
    following = sequence_of(rig.node).order.next
    rig.restart()
    # What a copy of a folder may be that was made at several moments.
    for path in list(rig.disk.files):
        if not path.startswith("routed/"):
            rig.disk.unlink(path)
            if path in earlier:
                rig.disk.write_all(path, earlier[path])
    for times in range(3):
        node = rig.kill()
        assert contents(node) == expected
        assert sequence_of(node).order.next >= following
        rig.publish_all(
            [routed(node, b"new %d" % times, ["b"], partition=number % 2) for number in range(90)]
        )
        expected["b"] += [b"new %d" % times] * 90
        assert contents(node) == expected
        rig.write_index()
    assert contents(rig.restart()) == expected


def test_deleted_namespaces_leave_no_files_and_unknown_folders_go() -> None:
    rig = RoutedRig("a")
    rig.publish(b"1", "a")
    rig.write_index()
    space = namespace_of(rig.node)
    rig.disk.make_folder("routed/0123456789abcdef0123456789abcdef")
    rig.done(rig.node.subscriptions.routing.delete_namespace("shop"))
    rig.node.routed.forget(space)
    rig.kill()
    assert rig.disk.list("routed") == []

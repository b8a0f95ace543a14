"""The routes of a namespace, and its arrival order."""

from __future__ import annotations

import random

import pytest

from mainstem.queues.arrivals import SEQUENCE_END, ArrivalOrder
from mainstem.queues.routes import RouteTable, decode_queues, encode_queues, queue_set


def test_the_bytes_of_a_route_are_its_queues() -> None:
    rng = random.Random(5)
    for _ in range(200):
        queues = queue_set(rng.choices(range(1, 1 << rng.randint(1, 40)), k=rng.randint(1, 50)))
        assert decode_queues(encode_queues(queues)) == queues
    neighbours = queue_set(range(1_000, 1_100))
    assert len(encode_queues(neighbours)) == 3
    with pytest.raises(ValueError, match="ascend"):
        encode_queues((2, 1))
    with pytest.raises(ValueError, match="at most"):
        decode_queues(encode_queues(queue_set(range(100))), queues_max=99)
    with pytest.raises(ValueError, match="varint"):
        decode_queues(encode_queues((5, 70_000))[:-2])


def test_a_set_of_queues_has_one_number_and_a_number_one_set() -> None:
    table = RouteTable()
    table.add(7, (1, 2))
    assert (table.find((1, 2)), table.find((1,)), table.queues(7), table.queues(8)) == (7, None, (1, 2), ())
    table.add(7, (1, 2))
    with pytest.raises(ValueError, match="already"):
        table.add(7, (1, 3))
    with pytest.raises(ValueError, match="no queue"):
        table.add(8, ())


def test_a_queue_that_exists_no_more_leaves_its_routes() -> None:
    table = RouteTable()
    for number, queues in enumerate([(1,), (1, 2), (2,), (1, 3)], 10):
        table.add(number, queues)
    table.drop_queue(1)
    assert dict(table.items()) == {11: (2,), 12: (2,), 13: (3,)}
    assert table.find((2,)) in (11, 12)
    assert table.find((1, 2)) is None
    table.drop_queue(1)
    table.drop_queue(2)
    assert dict(table.items()) == {13: (3,)}
    assert len(table) == 1
    assert table.find((2,)) is None


def test_batches_are_readable_in_their_order_whichever_commit_ends_first() -> None:
    order: ArrivalOrder[str] = ArrivalOrder(100)
    first, second, third = (order.begin(count, name) for count, name in [(3, "a"), (1, "b"), (2, "c")])
    assert (first, second, third, order.next, order.watermark) == (100, 103, 104, 106, 100)
    assert order.end(second, committed=True) == []
    assert list(order.undecided()) == ["a", "b", "c"]
    assert order.end(first, committed=False) == ["b"]
    assert order.watermark == 104
    assert order.end(third, committed=True) == ["c"]
    assert order.watermark == 106


def test_random_commits_keep_the_order_and_lose_nothing() -> None:
    rng = random.Random(9)
    for _ in range(50):
        order: ArrivalOrder[int] = ArrivalOrder(0)
        open_batches: list[int] = []
        committed: list[int] = []
        readable: list[int] = []
        for number in range(60):
            open_batches.append(order.begin(rng.randint(1, 5), number))
            while open_batches and rng.random() < 0.5:
                first = open_batches.pop(rng.randrange(len(open_batches)))
                batch = next(arriving.batch for arriving in order._arriving if arriving.first == first)
                if is_committed := rng.random() < 0.8:
                    committed.append(batch)
                readable += order.end(first, committed=is_committed)
        for first in open_batches:
            readable += order.end(first, committed=False)
        assert readable == sorted(committed)
        assert order.watermark == order.next


def test_numbers_are_not_given_out_twice_and_end_with_the_bits_of_a_token() -> None:
    order: ArrivalOrder[None] = ArrivalOrder(5)
    order.skip_to(3)
    assert order.next == 5
    order.skip_to(SEQUENCE_END - 1)
    assert order.begin(1, None) == SEQUENCE_END - 1
    with pytest.raises(OverflowError):
        order.begin(1, None)

"""The parts of a view by themselves: runs without pages, the lowest number, waits, leases, rules."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from mainstem.queues.leases import WORD_MASK, LeaseTable
from mainstem.queues.lowest_first import LowestFirst
from mainstem.queues.ready_runs import ReadyRuns
from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import runs_of
from mainstem.queues.waits import WaitHeap


@pytest.mark.parametrize("seed", range(5))
def test_ready_runs_are_a_set_of_positions(seed: int) -> None:
    chance = random.Random(seed)
    ready, naive = ReadyRuns(), set[int]()
    end = 0
    for _ in range(800):
        first = chance.randrange(max(0, end - 400), end + 1)
        stop = first + chance.choice((1, 3, 60))
        kind = chance.random()
        if kind < 0.5:
            end += chance.choice((0, 0, 1, 9))
            ready.append(end, end + 4)
            naive |= set(range(end, end + 4))
            end += 4
        elif kind < 0.6:
            stop = min(stop, end)
            if first < stop:
                assert ready.add(first, stop) == len(set(range(first, stop)) - naive)
                naive |= set(range(first, stop))
        elif kind < 0.8:
            lowest = ready.lowest
            if lowest is not None:  # from the front, as a page is opened
                assert ready.remove(lowest, lowest + 5) == len(naive & set(range(lowest, lowest + 5)))
                naive -= set(range(lowest, lowest + 5))
        else:
            assert ready.within(first, stop) == runs_of(naive & set(range(first, stop)))
            assert ready.remove(first, stop) == len(naive & set(range(first, stop)))
            naive -= set(range(first, stop))
        assert ready.lowest == min(naive, default=None)
        assert (first in ready) == (first in naive)
    assert list(ready) == runs_of(naive)
    assert len(ready) == len(runs_of(naive))


def test_runs_that_were_removed_from_the_front_take_no_memory_for_long() -> None:
    ready = ReadyRuns()
    for first in range(0, 100_000, 10):
        ready.append(first, first + 5)
        ready.remove(0, first)
    assert ready.bytes <= 16 * 2100


def test_the_lowest_number_is_first() -> None:
    chance = random.Random(1)
    numbers, naive = LowestFirst([7, 3]), {7, 3}
    for _ in range(2000):
        number = chance.randrange(400)
        if chance.random() < 0.5:
            numbers.add(number)
            naive.add(number)
        else:
            numbers.discard(number)
            naive.discard(number)
        assert (number in numbers) == (number in naive)
        if chance.random() < 0.3:
            assert numbers.lowest == min(naive, default=None)
    assert len(numbers) == len(naive)
    assert len(numbers._heap) <= 2 * 7 + 65


@pytest.mark.parametrize("seed", range(5))
def test_waiting_positions_are_due_in_order_and_once(seed: int) -> None:
    """I17, the part of the index: nothing before its due time."""
    chance = random.Random(seed)
    waits = WaitHeap()
    naive: dict[int, int] = {}
    now_ms = 0
    for _ in range(1500):
        position = chance.randrange(40)
        if position in naive:
            waits.cancel(position)
            del naive[position]
        if chance.random() < 0.7:
            naive[position] = now_ms + chance.randrange(1, 300)
            waits.add(naive[position], position)
        now_ms += chance.randrange(6)
        if chance.random() < 0.2:
            due = sorted((due_ms, p) for p, due_ms in naive.items() if due_ms <= now_ms)
            assert waits.pop_due(now_ms) == [p for _, p in due]
            naive = {p: due_ms for p, due_ms in naive.items() if due_ms > now_ms}
        assert len(waits) == len(naive)
        assert sorted(waits.entries()) == sorted((due_ms, p) for p, due_ms in naive.items())
        earliest = waits.next_due_ms()
        assert earliest is None if not naive and earliest is None else True
        assert not naive or (earliest is not None and earliest <= min(naive.values()))
    waits.clear()
    assert len(waits) == 0
    assert waits.next_due_ms() is None


def test_cancelled_entries_do_not_pile_up() -> None:
    waits = WaitHeap()
    for position in range(10_000):
        waits.add(10**12 + position, position)
        waits.cancel(position)
    assert len(waits._heap) <= 140
    assert len(waits._overrides) <= 140


def test_leases_expire_by_their_own_lock_and_in_order() -> None:
    table = LeaseTable()
    table.next_word()
    slow = table.open("a", [(0, 5)], 0, 1000)
    quick = table.open("b", [(5, 6)], 100, 10)
    eternal = table.open("b", [(6, 7)], 100, 0)
    assert table.next_deadline_ms() == 110
    assert table.expired(109) == []
    assert table.expired(110) == [quick]
    assert table.expired(5000) == [slow, quick]
    assert table.extend(slow.id, 4000, 2000)
    assert table.expired(5000) == [quick]
    assert table.extend(quick.id, 4000, 0)
    assert table.next_deadline_ms() == 6000
    table.take(slow.id, 4)
    assert table.get(slow.id) is slow
    table.take(slow.id, 1)
    assert table.get(slow.id) is None
    assert not table.extend(slow.id, 9000, 1)
    assert table.next_deadline_ms() is None
    assert table.of_consumer("b") == [quick, eternal]
    assert table.of_consumer("a") == []
    assert len(table) == 2


def test_a_clock_that_is_set_back_keeps_deadlines_in_order() -> None:
    table = LeaseTable()
    first = table.open("a", [(0, 1)], 10_000, 1000)
    second = table.open("a", [(1, 2)], 4000, 1000)
    assert (first.deadline_ms, second.deadline_ms) == (11_000, 11_000)
    assert table.expired(11_000) == [first, second]


def test_a_lease_number_of_more_than_32_bits_is_its_own() -> None:
    """I4: pages know 32 bits of a lease's number; a live lease and a new one never share them."""
    table = LeaseTable()
    old = table.open("a", [(0, 1)], 0, 0)
    table = LeaseTable(WORD_MASK - 1)
    table.by_word[1] = old
    assert table.next_word() == WORD_MASK
    assert table.open("a", [(1, 2)], 0, 0).id == WORD_MASK
    assert table.next_word() == 2  # 0 is no word, and 1 is live
    newest = table.open("a", [(2, 3)], 0, 0)
    assert newest.id == 2**32 + 2
    assert table.get(2) is None
    assert table.get(newest.id) is newest


def test_the_backoff_grows_up_to_its_maximum() -> None:
    rules = DeliveryRules(backoff_min_ms=100, backoff_max_ms=1000, backoff_factor=3)
    assert [rules.backoff_ms(failures) for failures in (0, 1, 2, 3, 4, 10**6)] == [
        0,
        100,
        300,
        900,
        1000,
        1000,
    ]
    assert (rules.backoff_ms(2, -1), rules.backoff_ms(2, 1)) == (270, 330)
    assert DeliveryRules(backoff_factor=7).backoff_ms(5) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: DeliveryRules(lock_ms=-1),
        lambda: DeliveryRules(failures_max=-1),
        lambda: DeliveryRules(backoff_factor=0.5),
        lambda: DeliveryRules(in_flight_max=0),
    ],
)
def test_rules_out_of_range_are_refused(wrong: Callable[[], DeliveryRules]) -> None:
    with pytest.raises(ValueError):
        wrong()

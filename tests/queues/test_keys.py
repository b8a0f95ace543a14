"""Key order against a model (I8): order within a key, one consumer at a time, nothing ahead of what waits."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import settings as bounds
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mainstem.queues.keys import KEY_END, KeyOrder

CONSUMERS = st.sampled_from(["a", "b", "c"])
KEYS = st.sampled_from([0, 1, (1 << 63) - 1, None])
UNBOUNDED = 1 << 30


class KeyOrderModel(RuleBasedStateMachine):
    """The same operations on `KeyOrder` and on plain dicts that are searched whole."""

    @initialize(
        parked_max=st.integers(1, 8) | st.just(UNBOUNDED), row_max=st.integers(1, 6) | st.just(UNBOUNDED)
    )
    def begin(self, parked_max: int, row_max: int) -> None:
        self.order = KeyOrder(parked_max, row_max)
        self.is_bounded = min(parked_max, row_max) < UNBOUNDED
        self.end = 0
        self.key_of: dict[int, int | None] = {}
        """Every outstanding position."""
        self.leased: dict[int, str] = {}
        self.offer_numbers: dict[int, int] = {}
        """Of what is leased: the number of its offer. Later ones of a key are taken back with earlier
        ones."""
        self.offers = 0
        self.waiting: set[int] = set()
        self.done_keys: dict[int, int | None] = {}

    def line(self, position: int) -> list[int]:
        """The outstanding events of the position's key."""
        key = self.key_of[position]
        return [position] if key is None else sorted(p for p, k in self.key_of.items() if k == key)

    def offerable(self, consumer: str) -> list[int]:
        """What a consumer may have now, whatever the bounds."""
        allowed: list[int] = []
        for first in {self.line(position)[0] for position in self.key_of}:
            line = self.line(first)
            if {self.leased[p] for p in line if p in self.leased} <= {consumer}:
                for position in (p for p in line if p not in self.leased):
                    if position in self.waiting:
                        break
                    allowed.append(position)
        return sorted(allowed)

    @rule(keys=st.lists(KEYS, min_size=1, max_size=8))
    def scan(self, keys: list[int | None]) -> None:
        for key in keys:
            self.key_of[self.end] = key
            self.order.add(self.end, key)
            self.end += 1 + (key == 1)  # positions that a filter excludes leave gaps

    @rule(key=KEYS)
    def scan_delayed(self, key: int | None) -> None:
        self.key_of[self.end] = key
        self.waiting.add(self.end)
        self.order.add_waiting(self.end, key)
        self.end += 1

    @rule(consumer=CONSUMERS, max_events=st.integers(1, 6) | st.just(1000))
    def acquire(self, consumer: str, max_events: int) -> None:
        allowed = self.offerable(consumer)
        taken = self.order.take(consumer, max_events)
        if self.is_bounded:
            self.judge_bounded(taken, allowed, consumer)
        else:
            assert taken == allowed[:max_events]
        for position in taken:
            self.leased[position] = consumer
            self.offer_numbers[position] = self.offers
            self.offers += 1

    def judge_bounded(self, taken: list[int], allowed: list[int], consumer: str) -> None:
        """A bound may end a scan before everything is looked at, but never the order within a key."""
        assert set(taken) <= set(allowed)
        for position in taken:
            earlier = [p for p in self.line(position) if p < position]
            assert all(self.leased.get(p) == consumer or p in taken for p in earlier)

    def pick(self, data: st.DataObject, places: list[int]) -> list[int]:
        return (
            data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=5, unique=True))
            if places
            else []
        )

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        self.forget(self.pick(data, sorted(self.leased)))

    @rule(data=st.data())
    def purge_any(self, data: st.DataObject) -> None:
        self.forget(self.pick(data, sorted(self.key_of)))

    def forget(self, positions: list[int]) -> None:
        self.order.done(positions)
        for position in positions:
            self.done_keys[position] = self.key_of.pop(position)
            self.leased.pop(position, None)
            self.waiting.discard(position)

    @rule(data=st.data(), is_delayed=st.booleans())
    def nack(self, data: st.DataObject, is_delayed: bool) -> None:
        self.give_back(self.pick(data, sorted(self.leased)), is_delayed)

    @rule(consumer=CONSUMERS)
    def lose_consumer(self, consumer: str) -> None:
        self.give_back([p for p, owner in self.leased.items() if owner == consumer], False)

    def give_back(self, positions: list[int], is_delayed: bool) -> None:
        returned = self.order.hold_back(positions) if is_delayed else self.order.give_back(positions)
        expected = {
            later
            for position in positions
            for later in self.line(position)
            if later in self.leased and self.offer_numbers[later] > self.offer_numbers[position]
        }
        assert returned == sorted(expected - set(positions))
        for position in [*positions, *returned]:
            del self.leased[position]
        if is_delayed:
            self.waiting.update(positions)

    @rule(data=st.data())
    def time_comes(self, data: st.DataObject) -> None:
        positions = self.pick(data, sorted(self.waiting))
        self.order.wake([*positions, -1])
        self.waiting.difference_update(positions)

    @rule(data=st.data())
    def redrive(self, data: st.DataObject) -> None:
        for position in self.pick(data, sorted(self.done_keys)):
            key = self.key_of[position] = self.done_keys.pop(position)
            self.order.add(position, key)

    @rule(back=st.integers(0, 10))
    def trim(self, back: int) -> None:
        start = self.end - back
        self.order.done_runs([(0, start)])
        for position in [p for p in self.key_of if p < start]:
            self.forget([position])
        self.done_keys = {p: key for p, key in self.done_keys.items() if p >= start}

    @invariant()
    def counts_are_those_of_a_recount(self) -> None:
        order = self.order
        assert order.waiting == len(self.waiting)
        assert order.parked + order.unread + order.waiting + len(self.leased) == len(self.key_of)
        assert all(order.is_leased(position) for position in self.leased)
        assert all(order.knows(position) for position in self.key_of)
        assert not any(order.knows(position) for position in self.done_keys)
        assert sum(order.is_parked(position) for position in self.key_of) == order.parked

    @invariant()
    def what_is_parked_names_the_event_that_it_is_behind(self) -> None:
        for position in self.key_of:
            earlier = self.line(position)[0]
            if self.order.is_parked(position) or position in self.waiting:
                seen = [
                    p
                    for p in self.line(position)
                    if p in self.leased or self.order.is_parked(p) or p in self.waiting
                ]
                assert self.order.blocker(position) == (None if seen[0] == position else seen[0]), earlier

    def teardown(self) -> None:
        """Drain: everything that is outstanding is offered, and nothing is left in memory."""
        if not hasattr(self, "order"):
            return
        self.time_comes_for_all()
        self.give_back(sorted(self.leased), False)
        for _ in range(len(self.key_of)):
            taken = self.order.take("drain", 1000)
            assert taken or not self.key_of
            self.leased.update(dict.fromkeys(taken, "drain"))
            self.forget(taken)
        assert (self.key_of, self.order.busy_keys, self.order.parked, self.order.unread) == ({}, 0, 0, 0)

    def time_comes_for_all(self) -> None:
        self.order.wake(sorted(self.waiting))
        self.waiting.clear()


TestKeyOrderModel = KeyOrderModel.TestCase
TestKeyOrderModel.settings = bounds(max_examples=30, stateful_step_count=40, deadline=None)


# ----------------------------------------------------------------------------------------------------------
# the rules, one by one


def order_of(keys: str, **bounds_of_order: int) -> KeyOrder:
    """A key order with an event a letter, from position 0; the letter is the key."""
    order = KeyOrder(**bounds_of_order)
    for position, letter in enumerate(keys):
        order.add(position, ord(letter))
    return order


def test_later_events_of_a_key_are_leased_to_the_same_consumer_only() -> None:
    order = order_of("a" * 150)
    assert order.take("x", 1) == [0]
    assert order.take("y", 200) == []
    assert order.take("x", 120) == list(range(1, 121))
    order.done(range(120))
    assert order.take("y", 200) == []
    order.done([120])
    assert order.take("y", 200) == list(range(121, 150))


def test_a_nack_takes_back_the_later_leases_of_its_key_and_no_other() -> None:
    order = order_of("ababab")
    assert order.take("x", 3) == [0, 1, 2]
    assert order.take("x", 2) == [3, 4]
    order.done([4])
    assert order.give_back([0]) == [2]
    assert [order.is_leased(position) for position in range(5)] == [False, True, False, True, False]
    assert order.take("y", 9) == [0, 2]  # 4 is done and does not come again; 5 is behind 1 and 3, which x has
    assert order.take("x", 9) == [5]


def test_nothing_of_a_key_is_leased_while_an_earlier_event_waits() -> None:
    order = order_of("aab")
    order.take("x", 1)
    assert order.hold_back([0]) == []
    assert order.take("y", 9) == [2]
    assert order.blocker(1) == 0
    order.wake([0])
    assert order.take("y", 9) == [0, 1]


def test_an_event_that_waits_from_the_beginning_blocks_its_key() -> None:
    order = KeyOrder()
    order.add(0, 1)
    order.add_waiting(1, 1)
    order.add(2, 1)
    assert order.take("x", 9) == [0]
    assert (order.parked, order.waiting, order.blocker(2)) == (1, 1, 0)
    order.done([0])
    assert order.blocker(2) == 1
    order.wake([1])
    assert order.take("y", 9) == [1, 2]


def test_a_rejected_event_frees_its_key() -> None:
    order = order_of("aa")
    order.take("x", 1)
    assert order.take("y", 1) == []
    order.done([0])
    assert order.take("y", 1) == [1]


def test_events_without_a_key_wait_for_none() -> None:
    order = KeyOrder()
    for position in range(4):
        order.add(position, None)
    assert [order.take(consumer, 1) for consumer in "xyxz"] == [[0], [1], [2], [3]]
    assert order.give_back([1]) == []
    assert order.take("x", 9) == [1]


def test_a_busy_key_does_not_stop_others() -> None:
    order = order_of("h" * 500 + "abc" + "h" * 500 + "de")
    order.take("slow", 1)
    assert order.take("x", 3) == [500, 501, 502]
    assert order.take("y", 3) == [1003, 1004]
    assert order.parked == 999
    assert not order.is_full


def test_the_scan_stops_after_a_row_of_parked_events_and_resumes_when_the_key_is_free() -> None:
    order = order_of("h" * 40 + "a", row_max=10)
    order.take("slow", 1)
    assert order.take("x", 9) == []
    assert (order.parked, order.unread, order.is_full) == (10, 30, True)
    order.done([0])
    assert not order.is_full
    assert order.take("slow", 1) == [1]
    assert order.take("x", 9) == []
    assert (order.parked, order.is_full) == (19, True)
    order.done([1])
    taken = order.take("x", 99)
    assert taken == list(range(2, 41))
    assert (order.parked, order.unread, order.is_full) == (0, 0, False)


def test_a_consumer_that_takes_what_is_parked_lets_the_scan_go_on() -> None:
    order = order_of("h" * 30 + "a", row_max=10)
    order.take("hot", 1)
    assert order.take("x", 1) == []
    for expected in range(1, 19):
        assert order.take("hot", 1) == [expected]
        assert order.take("x", 1) == []
        assert order.parked == 10  # the key was never free, and yet the scan went on with it
    assert order.take("hot", 1) == [19]
    assert order.take("x", 1) == [30]


def test_no_more_is_parked_than_the_bound_says() -> None:
    order = order_of("aabbccddee", parked_max=3)
    assert order.take("x", 1) == [0]
    assert order.take("y", 9) == [2, 3, 4, 5, 6, 7, 8, 9]
    order = order_of("abcabcabcd", parked_max=3)
    order.take("x", 3)
    assert order.take("y", 9) == []
    assert (order.parked, order.unread, order.is_full) == (3, 4, True)
    order.done([2])
    assert order.take("y", 9) == [5]


def test_what_is_due_is_leased_although_the_scan_stopped_before_it() -> None:
    order = order_of("hhhhhh", row_max=2)
    order.add_waiting(6, ord("w"))
    order.add_waiting(7, ord("h"))
    order.take("slow", 1)
    assert order.take("x", 9) == []
    order.wake([6, 7])
    assert order.take("x", 9) == [6]
    assert order.take("slow", 9) == [1, 2, 3, 4, 5, 7]


def test_a_redriven_event_is_next_of_its_key_and_takes_nothing_back() -> None:
    order = order_of("aaaa")
    assert order.take("x", 3) == [0, 1, 2]
    order.done([0])
    order.add(0, ord("a"))
    assert order.take("y", 9) == []
    assert order.take("x", 1) == [0]
    assert order.give_back([1]) == [0, 2]
    assert order.take("y", 9) == [0, 1, 2, 3]


def test_the_order_of_a_key_includes_what_was_not_looked_at() -> None:
    order = KeyOrder()
    order.add(0, 1)
    order.add_waiting(1, 1)
    order.wake([1])
    assert order.take("x", 1) == [0]
    assert order.take("x", 1) == [1]
    order = order_of("hhhhw", row_max=2)
    order.add_waiting(5, ord("w"))
    order.take("slow", 1)
    order.wake([5])
    assert order.take("x", 9) == []
    assert order.take("slow", 9) == [1, 2, 3, 4, 5]


def test_when_the_first_of_a_free_key_is_purged_the_next_is_offered() -> None:
    order = order_of("aaa")
    order.take("x", 2)
    order.give_back([0])
    order.done([0])
    assert order.take("y", 1) == [1]


def test_an_event_that_was_done_and_is_redriven_is_in_its_line_once() -> None:
    order = order_of("a" * 100)
    assert len(order.take("x", 100)) == 100
    order.done([0])
    order.add(0, ord("a"))
    assert order.take("x", 1) == [0]
    assert order.give_back([1]) == [0, *range(2, 100)]
    assert order.take("y", 200) == list(range(100))


def test_a_key_that_is_not_busy_takes_no_memory() -> None:
    order = KeyOrder()
    for position in range(5000):
        order.add(position, position * 7919)
        if position % 100 == 99:
            order.done(order.take("x", 100))
    assert (order.busy_keys, order.unread, order.parked) == (0, 0, 0)
    tracemalloc.start()
    for position in range(5000, 10_000):
        order.add(position, position * 7919)
    unread = tracemalloc.get_traced_memory()[0]
    taken = order.take("x", 5000)
    del taken
    leased = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert unread < 5000 * 40
    assert leased < 5000 * 330


def test_keys_out_of_range_are_refused() -> None:
    order = KeyOrder()
    for key in (-1, KEY_END):
        with pytest.raises(ValueError, match="key hash"):
            order.add(0, key)
        with pytest.raises(ValueError, match="key hash"):
            order.add_waiting(0, key)
    assert order.unread + order.waiting == 0


def test_a_line_stays_sorted_around_what_is_done() -> None:
    order = order_of("aaaa")
    order.take("x", 1)
    assert order.take("y", 9) == []
    order.done([3])  # behind two that are parked
    assert order.take("x", 9) == [1, 2]
    for position in range(6, 9):
        order.add(position, ord("a"))
    assert order.take("x", 9) == [6, 7, 8]
    order.add(9, ord("a"))
    assert order.take("y", 9) == []
    assert order.take("x", 9) == [9]
    assert order.give_back([8]) == [9]
    assert [order.is_leased(position) for position in (0, 1, 2, 6, 7, 8, 9)] == [True] * 5 + [False] * 2


def test_a_line_that_is_not_sorted_has_no_event_twice() -> None:
    order = order_of("aaaaaa")
    assert len(order.take("x", 6)) == 6
    order.done([3, 5])
    order.add(3, ord("a"))  # behind 4
    order.take("x", 1)
    order.add(5, ord("a"))
    assert order.take("x", 9) == [5]
    assert order.give_back([0]) == [1, 2, 3, 4, 5]

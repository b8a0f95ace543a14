"""Lanes beside a model of the server: whatever fails and whenever answers arrive, keys keep their order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.api.leased_lanes import LeasedLanes, OpenEvent
from mainstem.contract import Event
from mainstem.queue_contract import Delivery


@dataclass
class LeasingServer:
    """Offers the events of a key in order, later ones too while earlier ones are leased; a failure takes the
    later leases of its key back."""

    keys: list[int]
    leased: dict[int, str] = field(default_factory=dict)
    """Offset -> its token."""
    done: set[int] = field(default_factory=set)
    tokens: int = 0

    def pull(self, max_events: int) -> list[Delivery]:
        deliveries: list[Delivery] = []
        for offset, key in enumerate(self.keys):
            if offset in self.done or offset in self.leased or len(deliveries) == max_events:
                continue
            self.tokens += 1
            self.leased[offset] = f"t{self.tokens}"
            event = Event("t", 0, offset, 0, b"%d" % key if key else None, b"")
            deliveries.append(Delivery(event, self.leased[offset], 1, 0))
        return deliveries

    def answer(self, leased: OpenEvent, kind: str) -> None:
        """ack, reject, nack, last (a failure that was the last one), or back (untouched)."""
        offset = leased.event.offset
        if self.leased.get(offset) != leased.token:
            return
        del self.leased[offset]
        if kind in ("ack", "reject", "last"):
            self.done.add(offset)
        elif self.keys[offset]:
            for later in range(offset + 1, len(self.keys)):
                if self.keys[later] == self.keys[offset]:
                    self.leased.pop(later, None)


class Consumer:
    """Pulls, runs and answers, each at a moment that the test draws."""

    def __init__(self, keys: list[int]) -> None:
        self.server = LeasingServer(keys)
        self.lanes = LeasedLanes()
        self.pulls = 0
        self.arriving: list[Delivery] | None = None
        self.running: list[OpenEvent] = []
        self.answers: list[tuple[OpenEvent, str]] = []
        self.finished: defaultdict[int, list[int]] = defaultdict(list)

    def pull(self, max_events: int) -> None:
        if self.arriving is None:
            self.pulls += 1
            self.arriving = self.server.pull(max_events)

    def arrive(self) -> None:
        for delivery in self.arriving or ():
            self.lanes.add(delivery, self.pulls, 0.0)
        if self.arriving is not None:
            self.lanes.returned(self.pulls)
        self.arriving = None

    def run(self) -> None:
        leased = self.lanes.next()
        if leased is not None:
            key = leased.event.key
            assert key is None or all(other.event.key != key for other in self.running), "a key overlaps"
            self.running.append(leased)

    def end(self, number: int, kind: str) -> None:
        if not self.running:
            return
        leased = self.running.pop(number % len(self.running))
        if kind == "nack":
            self.lanes.break_at(leased)
            self.answers.append((leased, "last" if number % 4 == 0 else "nack"))
        else:
            self.lanes.finish(leased)
            self.answers.append((leased, kind))
            order = self.finished[self.server.keys[leased.event.offset]]
            assert leased.event.key is None or not order or order[-1] < leased.event.offset, "out of order"
            order.append(leased.event.offset)

    def settle(self) -> None:
        if self.answers:
            leased, kind = self.answers.pop(0)
            self.server.answer(leased, kind)
            self.lanes.settle(leased, self.pulls)
        self.answers += [(leased, "back") for leased in self.lanes.take_untried()]

    def step(self, number: int, kind: str = "ack") -> None:
        (lambda: self.pull(1 + number // 6), self.arrive, self.run, self.run, self.settle)[number % 5]()
        if number % 6 == 5:
            self.end(number, kind)


steps = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from(["ack", "ack", "nack", "reject"])), max_size=150
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), steps)
def test_keys_keep_their_order_and_nothing_is_left(keys: list[int], drawn: list[tuple[int, str]]) -> None:
    consumer = Consumer(keys)
    for number, kind in drawn:
        consumer.step(number, kind)
    for _ in range(40 * len(keys)):
        if len(consumer.server.done) == len(keys):
            break
        consumer.pull(5)
        consumer.arrive()
        consumer.run()
        consumer.end(0, "ack")
        consumer.settle()
        consumer.settle()
    assert consumer.server.done == set(range(len(keys)))
    while consumer.running or len(consumer.lanes):
        consumer.run()
        consumer.end(0, "ack")
    assert consumer.lanes.running == 0


def delivery(offset: int, key: bytes | None = b"k") -> Delivery:
    return Delivery(Event("t", 0, offset, 0, key, b""), f"t{offset}", 1, 0)


def test_what_waits_can_be_taken_out_and_what_runs_stays() -> None:
    lanes = LeasedLanes()
    for offset, key in enumerate([b"a", b"a", b"b", None]):
        assert lanes.add(delivery(offset, key), 1, 0.0)
    running = lanes.next()
    assert running is not None
    assert [leased.event.offset for leased in lanes.drop_waiting()] == [1, 2, 3]
    assert (len(lanes), lanes.waiting, lanes.next()) == (1, 0, None)
    lanes.finish(running)
    assert len(lanes) == 0


def test_a_second_delivery_of_an_event_renews_its_lease() -> None:
    lanes = LeasedLanes()
    lanes.add(delivery(0), 1, 5.0)
    running = lanes.next()
    again = Delivery(delivery(0).event, "new", 2, 0)
    assert lanes.add(again, 2, 9.0)
    assert running is not None
    assert (running.token, running.lease_end_s, len(lanes)) == ("new", 9.0, 1)

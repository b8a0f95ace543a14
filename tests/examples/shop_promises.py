"""What the shop of examples/shop promises, checked against what happened, whatever was killed meanwhile.

Owns: the promises. Refuses: to ask the shop; the facts come from its topics and from the books of bank,
carrier and mail.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass
class ShopFacts:
    """What happened. Lists of topics have copies in them, which at-least-once delivery may make."""

    accepted: list[tuple[str, str, int]] = field(default_factory=list)
    """(customer, order, total), in the order in which the customers were promised them."""
    ordered: list[tuple[str, str]] = field(default_factory=list)
    """(customer, order) of topic orders."""
    paid: list[tuple[str, str, str]] = field(default_factory=list)
    """(customer, order, state) of topic payments."""
    shipped: list[tuple[str, str, str]] = field(default_factory=list)
    """(customer, order, tracking number) of topic shipments."""
    charges: list[tuple[str, int, bool]] = field(default_factory=list)
    """(idempotency key, amount, whether it was approved) of the bank."""
    labels: list[tuple[str, str]] = field(default_factory=list)
    """(order, tracking number) of the carrier."""
    mails: list[str] = field(default_factory=list)
    """The order of each mail."""
    late: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By topic: orders that were dead letters before they were there, so that later ones passed them."""

    def problems(self) -> list[str]:
        """What is not as it was promised; empty if all is."""
        orders = dict.fromkeys([*(order for _, order, _ in self.accepted), *(row[1] for row in self.ordered)])
        keys = {key for key, _, _ in self.charges}
        lines = [f"a charge that is not of an order: {key}" for key in keys if key not in orders]
        lines += [problem for order, problem in self._of_orders(orders) if problem]
        for topic, events in (("orders", self.ordered), ("payments", self.paid), ("shipments", self.shipped)):
            lines += self._out_of_order(topic, events)
        return lines

    def _of_orders(self, orders: Iterable[str]) -> Iterable[tuple[str, str]]:
        """(order, what is wrong with it) of each order that was placed, also of one without an answer yet."""
        promised = by_first((order, total) for _, order, total in self.accepted)
        charges = by_first((key, (amount, approved)) for key, amount, approved in self.charges)
        states = by_first((order, state) for _, order, state in self.paid)
        shipped = by_first((order, number) for _, order, number in self.shipped)
        labels = by_first(self.labels)
        placed, mails = {order for _, order in self.ordered}, Counter(self.mails)
        for order in orders:
            charged = charges[order]
            if order not in placed:
                yield order, f"{order}: accepted, and lost"
            elif len(charged) != 1:
                yield order, f"{order}: charged {len(charged)} times"
            elif promised[order] and charged[0][0] != promised[order][0]:
                yield order, f"{order}: {charged[0][0]} charged, {promised[order][0]} promised"
            else:
                is_paid = charged[0][1]
                if set(states[order]) != {"paid" if is_paid else "declined"}:
                    yield order, f"{order}: approved {is_paid}, and the payments say {states[order]}"
                if len(labels[order]) != is_paid:
                    yield order, f"{order}: approved {is_paid}, and {len(labels[order])} parcels"
                elif set(shipped[order]) != set(labels[order]):
                    yield order, f"{order}: parcels {labels[order]}, and the shipments say {shipped[order]}"
                if mails[order] != 1 + is_paid:
                    yield order, f"{order}: approved {is_paid}, and {mails[order]} mails"

    def _out_of_order(self, topic: str, events: Sequence[tuple[str, ...]]) -> list[str]:
        """The customers whose events, without copies, are in another order than they were promised."""
        late = self.late.get(topic, ())
        first = dict.fromkeys(event[1] for event in events if event[1] not in late)
        in_time = by_first((customer, order) for customer, order, _ in self.accepted if order in first)
        accepted = {order for _, order, _ in self.accepted}
        customers = {event[1]: event[0] for event in events}
        actual = by_first((customers[order], order) for order in first if order in accepted)
        return [f"{topic} of {name}: not in order" for name in in_time if in_time[name] != actual[name]]


def by_first(pairs: Iterable[tuple[K, V]]) -> defaultdict[K, list[V]]:
    """The second values of each first one."""
    values: defaultdict[K, list[V]] = defaultdict(list)
    for first, second in pairs:
        values[first].append(second)
    return values

"""The deliveries of a channel that its client has not answered, by their tags.

Owns: the tags, which count up from 1 on each channel, also over those that need no answer. Refuses: to send
anything; what a client answered is returned to the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mainstem.amqp.errors import amqp_error
from mainstem.attach_contract import DeliveryWindow

if TYPE_CHECKING:
    from mainstem.amqp.topology import AmqpQueue


class DeliverySource(NamedTuple):
    """Where deliveries come from: a consumer, or the calls of basic.get for a queue."""

    queue: AmqpQueue
    windows: tuple[DeliveryWindow, ...]
    """What they have taken room of."""


class UnansweredDelivery(NamedTuple):
    """A delivery that is not answered."""

    tag: int
    token: str
    source: DeliverySource
    sent_at: float
    """Monotonic seconds, to the second."""


class UnansweredDeliveries:
    """Those of a channel, in the order of their tags."""

    __slots__ = ("_by_tag", "_last")

    def __init__(self) -> None:
        self._last = 0
        self._by_tag: dict[int, UnansweredDelivery] = {}

    def __len__(self) -> int:
        return len(self._by_tag)

    def next_tag(self) -> int:
        """The tag of a delivery that needs no answer."""
        self._last += 1
        return self._last

    def add(self, token: str, source: DeliverySource, sent_at: float) -> int:
        """The tag of a delivery that needs one."""
        self._last = tag = self._last + 1
        self._by_tag[tag] = UnansweredDelivery(tag, token, source, sent_at)
        return tag

    def oldest(self) -> UnansweredDelivery | None:
        """The one with the lowest tag; None: there is none."""
        return next(iter(self._by_tag.values()), None)

    def take(self, tag: int, multiple: bool) -> Sequence[UnansweredDelivery]:
        """Those that are answered by this tag: the delivery that has it, with `multiple` also all before it,
        and all that there are if the tag is 0. They are not unanswered any more. 406: none has the tag."""
        by_tag = self._by_tag
        if not multiple:
            delivery = by_tag.pop(tag, None)
            if delivery is None:
                raise _unknown(tag)
            return (delivery,)
        if tag == 0:
            return self.take_all()
        if tag not in by_tag:
            raise _unknown(tag)
        taken = []
        for delivery in by_tag.values():
            if delivery.tag > tag:
                break
            taken.append(delivery)
        for delivery in taken:
            del by_tag[delivery.tag]
        return taken

    def take_all(self) -> Sequence[UnansweredDelivery]:
        """All of them."""
        taken = list(self._by_tag.values())
        self._by_tag.clear()
        return taken

    def put_back(self, deliveries: Sequence[UnansweredDelivery]) -> None:
        """They are unanswered again, under their tags."""
        restored = [*self._by_tag.values(), *deliveries]
        self._by_tag = {delivery.tag: delivery for delivery in sorted(restored)}


def _unknown(tag: int) -> Exception:
    return amqp_error(406, f"unknown delivery tag {tag}")

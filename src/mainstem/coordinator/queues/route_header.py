"""The header by which an event says to which queues it goes, and when it arrived.

Owns: its name and its bytes. It is believed only as the first header of an event in a batch with the server's
own producer id, which no client may use: an event that a client writes with this header is an event like any
other. Refuses: to know the route.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ROUTE_HEADER = "mainstem-route"
_BYTES_MAX = 37
"""Four varints of 64 bits at most."""


class RoutePlace(NamedTuple):
    """What the header says."""

    namespace: int
    route: int
    sequence: int
    """The arrival sequence of the event in the namespace."""
    after_ms: int
    """How many ms after its timestamp the event arrived; negative: before it."""

    def encode(self) -> bytes:
        """The value of the header: four varints (LEB128), 6 to 13 bytes in practice, the last in zigzag."""
        out = bytearray()
        after_ms = self.after_ms * 2 if self.after_ms >= 0 else -self.after_ms * 2 - 1
        for number in (*self[:3], after_ms):
            while number > 0x7F:
                out.append(number & 0x7F | 0x80)
                number >>= 7
            out.append(number)
        return bytes(out)

    @classmethod
    def decode(cls, value: bytes | None) -> RoutePlace | None:
        """What the value says; None if it is none that `encode` returns."""
        if value is None or len(value) > _BYTES_MAX:
            return None
        numbers: list[int] = []
        number = shift = 0
        for byte in value:
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                numbers.append(number)
                number = shift = 0
        if len(numbers) != 4 or shift:
            return None
        namespace, route, sequence, after_ms = numbers
        place = cls(namespace, route, sequence, after_ms >> 1 ^ -(after_ms & 1))
        return place if place.encode() == value else None


def place_of(headers: Sequence[tuple[str, bytes | None]]) -> RoutePlace | None:
    """What the first header says, if it is this one. Only for events of the server's own batches."""
    if not headers or headers[0][0] != ROUTE_HEADER:
        return None
    return RoutePlace.decode(headers[0][1])

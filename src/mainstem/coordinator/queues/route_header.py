"""The header by which an event says to which queues it goes, and when it arrived.

Owns: its name and its bytes. It is believed only as the first header of an event in a batch with the server's
own producer id, which no client may use: an event that a client writes with this header is an event like any
other. Refuses: to know the route.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ROUTE_HEADER = "mainstem-route"
_BYTES_MAX = 27
"""Three varints of 63 bits."""


class RoutePlace(NamedTuple):
    """What the header says."""

    namespace: int
    route: int
    sequence: int
    """The arrival sequence of the event in the namespace."""

    def encode(self) -> bytes:
        """The value of the header: three varints (LEB128), 5 to 12 bytes in practice."""
        out = bytearray()
        for number in self:
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
        if len(numbers) != 3 or shift:
            return None
        place = cls(*numbers)
        return place if place.encode() == value else None


def place_of(headers: Sequence[tuple[str, bytes | None]]) -> RoutePlace | None:
    """What the first header says, if it is this one. Only for events of the server's own batches."""
    if not headers or headers[0][0] != ROUTE_HEADER:
        return None
    return RoutePlace.decode(headers[0][1])

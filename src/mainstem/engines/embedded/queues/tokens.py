"""The tokens by which consumers name deliveries in their answers.

Owns: their form, 20 bytes in base64url: view, position, lease, epoch. Refuses: to know whether a token is
still good; the state machine says so.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

TOKEN_BYTES = 20
_TOKEN_CHARS = 27
_VIEW_MAX = 1 << 32
_WIDE_MAX = 1 << 48


class DeliveryToken(NamedTuple):
    """A delivery: of a position of a view, with a lease, which is over in another epoch."""

    view: int
    """Below 2^32."""
    position: int
    """Below 2^48."""
    lease: int
    """Below 2^48."""
    epoch: int
    """Below 2^32."""

    def encode(self) -> str:
        """The token as text. AssertionError: a number is too large."""
        assert self.view < _VIEW_MAX
        assert self.position < _WIDE_MAX
        assert self.lease < _WIDE_MAX
        data = (
            self.view.to_bytes(4, "big")
            + self.position.to_bytes(6, "big")
            + self.lease.to_bytes(6, "big")
            + self.epoch.to_bytes(4, "big")
        )
        return base64.urlsafe_b64encode(data)[:_TOKEN_CHARS].decode("ascii")

    @classmethod
    def decode(cls, text: str) -> DeliveryToken | None:
        """The token of a text; None if the text is none."""
        if len(text) != _TOKEN_CHARS:
            return None
        try:
            data = base64.b64decode(text.encode("ascii") + b"=", b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            return None
        numbers = (data[:4], data[4:10], data[10:16], data[16:])
        token = cls(*(int.from_bytes(number, "big") for number in numbers))
        return token if token.encode() == text else None

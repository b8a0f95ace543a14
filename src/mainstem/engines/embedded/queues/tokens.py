"""The tokens by which consumers name deliveries in their answers.

Owns: their form, 20 bytes in base64url: view, position, lease, epoch. Refuses: to know whether a token is
still good; the state machine says so.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterable, Sequence

from mainstem.coordinator.queues.types import LeasedEvent

TOKEN_BYTES = 20
_TOKEN_CHARS = 27
_VIEW_MAX = 1 << 32
_WIDE_MAX = 1 << 48
_LOW = (1 << 32) - 1


_NUMBERS = struct.Struct(">IHIHII")
"""View, then position and lease of 16 and 32 bits each, then epoch."""
_PADDED = struct.Struct(_NUMBERS.format + "x")
"""With a zero behind them they have a length that is a multiple of 3, so tokens are made and read as one
text."""
_LAST_CHARS = frozenset("AEIMQUYcgkosw048")
"""The last character has 4 bits of the 160, and two zeros."""
_TO_PLAIN = bytes.maketrans(b"-_+/", b"+/!!")


class DeliveryToken(LeasedEvent):
    """A delivery: of a position of a view, with a lease, which is over in another epoch. View and epoch are
    below 2^32, position and lease below 2^48."""

    __slots__ = ()

    def encode(self) -> str:
        """The token as text. AssertionError: a number is too large."""
        assert self.view < _VIEW_MAX
        assert self.position < _WIDE_MAX
        assert self.lease < _WIDE_MAX
        view, position, lease, epoch = self
        data = _NUMBERS.pack(view, position >> 32, position & _LOW, lease >> 32, lease & _LOW, epoch)
        return base64.urlsafe_b64encode(data)[:_TOKEN_CHARS].decode("ascii")

    @classmethod
    def decode(cls, text: str) -> DeliveryToken | None:
        """The token of a text; None if the text is none."""
        if len(text) != _TOKEN_CHARS or text[-1] not in _LAST_CHARS:
            return None
        try:
            plain = text.encode("ascii").translate(_TO_PLAIN)
            data = binascii.a2b_base64(plain + b"=", strict_mode=True)
        except (UnicodeEncodeError, binascii.Error):
            return None
        view, position_high, position, lease_high, lease, epoch = _NUMBERS.unpack(data)
        return cls(view, position_high << 32 | position, lease_high << 32 | lease, epoch)


def encode_tokens(view: int, positions: Iterable[int], lease: int, epoch: int) -> list[str]:
    """The tokens of positions of a lease, as `DeliveryToken.encode` makes each. AssertionError, struct.error:
    a number is too large."""
    assert view < _VIEW_MAX
    assert lease < _WIDE_MAX
    pack, lease_high, lease_low = _PADDED.pack, lease >> 32, lease & _LOW
    data = b"".join([pack(view, p >> 32, p & _LOW, lease_high, lease_low, epoch) for p in positions])
    text = base64.urlsafe_b64encode(data).decode("ascii")
    step = _TOKEN_CHARS + 1
    return [text[start : start + _TOKEN_CHARS] for start in range(0, len(text), step)]


def decode_tokens(texts: Sequence[str]) -> list[DeliveryToken | None]:
    """The tokens of texts, as `DeliveryToken.decode` reads each."""
    data = _bytes_of(texts)
    if data is None:
        return [DeliveryToken.decode(text) for text in texts]
    make = DeliveryToken
    return [
        make(view, position_high << 32 | position, lease_high << 32 | lease, epoch)
        for view, position_high, position, lease_high, lease, epoch in _PADDED.iter_unpack(data)
    ]


def _bytes_of(texts: Sequence[str]) -> bytes | None:
    """The bytes of tokens, each with its zero; None: not all of the texts are tokens."""
    if len(texts) < 2 or set(map(len, texts)) != {_TOKEN_CHARS}:
        return None
    if not _LAST_CHARS.issuperset([text[-1] for text in texts]):
        return None
    try:
        plain = ("A".join(texts) + "A").encode("ascii").translate(_TO_PLAIN)
        return binascii.a2b_base64(plain, strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        return None

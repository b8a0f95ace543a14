"""Base64url without padding (RFC 4648, section 5), as in tokens and in the ids of Kafka.

Owns: the padding. Refuses: to check the text more than `base64.urlsafe_b64decode` does.
"""

from __future__ import annotations

import base64


def encode(data: bytes | bytearray) -> str:
    """The bytes as text."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes of a text. ValueError: it is of no bytes."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

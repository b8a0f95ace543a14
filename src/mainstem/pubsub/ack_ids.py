"""Ack ids: the names of deliveries, as clients of Pub/Sub answer them.

An ack id is the token of a delivery, of 27 characters, and a character that checks it. So what was never an
ack id is distinguished from one that is over, without a table.

Owns: this form. Refuses: whether the delivery still counts, which the engine knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

ACK_ID_CHARS = 28
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _check_of(token: str) -> str:
    return _ALPHABET[crc32(token.encode()) & 63]


def ack_id_of(token: str) -> str:
    """The ack id of a delivery with this token."""
    return token + _check_of(token)


def token_of(ack_id: str) -> str | None:
    """The token of an ack id; None: it is none."""
    if len(ack_id) != ACK_ID_CHARS or not ack_id.isascii():
        return None
    token = ack_id[:-1]
    return token if ack_id[-1] == _check_of(token) else None


def malformed(ack_ids: Iterable[str]) -> str | None:
    """The first of these that is no ack id; None: all are."""
    return next((ack_id for ack_id in ack_ids if token_of(ack_id) is None), None)

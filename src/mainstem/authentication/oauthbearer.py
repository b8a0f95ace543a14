"""OAUTHBEARER: a signed token in one message (RFC 7628), as Kafka's clients speak it (KIP-255, KIP-342).

Owns: reading that message, and the answer to a token that is refused. Refuses: to act as somebody else than
the token names. The token is checked in jwt.py.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mainstem.authentication.identity import AuthenticationFailed

MESSAGE_MAX_BYTES = 64 << 10
REFUSED = b'{"status":"invalid_token"}'
"""The answer to a token that is refused; the client acknowledges it with `ACKNOWLEDGEMENT`, then the exchange
fails."""
ACKNOWLEDGEMENT = b"\x01"

_MESSAGE = re.compile(
    r"n,(?:a=(?P<authzid>[^\x00\x01,]*))?,\x01"
    r"(?P<pairs>(?:[A-Za-z]+=[\x20-\x7e\t\r\n]*\x01)*)\x01"
)
_BEARER = re.compile(r"[Bb]earer +(?P<token>[A-Za-z0-9._~+/=-]+)")


class BearerMessage(NamedTuple):
    """The client's only message."""

    token: str
    authzid: str
    """Whom the client wants to act as; empty: as the token says."""


def parse(message: bytes) -> BearerMessage:
    """Read the message. AuthenticationFailed if it is none."""
    if len(message) > MESSAGE_MAX_BYTES:
        raise AuthenticationFailed(f"an OAUTHBEARER message of {len(message)} bytes")
    try:
        match = _MESSAGE.fullmatch(message.decode())
    except UnicodeDecodeError:
        match = None
    if match is None:
        raise AuthenticationFailed("not an OAUTHBEARER message")
    values = [pair.partition("=") for pair in match["pairs"].split("\x01") if pair]
    tokens = [value for key, _, value in values if key == "auth"]
    bearer = _BEARER.fullmatch(tokens[0]) if len(tokens) == 1 else None
    if bearer is None:
        raise AuthenticationFailed("an OAUTHBEARER message without one bearer token")
    return BearerMessage(bearer["token"], match["authzid"] or "")

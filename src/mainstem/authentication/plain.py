"""PLAIN: a name and a password in one message (RFC 4616).

Owns: reading that message. Refuses: to act for another user (`authzid`). The password is checked in
passwords.py; the mechanism is only offered where no third party can read the message.
"""

from __future__ import annotations

from mainstem.authentication.identity import AuthenticationFailed

MESSAGE_MAX_BYTES = 4 << 10


def parse(message: bytes) -> tuple[str, str]:
    """The (name, password) of the message. AuthenticationFailed if it is none."""
    if len(message) > MESSAGE_MAX_BYTES:
        raise AuthenticationFailed(f"a PLAIN message of {len(message)} bytes")
    try:
        parts = message.decode().split("\0")
    except UnicodeDecodeError:
        parts = []
    if len(parts) != 3:
        raise AuthenticationFailed(
            "not a PLAIN message: authorization id, name and password with NUL between"
        )
    authzid, name, password = parts
    if not name or not password:
        raise AuthenticationFailed("a PLAIN message without a name or without a password", user=name)
    if authzid not in ("", name):
        raise AuthenticationFailed("the client wants to act as another user", user=name)
    return name, password

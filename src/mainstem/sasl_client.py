"""The client's side of SASL: SCRAM (RFC 5802, RFC 7677), PLAIN (RFC 4616), OAUTHBEARER (RFC 7628).

Owns: the messages of the client, and the proof that the server knows the password too. Refuses: servers that
ask for too few iterations, so that others could guess the password, or for more than a client should do;
sockets, and random numbers, which are passed in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Generator

from mainstem.client_security import ClientSecurity

ITERATIONS = range(4_096, 1_000_001)
"""What a server may ask for (RFC 7677, 4: at least 4,096)."""
HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
CLIENT_KEY, SERVER_KEY = b"Client Key", b"Server Key"


class SaslError(Exception):
    """The error for a server that does not keep to the mechanism, or does not know the password."""


def exchange(security: ClientSecurity, nonce: str) -> Generator[bytes, bytes, None]:
    """The exchange: yields each message of the client, and is sent the server's reply to it. SaslError.
    `nonce`: unpredictable printable characters without a comma."""
    if security.mechanism == "PLAIN":
        yield f"\0{security.user}\0{security.password}".encode()
    elif security.mechanism == "OAUTHBEARER":
        problem = yield f"n,,\x01auth=Bearer {security.token}\x01\x01".encode()
        if problem:
            yield b"\x01"  # ends the exchange (RFC 7628, 3.2.3); the server then fails it
    elif security.mechanism in HASHES:
        yield from _scram(security, nonce)
    else:
        raise SaslError(f"{security.mechanism} is not a mechanism of this client")


def _scram(security: ClientSecurity, nonce: str) -> Generator[bytes, bytes, None]:
    name = security.user.replace("=", "=3D").replace(",", "=2C")
    first = f"n={name},r={nonce}".encode()
    server_first = yield b"n,," + first
    values = _attributes(server_first)
    whole_nonce, iterations = values.get("r", ""), values.get("i", "")
    if not whole_nonce.startswith(nonce) or whole_nonce == nonce:
        raise SaslError("the server's nonce does not continue the client's")
    if not iterations.isdigit() or int(iterations) not in ITERATIONS:
        raise SaslError(f"the server asks for {iterations[:20]!r} iterations")
    try:
        salt = base64.b64decode(values.get("s", ""), validate=True)
    except binascii.Error:
        raise SaslError("the server's salt is not base64") from None
    digest = HASHES[security.mechanism]
    salted = hashlib.pbkdf2_hmac(digest, security.password.encode(), salt, int(iterations))
    final = f"c={base64.b64encode(b'n,,').decode()},r={whole_nonce}".encode()
    signed = b",".join((first, server_first, final))
    client_key = hmac.digest(salted, CLIENT_KEY, digest)
    signature = hmac.digest(hashlib.new(digest, client_key).digest(), signed, digest)
    proof = bytes(left ^ right for left, right in zip(client_key, signature, strict=True))
    server_final = yield final + b",p=" + base64.b64encode(proof)
    expected = hmac.digest(hmac.digest(salted, SERVER_KEY, digest), signed, digest)
    shown = _attributes(server_final).get("v", "")
    if not hmac.compare_digest(shown.encode(), base64.b64encode(expected)):
        raise SaslError("the server does not know the password")


def _attributes(message: bytes) -> dict[str, str]:
    try:
        parts = message.decode().split(",")
    except UnicodeDecodeError:
        raise SaslError("a message of the server is not UTF-8") from None
    return {part[:1]: part[2:] for part in parts if part[1:2] == "="}

"""SCRAM-SHA-256 and SCRAM-SHA-512: the server's side (RFC 5802, RFC 7677).

Owns: verifiers made of passwords, the two messages of a client and the two answers. Refuses: channel binding
(`p=`), which no Kafka client has; mandatory extensions; delegation tokens (`tokenauth`); messages that are
not exactly those of the grammar. The nonce comes from the caller.

An unknown user gets a verifier that no password matches (decoys.py). Both run through the same code, so
neither bytes nor time show which it was.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import NamedTuple

from mainstem.access_contract import ITERATIONS_MAX, ITERATIONS_MIN, ScramMechanism, ScramVerifier
from mainstem.authentication.identity import AuthenticationFailed
from mainstem.authentication.names import user_name

DEFAULT_ITERATIONS = ITERATIONS_MIN
"""As Kafka's tools. The clients compute them too."""
SALT_BYTES = 24
MESSAGE_MAX_BYTES = 8 << 10
"""Longest message of a client; a real one has less than 1 KB."""

_HASHES = {ScramMechanism.SHA_256: "sha256", ScramMechanism.SHA_512: "sha512"}
_DIGEST_BYTES = {ScramMechanism.SHA_256: 32, ScramMechanism.SHA_512: 64}
_NAMES = {ScramMechanism.SHA_256: "SCRAM-SHA-256", ScramMechanism.SHA_512: "SCRAM-SHA-512"}

_VALUE = r"[^\x00,]*"
_NONCE = r"[\x21-\x2b\x2d-\x7e]{1,512}"
_CLIENT_FIRST = re.compile(
    rf"(?P<header>(?P<binding>[ny]|p=[^,]*),(?:a=(?P<authzid>{_VALUE}))?,)"
    rf"(?P<bare>n=(?P<name>{_VALUE}),r=(?P<nonce>{_NONCE})(?P<extensions>(?:,[A-Za-ln-z][A-Za-z]*={_VALUE})*))"
)
_CLIENT_FINAL = re.compile(
    rf"(?P<unproven>c=(?P<binding>[A-Za-z0-9+/=]+),r=(?P<nonce>{_NONCE})(?:,(?!p=)[A-Za-ln-z][A-Za-z]*={_VALUE})*)"
    r",p=(?P<proof>[A-Za-z0-9+/=]+)"
)
_ESCAPE = re.compile("=(2C|3D)?")


def mechanism_name(mechanism: ScramMechanism) -> str:
    """SASL's name of the mechanism."""
    return _NAMES[mechanism]


def digest_bytes(mechanism: ScramMechanism) -> int:
    """The length of the mechanism's hash, and of its keys."""
    return _DIGEST_BYTES[mechanism]


def salted_password(mechanism: ScramMechanism, password: str, salt: bytes, iterations: int) -> bytes:
    """The key of a password (RFC 5802, Hi). Takes milliseconds: not for the event loop."""
    return hashlib.pbkdf2_hmac(_HASHES[mechanism], password.encode(errors="replace"), salt, iterations)


def verifier_of(mechanism: ScramMechanism, salted: bytes, salt: bytes, iterations: int) -> ScramVerifier:
    """The verifier of a salted password. ValueError if salt, iterations or length are out of range."""
    if not ITERATIONS_MIN <= iterations <= ITERATIONS_MAX:
        raise ValueError(f"{iterations} iterations; SCRAM here has {ITERATIONS_MIN} to {ITERATIONS_MAX}")
    if not salt or len(salt) > 1024:
        raise ValueError(f"a salt of {len(salt)} bytes; 1 to 1024 are possible")
    if len(salted) != _DIGEST_BYTES[mechanism]:
        raise ValueError(f"a salted password of {len(salted)} bytes, not {_DIGEST_BYTES[mechanism]}")
    client_key = _hmac(mechanism, salted, b"Client Key")
    return ScramVerifier(
        mechanism=mechanism,
        salt=salt,
        iterations=iterations,
        stored_key=_hash(mechanism, client_key),
        server_key=_hmac(mechanism, salted, b"Server Key"),
    )


def make_verifier(
    mechanism: ScramMechanism, password: str, salt: bytes, iterations: int = DEFAULT_ITERATIONS
) -> ScramVerifier:
    """The verifier of a password. ValueError if salt or iterations are out of range. Takes milliseconds."""
    return verifier_of(mechanism, salted_password(mechanism, password, salt, iterations), salt, iterations)


def proves(verifier: ScramVerifier, password: str) -> bool:
    """Whether this is the verifier's password. Takes milliseconds: not for the event loop."""
    salted = salted_password(verifier.mechanism, password, verifier.salt, verifier.iterations)
    stored = _hash(verifier.mechanism, _hmac(verifier.mechanism, salted, b"Client Key"))
    return hmac.compare_digest(stored, verifier.stored_key)


class ClientFirst(NamedTuple):
    """A client's first message."""

    user: str
    header: str
    """The gs2 header, which the last message repeats."""
    bare: str
    nonce: str


def parse_first(message: bytes) -> ClientFirst:
    """Read a client's first message. AuthenticationFailed if it is none, or asks for what is not offered."""
    match = _match(_CLIENT_FIRST, message)
    if match["binding"].startswith("p="):
        raise AuthenticationFailed("the client demands channel binding, which is not offered")
    name = _unescape(match["name"])
    if match["authzid"] and _unescape(match["authzid"]) != name:
        raise AuthenticationFailed("the client wants to act as another user", user=name)
    if re.search(r",tokenauth=true\b", match["extensions"]):
        raise AuthenticationFailed("delegation tokens are not supported", user=name)
    try:
        user = user_name(name)
    except ValueError as error:
        raise AuthenticationFailed(str(error), user=name) from None
    return ClientFirst(user, match["header"], match["bare"], match["nonce"])


class ScramExchange:
    """One exchange, as the server. `lookup` returns the user's verifier, or a decoy, and `nonce` a fresh
    nonce of printable characters without a comma."""

    __slots__ = ("_first", "_lookup", "_nonce", "_server_first", "_verifier", "mechanism")

    def __init__(
        self,
        mechanism: ScramMechanism,
        lookup: Callable[[str], ScramVerifier],
        nonce: Callable[[], str],
    ) -> None:
        self.mechanism = mechanism
        self._lookup = lookup
        self._nonce = nonce
        self._first: ClientFirst | None = None
        self._server_first = ""
        self._verifier: ScramVerifier | None = None

    @property
    def user(self) -> str:
        """The name that the client claims; empty before the first message."""
        return self._first.user if self._first is not None else ""

    def first(self, message: bytes) -> bytes:
        """Answer the client's first message. AuthenticationFailed as `parse_first`."""
        assert self._first is None, "there is one first message"
        self._first = first = parse_first(message)
        self._verifier = verifier = self._lookup(first.user)
        assert verifier.mechanism is self.mechanism, "a verifier is for one mechanism"
        salt = base64.b64encode(verifier.salt).decode()
        self._server_first = f"r={first.nonce}{self._nonce()},s={salt},i={verifier.iterations}"
        return self._server_first.encode()

    def final(self, message: bytes) -> tuple[bytes, ScramVerifier]:
        """Check the proof. The answer, which proves that the server knows the verifier, and that verifier.
        AuthenticationFailed if the proof is wrong, or the message belongs to another exchange."""
        first, verifier = self._first, self._verifier
        assert first is not None, "the first message comes before the last"
        assert verifier is not None, "a verifier is used once"
        self._verifier = None
        match = _match(_CLIENT_FINAL, message)
        nonce = self._server_first[2:].partition(",")[0]
        if _decode(match["binding"]) != first.header.encode():
            raise AuthenticationFailed(
                "the channel binding is not that of the first message", user=first.user
            )
        # librdkafka before 2.6.1 sends its own nonce twice. That is as good: the proof covers both messages.
        if match["nonce"] not in (nonce, first.nonce + nonce):
            raise AuthenticationFailed("the nonce is not that of this exchange", user=first.user)
        proof = _decode(match["proof"])
        signed = f"{first.bare},{self._server_first},{match['unproven']}".encode()
        signature = _hmac(self.mechanism, verifier.stored_key, signed)
        answer = base64.b64encode(_hmac(self.mechanism, verifier.server_key, signed))
        if len(proof) != len(signature):
            raise AuthenticationFailed("the proof has another length than the hash", user=first.user)
        client_key = bytes(left ^ right for left, right in zip(proof, signature, strict=True))
        if not hmac.compare_digest(_hash(self.mechanism, client_key), verifier.stored_key):
            raise AuthenticationFailed("wrong user or password", user=first.user)
        return b"v=" + answer, verifier


def _match(pattern: re.Pattern[str], message: bytes) -> re.Match[str]:
    if len(message) > MESSAGE_MAX_BYTES:
        raise AuthenticationFailed(f"a SCRAM message of {len(message)} bytes")
    try:
        match = pattern.fullmatch(message.decode())
    except UnicodeDecodeError:
        match = None
    if match is None:
        raise AuthenticationFailed("not a SCRAM message, or one at the wrong place")
    return match


def _unescape(name: str) -> str:
    """A saslname (RFC 5802, 5.1): `=2C` is a comma, `=3D` is `=`, and no other `=` is permitted."""

    def char(match: re.Match[str]) -> str:
        if match[1] is None:
            raise AuthenticationFailed("a name with = that is not escaped")
        return "," if match[1] == "2C" else "="

    return _ESCAPE.sub(char, name)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise AuthenticationFailed("a value that is not base64") from None


def _hmac(mechanism: ScramMechanism, key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, _HASHES[mechanism])


def _hash(mechanism: ScramMechanism, data: bytes) -> bytes:
    return hashlib.new(_HASHES[mechanism], data).digest()

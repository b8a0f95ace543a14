"""Users of RabbitMQ keep their passwords: verifiers that are made of RabbitMQ's hashes.

Owns: the form of those hashes, base64 of 4 bytes of salt and the hash of salt and password
(rabbitmq.com/docs/passwords); and the salt of such a verifier, by which it is known: a mark, the kind of the
hash, the 4 bytes, random ones. The verifier's own password is the hash in hexadecimal, so a client that sends
its password (PLAIN) can be checked. Refuses: MD5. SCRAM is not possible with such a verifier: a client proves
its password, not the hash.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence

from mainstem.access_contract import ScramMechanism, ScramVerifier
from mainstem.authentication.scram import SALT_BYTES, make_verifier

MARK = b"\0rabbitmq\0"
"""How the salt of a verifier of a hash begins. Others are random: one in 2^80 begins so."""
_SALT_BYTES = 4
_KINDS = {b"1": "sha256", b"2": "sha512"}
_KIND_OF_NAME = {"rabbit_password_hashing_sha256": b"1", "rabbit_password_hashing_sha512": b"2"}
DEFAULT_ALGORITHM = "rabbit_password_hashing_sha256"


def is_of_hash(salt: bytes) -> bool:
    """Whether a verifier with this salt was made of a hash."""
    return salt.startswith(MARK) and salt[len(MARK) : len(MARK) + 1] in _KINDS


def password_of_verifier(salt: bytes, password: str) -> str:
    """What a verifier with this salt proves of a client's password: the password, or its hash."""
    if not is_of_hash(salt):
        return password
    begin = len(MARK) + 1
    hash_salt = salt[begin : begin + _SALT_BYTES]
    kind = _KINDS[salt[len(MARK) : begin]]
    return hashlib.new(kind, hash_salt + password.encode(errors="replace")).hexdigest()


def verifiers_of_hash(
    password_hash: str, algorithm: str, random_bytes: Callable[[int], bytes]
) -> Sequence[Callable[[], ScramVerifier]]:
    """What makes the verifiers of a hash, for each mechanism, so that all before are replaced. Each takes
    milliseconds: not for the event loop. ValueError if the algorithm is unknown, or the hash none of it."""
    kind = _KIND_OF_NAME.get(algorithm)
    if kind is None:
        raise ValueError(
            f"hashes by {algorithm[:64]} cannot be used here: those of {', '.join(_KIND_OF_NAME)} can"
        )
    try:
        data = base64.b64decode(password_hash, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the hash of a password is base64") from None
    size = _SALT_BYTES + hashlib.new(_KINDS[kind]).digest_size
    if len(data) != size:
        raise ValueError(f"the hash of a password has {len(data)} bytes, and those of {algorithm} {size}")
    head = MARK + kind + data[:_SALT_BYTES]
    digest = data[_SALT_BYTES:].hex()

    def maker(mechanism: ScramMechanism, salt: bytes) -> Callable[[], ScramVerifier]:
        return lambda: make_verifier(mechanism, digest, salt)

    return [maker(mechanism, head + random_bytes(SALT_BYTES - len(head))) for mechanism in ScramMechanism]

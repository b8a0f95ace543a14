"""The keys with which the server signs the tokens of push requests, and the tokens themselves.

A token is a JWT (RFC 7519) signed by ES256. Owns: which key signs, when a new one is made and when an
old one is published no more, the form of the keys in their file (FORMAT.md, part "Keys of push tokens") and
in the JWKS (RFC 7517). Refuses: files and the clock.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Final

from crc32c import crc32c

from mainstem import base64url

ALGORITHM: Final = "ES256"
LIFETIME_S: Final = 3_600
"""How long a token is good."""
ROTATE_MS: Final = 30 * 86_400_000
"""Age of the newest key at which there is another one."""
AHEAD_MS: Final = 86_400_000
"""How long a further key is published before it signs, and another one after it has signed last: receivers
keep what is published for a while."""
FORMAT_VERSION: Final = 1
_ID_CHARACTERS: Final = 27
_COORDINATE_BYTES: Final = 32


class KeysDamaged(Exception):
    """The error for a file of keys that cannot be read. The message is for people."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """One key."""

    made_ms: int
    private: bytes = field(repr=False)
    """PKCS #8 in DER."""
    signer: Any = field(repr=False, compare=False)
    """The library's object."""
    jwk: Mapping[str, str]
    """The public part as it is published."""

    @classmethod
    def make(cls, now_ms: int) -> TokenKey:
        """A new key. Imports the library, which takes 0.1 s."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        private = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return cls.load(now_ms, private)

    @classmethod
    def load(cls, made_ms: int, private: bytes) -> TokenKey:
        """A key of a file. ValueError: it is none of this kind."""
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_der_private_key

        signer = load_der_private_key(private, None)
        if not isinstance(signer, ec.EllipticCurvePrivateKey) or not isinstance(signer.curve, ec.SECP256R1):
            raise ValueError("the key is not of the curve P-256")
        numbers = signer.public_key().public_numbers()
        point = {"crv": "P-256", "kty": "EC", "x": _coordinate(numbers.x), "y": _coordinate(numbers.y)}
        return cls(made_ms, private, signer, {**point, "alg": ALGORITHM, "kid": _id(point), "use": "sig"})

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token with these claims."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        header = {"alg": ALGORITHM, "kid": self.jwk["kid"], "typ": "JWT"}
        signed = ".".join(base64url.encode(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self.signer.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_signature(r, s)}"


def signing_key(keys: Sequence[TokenKey], now_ms: int) -> TokenKey:
    """The newest of these keys, of which there is one, that has been published for long enough; else the
    oldest."""
    old_enough = [key for key in keys if now_ms - key.made_ms >= AHEAD_MS]
    return max(old_enough, key=_made) if old_enough else min(keys, key=_made)


def needs_new_key(keys: Sequence[TokenKey], now_ms: int) -> bool:
    """Whether a further key is due."""
    return not keys or now_ms - max(map(_made, keys)) >= ROTATE_MS


def kept_keys(keys: Sequence[TokenKey], now_ms: int) -> list[TokenKey]:
    """These keys, oldest first, without those whose successor has signed for AHEAD_MS."""
    ordered = sorted(keys, key=_made)
    return [
        key
        for key, successor in zip_longest(ordered, ordered[1:])
        if successor is None or now_ms - successor.made_ms < 2 * AHEAD_MS
    ]


def encode_keys(keys: Sequence[TokenKey]) -> bytes:
    """The content of the file with these keys."""
    rows = [{"made_ms": key.made_ms, "private": base64.b64encode(key.private).decode()} for key in keys]
    return json.dumps({"version": FORMAT_VERSION, "keys": rows, "crc32c": _checksum(rows)}).encode() + b"\n"


def decode_keys(content: bytes) -> list[TokenKey]:
    """The keys of a file, at least one. KeysDamaged."""
    try:
        parsed = json.loads(content)
        version, rows = parsed["version"], parsed["keys"]
        if version != FORMAT_VERSION:
            raise KeysDamaged(f"its version is {version!r}, and not {FORMAT_VERSION}")
        if parsed["crc32c"] != _checksum(rows):
            raise KeysDamaged("its checksum is wrong")
        keys = [TokenKey.load(int(row["made_ms"]), base64.b64decode(row["private"])) for row in rows]
    except KeysDamaged:
        raise
    except Exception as error:  # the library raises what it likes for bytes that are no key
        raise KeysDamaged(f"it cannot be read: {type(error).__name__}") from None
    if not keys:
        raise KeysDamaged("it has no key")
    return keys


def _made(key: TokenKey) -> int:
    return key.made_ms


def _checksum(rows: object) -> str:
    return f"{crc32c(json.dumps(rows, sort_keys=True).encode()):08x}"


def _coordinate(number: int) -> str:
    return base64url.encode(number.to_bytes(_COORDINATE_BYTES, "big"))


def _signature(r: int, s: int) -> str:
    """The signature as JWS has it (RFC 7518, 3.4)."""
    return base64url.encode(r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big"))


def _id(point: Mapping[str, str]) -> str:
    """The id of a public key: its thumbprint (RFC 7638), shortened."""
    canonical = json.dumps(dict(sorted(point.items())), separators=(",", ":"))
    return base64url.encode(hashlib.sha256(canonical.encode()).digest())[:_ID_CHARACTERS]

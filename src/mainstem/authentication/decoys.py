"""Verifiers for users that do not exist, so that an exchange does not show who exists.

Owns: the salt and iterations that such a user seems to have. They are derived from a secret of the server, so
that they are the same at each attempt and after a restart, and look like those of most users: as many
iterations, a salt as long, and of the same kind (Kafka's tools make salts of digits and letters).
Refuses: to be matched: no password is known whose hash a decoy would be.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from typing import NamedTuple

from mainstem.access_contract import AccessAdmin, ScramMechanism, ScramVerifier
from mainstem.authentication.scram import DEFAULT_ITERATIONS, SALT_BYTES, digest_bytes

_ALPHABET = b"0123456789abcdefghijklmnopqrstuvwxyz"
_REMEMBERED = 128


class _Shape(NamedTuple):
    """What an outsider sees of a verifier."""

    iterations: int
    salt_bytes: int
    is_text: bool


_DEFAULT = _Shape(DEFAULT_ITERATIONS, SALT_BYTES, is_text=False)


class Decoys:
    """Makes decoys. `secret`: at least 16 bytes that only this server knows."""

    def __init__(self, admin: AccessAdmin, secret: bytes) -> None:
        assert len(secret) >= 16, "a secret that cannot be guessed"
        self._secret = len(secret).to_bytes(2, "big") + secret
        self._shapes: dict[ScramMechanism, deque[_Shape]] = {
            mechanism: deque(maxlen=_REMEMBERED) for mechanism in ScramMechanism
        }
        self._common = dict.fromkeys(ScramMechanism, _DEFAULT)
        # Now, at the start: to list 10,000 users takes too long for a login.
        for user in admin.users()[:_REMEMBERED]:
            for mechanism in user.mechanisms:
                verifier = admin.verifier(user.name, mechanism)
                if verifier is not None:
                    self.learn(verifier)

    def verifier(self, user: str, mechanism: ScramMechanism) -> ScramVerifier:
        """The verifier that the user seems to have if there is none."""
        shape = self._common[mechanism]
        salt = self._derive(b"salt", user, mechanism, shape.salt_bytes)
        if shape.is_text:
            salt = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in salt)
        size = digest_bytes(mechanism)
        return ScramVerifier(
            mechanism=mechanism,
            salt=salt,
            iterations=shape.iterations,
            stored_key=self._derive(b"stored", user, mechanism, size),
            server_key=self._derive(b"server", user, mechanism, size),
        )

    def learn(self, verifier: ScramVerifier) -> None:
        """Note what the verifier of a user looks like: one that exists at the start, or who logs in."""
        salt = verifier.salt
        shapes = self._shapes[verifier.mechanism]
        shapes.append(_Shape(verifier.iterations, len(salt), all(byte in _ALPHABET for byte in salt)))
        self._common[verifier.mechanism] = Counter(shapes).most_common(1)[0][0]

    def _derive(self, purpose: bytes, user: str, mechanism: ScramMechanism, size: int) -> bytes:
        data = b"%s\0%d\0%s" % (purpose, mechanism, user.encode(errors="replace"))
        return hashlib.shake_256(self._secret + data).digest(size)

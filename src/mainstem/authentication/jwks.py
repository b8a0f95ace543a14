"""The public keys that tokens are checked with, and where they come from (RFC 7517).

Owns: reading a JWKS or a PEM file, which algorithms each key may be used with, and when the keys are fetched
again. Refuses: symmetric keys and private ones, RSA keys below 2048 bits, keys that are not for signatures,
and to go on with keys that could not be confirmed for `max_age_s`: then no token is accepted any more.

The library for JOSE is imported with the first keys, in the worker thread that reads them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from mainstem.authentication.identity import BearerUnavailable
from mainstem.authentication.passwords import WorkerThread
from mainstem.clock import Clock
from mainstem.promise import Promise

RETRY_S: Final = 10.0
"""Least time between two fetches that a failure or an unknown key id causes."""
KEYS_MAX: Final = 100
DOCUMENT_MAX_BYTES: Final = 1 << 20
RSA_BITS_MIN: Final = 2_048

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_BY_CURVE = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",), "Ed25519": ("EdDSA",)}
ALGORITHMS: Final = frozenset({*_RSA, "ES256", "ES384", "ES512", "EdDSA"})
"""The algorithms of signatures that are accepted: asymmetric ones only."""


class KeysUnreadable(Exception):
    """The document has no usable key. The message says why."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key."""

    id: str | None
    """`kid`; None: the key has none, as those of PEM files."""
    algorithms: frozenset[str]
    key: Any = field(repr=False)
    """The library's object."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one document."""

    keys: tuple[PublicKey, ...]

    def candidates(self, key_id: str | None, algorithm: str) -> list[PublicKey]:
        """The keys that may have signed a token with this key id and algorithm: those with the id, else those
        without one, and all if the token names none."""
        usable = [key for key in self.keys if algorithm in key.algorithms]
        if key_id is None:
            return usable
        return [key for key in usable if key.id == key_id] or [key for key in usable if key.id is None]


def parse_keys(document: bytes) -> KeySet:
    """The usable keys of a JWKS, or of a PEM file with one public key. KeysUnreadable if there is none."""
    if len(document) > DOCUMENT_MAX_BYTES:
        raise KeysUnreadable(f"a document of {len(document)} bytes")
    if b"-----BEGIN PUBLIC KEY-----" in document:
        keys = [_pem_key(document)]
    else:
        keys = _jwks_keys(document)
    if not keys:
        raise KeysUnreadable("no key in it is an asymmetric one for signatures")
    return KeySet(tuple(keys))


def _jwks_keys(document: bytes) -> list[PublicKey]:
    try:
        entries = json.loads(document)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise KeysUnreadable("neither a JWKS nor a public key in PEM") from None
    if not isinstance(entries, list) or len(entries) > KEYS_MAX:
        raise KeysUnreadable(f"a JWKS has a list of at most {KEYS_MAX} keys")
    keys = []
    for entry in entries:
        key = _jwk(entry) if isinstance(entry, dict) else None
        if key is not None:
            keys.append(key)
    return keys


def _jwk(entry: dict[str, Any]) -> PublicKey | None:
    """The key, or None if it is not usable."""
    import jwt

    kind, declared, key_id = entry.get("kty"), entry.get("alg"), entry.get("kid")
    algorithms: tuple[str, ...] = _RSA if kind == "RSA" else _BY_CURVE.get(str(entry.get("crv")), ())
    if kind not in ("RSA", "EC", "OKP") or entry.get("use", "sig") != "sig":
        return None
    if declared is not None:
        algorithms = tuple(name for name in algorithms if name == declared)
    operations = entry.get("key_ops", ["verify"])
    if not algorithms or "d" in entry or not isinstance(operations, list) or "verify" not in operations:
        return None
    if key_id is not None and not isinstance(key_id, str):
        return None
    try:
        key = jwt.PyJWK(entry, algorithm=algorithms[0]).key
    except Exception:  # the library raises what it likes for a malformed key
        return None
    if kind == "RSA" and key.key_size < RSA_BITS_MIN:
        return None
    return PublicKey(key_id, frozenset(algorithms), key)


def _pem_key(document: bytes) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(document)
    except Exception as error:
        raise KeysUnreadable(f"not a public key in PEM: {error}") from None
    algorithms: tuple[str, ...] = ()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS_MIN:
        algorithms = _RSA
    elif isinstance(key, ec.EllipticCurvePublicKey):
        algorithms = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}.get(
            key.curve.name, ()
        )
    elif isinstance(key, ed25519.Ed25519PublicKey):
        algorithms = ("EdDSA",)
    if not algorithms:
        raise KeysUnreadable(f"the key is no RSA key of {RSA_BITS_MIN} bits, NIST curve or Ed25519")
    return PublicKey(None, frozenset(algorithms), key)


class KeySource:
    """The keys at a place that is asked again and again. `fetch` reads the document, in the worker."""

    def __init__(
        self,
        fetch: Callable[[], bytes],
        worker: WorkerThread,
        clock: Clock,
        *,
        refresh_s: float,
        max_age_s: float,
        warn: Callable[[str], None],
    ) -> None:
        self._fetch = fetch
        self._worker = worker
        self._clock = clock
        self._refresh_s = refresh_s
        self._max_age_s = max_age_s
        self._warn = warn
        self._keys: KeySet | None = None
        self._good_at = 0.0
        """Monotonic seconds of the last fetch that succeeded."""
        self._tried_at: float | None = None
        self._running: Promise[KeySet] | None = None

    def keys(self, key_id: str | None = None) -> Promise[KeySet]:
        """The keys, fetched again if they are old or none has this id. The promise fails with
        BearerUnavailable if there are none that are fresh enough."""
        keys, now = self._keys, self._clock.monotonic()
        is_known = keys is not None and (key_id is None or any(key.id in (key_id, None) for key in keys.keys))
        may_try = self._tried_at is None or now - self._tried_at >= RETRY_S
        if self._running is None and may_try and (not is_known or now - self._good_at >= self._refresh_s):
            self._start(now)
        if self._running is not None and not is_known:
            waiting: Promise[KeySet] = Promise()
            self._running.then(lambda _: self._current().then(waiting.copy_result))
            return waiting
        return self._current()

    def _current(self) -> Promise[KeySet]:
        keys = self._keys
        if keys is None or self._clock.monotonic() - self._good_at > self._max_age_s:
            return Promise.failed(BearerUnavailable("no keys that are fresh enough"))
        return Promise.resolved(keys)

    def _start(self, now: float) -> None:
        self._tried_at = now
        running = self._running = self._worker.run(lambda: parse_keys(self._fetch()))

        def done(result: Promise[KeySet]) -> None:
            self._running = None
            if result.error is None:
                self._keys, self._good_at = result.result(), self._clock.monotonic()
            else:
                self._warn(f"the keys for tokens cannot be read: {result.error}")

        running.then(done)
        if running.done:
            self._running = None

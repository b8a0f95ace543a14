"""For tests of authentication: users in memory, a worker that runs at once, the client's side of SCRAM."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

from mainstem.access_contract import AccessAdmin, Acl, AclFilter, ScramMechanism, ScramVerifier, UserInfo
from mainstem.authentication.jwks import KeySource
from mainstem.authentication.jwt import TokenChecks, TokenRules
from mainstem.authentication.passwords import WorkerThread
from mainstem.authentication.scram import make_verifier
from mainstem.authentication.service import Authentication
from mainstem.promise import Promise
from tests.support.clock import SimClock

T = TypeVar("T")

SECRET = b"the secret of a server in a test"
NOW_S = 1_700_000_000
RULES = TokenRules(issuer="https://idp.test", audience="mainstem", clock_skew_s=30, roles_claim="groups")
SHA_256, SHA_512 = ScramMechanism.SHA_256, ScramMechanism.SHA_512


@cache
def verifier(password: str, mechanism: ScramMechanism = SHA_512, salt: bytes = b"s" * 24) -> ScramVerifier:
    """A verifier of a password, made once in a test run."""
    return make_verifier(mechanism, password, salt)


class MemoryAdmin:
    """The users of a test: name -> mechanism -> verifier."""

    def __init__(self, **passwords: str) -> None:
        self.on_user_deleted: list[Callable[[str], None]] = []
        self.on_credentials_changed: list[Callable[[str], None]] = []
        self.verifiers: dict[str, dict[ScramMechanism, ScramVerifier]] = {
            name: {mechanism: verifier(password, mechanism) for mechanism in ScramMechanism}
            for name, password in passwords.items()
        }

    def users(self) -> Sequence[UserInfo]:
        return [
            UserInfo(name=name, mechanisms={mechanism: it.iterations for mechanism, it in verifiers.items()})
            for name, verifiers in sorted(self.verifiers.items())
        ]

    def user(self, name: str) -> UserInfo | None:
        return next((info for info in self.users() if info.name == name), None)

    def verifier(self, user: str, mechanism: ScramMechanism) -> ScramVerifier | None:
        return self.verifiers.get(user, {}).get(mechanism)

    def put_verifiers(self, user: str, verifiers: Sequence[ScramVerifier]) -> Promise[None]:
        self.verifiers.setdefault(user, {}).update({it.mechanism: it for it in verifiers})
        return Promise.resolved(None)

    def delete_verifiers(self, user: str, mechanisms: Sequence[ScramMechanism]) -> Promise[None]:
        mine = self.verifiers[user]
        for mechanism in mechanisms:
            del mine[mechanism]
        if not mine:
            del self.verifiers[user]
            for call in self.on_user_deleted:
                call(user)
        return Promise.resolved(None)

    def acls(self, filter_: AclFilter) -> Sequence[Acl]:
        return []

    def create_acls(self, acls: Sequence[Acl]) -> Promise[None]:
        return Promise.resolved(None)

    def delete_acls(self, acls: Sequence[Acl]) -> Promise[None]:
        return Promise.resolved(None)


class InlineWorker:
    """Runs each function at once, or when the test says so (`waits`)."""

    def __init__(self) -> None:
        self.waits = False
        self.waiting: list[Callable[[], None]] = []
        self.count = 0

    def run(self, function: Callable[[], T]) -> Promise[T]:
        self.count += 1
        promise: Promise[T] = Promise()

        def call() -> None:
            try:
                value = function()
            except Exception as error:
                promise.fail(error)
            else:
                promise.resolve(value)

        if self.waits:
            self.waiting.append(call)
        else:
            call()
        return promise

    def work(self) -> None:
        """Run what waits."""
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()


class Counted:
    """Bytes that count up: 1, 2, 3."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(size, "big")


def authentication(
    admin: AccessAdmin,
    worker: WorkerThread | None = None,
    clock: SimClock | None = None,
    tokens: TokenChecks | None = None,
) -> Authentication:
    """The authentication of a server with these users."""
    return Authentication(
        admin=admin,
        clock=clock or SimClock(),
        worker=worker or InlineWorker(),
        random=Counted(),
        secret=SECRET,
        tokens=tokens,
    )


class ScramClient:
    """The client's side of SCRAM, written from RFC 5802 without the server's code."""

    def __init__(self, name: str, password: str, algorithm: str = "sha512", nonce: str = "client") -> None:
        self.bare = f"n={name},r={nonce}"
        self.password = password
        self.algorithm = algorithm
        self.header = "n,,"
        self.repeats_nonce = False

    def first(self) -> bytes:
        return (self.header + self.bare).encode()

    def final(self, server_first: bytes) -> bytes:
        values = dict(part.split("=", 1) for part in server_first.decode().split(","))
        salt = base64.b64decode(values["s"])
        self.salted = hashlib.pbkdf2_hmac(self.algorithm, self.password.encode(), salt, int(values["i"]))
        nonce = (self.bare.partition(",r=")[2] if self.repeats_nonce else "") + values["r"]
        unproven = f"c={base64.b64encode(self.header.encode()).decode()},r={nonce}"
        self.signed = f"{self.bare},{server_first.decode()},{unproven}".encode()
        client_key = self._hmac(self.salted, b"Client Key")
        signature = self._hmac(hashlib.new(self.algorithm, client_key).digest(), self.signed)
        proof = bytes(left ^ right for left, right in zip(client_key, signature, strict=True))
        return f"{unproven},p={base64.b64encode(proof).decode()}".encode()

    def server_final(self) -> bytes:
        """What a server that knows the verifier answers."""
        signature = self._hmac(self._hmac(self.salted, b"Server Key"), self.signed)
        return b"v=" + base64.b64encode(signature)

    def _hmac(self, key: bytes, data: bytes) -> bytes:
        return hmac.digest(key, data, self.algorithm)


@cache
def signing_key(kind: str = "ec") -> Any:
    """A private key: ec (P-256), other-ec, rsa or ed25519."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())


def jwk(kind: str = "ec", **more: Any) -> dict[str, Any]:
    """The public key as an entry of a JWKS."""
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

    library: Any = {"rsa": RSAAlgorithm, "ed25519": OKPAlgorithm}.get(kind, ECAlgorithm)
    return {**json.loads(library.to_jwk(signing_key(kind).public_key())), "kid": kind, **more}


def jwks(*kinds: str) -> bytes:
    """A JWKS of these keys."""
    return json.dumps({"keys": [jwk(kind) for kind in kinds]}).encode()


def token(kind: str = "ec", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token that RULES accept, with other claims (None: without that one) and headers."""
    import jwt

    algorithm = {"rsa": "RS256", "ed25519": "EdDSA"}.get(kind, "ES256")
    usual = {"iss": RULES.issuer, "aud": RULES.audience, "sub": "alice", "exp": NOW_S + 60}
    payload = {name: value for name, value in {**usual, **claims}.items() if value is not None}
    return jwt.encode(payload, signing_key(kind), algorithm=algorithm, headers=headers or {"kid": kind})


def wall_clock() -> SimClock:
    """A clock at NOW_S."""
    return SimClock(NOW_S * 1000)


def token_checks(
    fetch: Callable[[], bytes],
    clock: SimClock,
    worker: WorkerThread | None = None,
    warn: Callable[[str], None] = lambda text: None,
    rules: TokenRules = RULES,
) -> TokenChecks:
    """Checks of tokens with the keys that `fetch` reads."""
    source = KeySource(fetch, worker or InlineWorker(), clock, refresh_s=600.0, max_age_s=3_600.0, warn=warn)
    return TokenChecks(source, rules, clock)

"""Checks passwords against verifiers, away from the event loop.

Owns: which checks run, how many wait, and the passwords that were right a short time ago. Refuses: more
checks than can wait, and more than half of them from one address; those are answered as a lockout of one
second.

A check derives a key, which takes milliseconds of CPU, so it runs in a worker thread. Clients of HTTP send
their password with each request: a password that was right is remembered for REMEMBERED_S as a keyed hash,
whose key exists only in the memory of this process. It is forgotten when the user's verifier changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol, TypeVar

from mainstem.access_contract import AccessAdmin, ScramMechanism, ScramVerifier
from mainstem.authentication import scram
from mainstem.authentication.attempts import Attempts, address_key
from mainstem.authentication.decoys import Decoys
from mainstem.authentication.identity import AuthenticationFailed, Identity, TooManyAttempts
from mainstem.authentication.names import user_name
from mainstem.authentication.rabbitmq_hashes import password_of_verifier
from mainstem.clock import Clock
from mainstem.promise import Promise

T = TypeVar("T")

REMEMBERED_S = 300.0
REMEMBERED_MAX = 1_000
WAITING_MAX = 256
PASSWORD_MAX_BYTES = 1_024
PLAIN = "PLAIN"


class WorkerThread(Protocol):
    """Runs functions outside of the event loop."""

    def run(self, function: Callable[[], T]) -> Promise[T]:
        """Run the function; the promise is done on the event loop."""


class _Check:
    """A check that runs or waits."""

    __slots__ = ("address", "promise")

    def __init__(self, address: str) -> None:
        self.address = address
        self.promise: Promise[Identity] = Promise()


class PasswordChecks:
    """The checks of one server."""

    def __init__(
        self,
        admin: AccessAdmin,
        clock: Clock,
        worker: WorkerThread,
        attempts: Attempts,
        decoys: Decoys,
        cache_key: bytes,
    ) -> None:
        self._admin = admin
        self._clock = clock
        self._worker = worker
        self._attempts = attempts
        self._decoys = decoys
        self._cache_key = cache_key
        self._checks: dict[tuple[bytes, str], _Check] = {}
        """By keyed hash and address: equal ones share a check."""
        self._by_address: dict[str, int] = {}
        self._right: dict[bytes, tuple[ScramVerifier, float]] = {}
        """Keyed hash of name and password -> the verifier it was right for, monotonic seconds of its end."""

    def check(self, name: str, password: str, host: str) -> Promise[Identity]:
        """The user, if this is their password. The promise fails with AuthenticationFailed."""
        try:
            user = user_name(name)
            if len(password.encode(errors="replace")) > PASSWORD_MAX_BYTES:
                raise ValueError(f"a password of more than {PASSWORD_MAX_BYTES} bytes")
        except ValueError as error:
            return Promise.failed(AuthenticationFailed(str(error), user=name))
        verifier, is_real = self._verifier(user)
        digest = self._digest(user, password)
        if is_real and self._is_remembered(digest, verifier):
            return Promise.resolved(Identity.of_user(user, PLAIN))
        return self._start(user, password, verifier, is_real, digest, host)

    def _start(
        self, user: str, password: str, verifier: ScramVerifier, is_real: bool, digest: bytes, host: str
    ) -> Promise[Identity]:
        delay_s = self._attempts.delay_s(user, host)
        address = address_key(host)
        running = self._checks.get((digest, address))
        if running is not None and not delay_s:
            return running.promise
        waiting = len(self._checks)
        if waiting >= WAITING_MAX or self._by_address.get(address, 0) >= WAITING_MAX // 2:
            delay_s = max(delay_s, 1.0)
        if delay_s:
            return Promise.failed(TooManyAttempts(delay_s, user=user))
        check = self._checks[digest, address] = _Check(address)
        self._by_address[address] = self._by_address.get(address, 0) + 1

        def prove() -> bool:
            return scram.proves(verifier, password_of_verifier(verifier.salt, password))

        def done(proof: Promise[bool]) -> None:
            del self._checks[digest, address]
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
            try:
                identity = self._judge(user, host, verifier, is_real and proof.result(), digest)
            except AuthenticationFailed as error:
                check.promise.fail(error)
            except Exception as error:  # a check that breaks is a failed check
                check.promise.fail(AuthenticationFailed(f"the check failed: {error}", user=user))
            else:
                check.promise.resolve(identity)

        self._worker.run(prove).then(done)
        return check.promise

    def _judge(
        self, user: str, host: str, verifier: ScramVerifier, is_right: bool, digest: bytes
    ) -> Identity:
        delay_s = self._attempts.delay_s(user, host)
        if delay_s:  # locked while this check waited
            raise TooManyAttempts(delay_s, user=user)
        if not is_right or self._verifier(user)[0] != verifier:
            self._attempts.failed(user, host)
            raise AuthenticationFailed("wrong user or password", user=user)
        self._attempts.succeeded(user, host)
        self._decoys.learn(verifier)
        self._remember(digest, verifier)
        return Identity.of_user(user, PLAIN)

    def _verifier(self, user: str) -> tuple[ScramVerifier, bool]:
        """The user's verifier or a decoy, and whether it is real."""
        decoy = self._decoys.verifier(user, ScramMechanism.SHA_512)
        for mechanism in (ScramMechanism.SHA_512, ScramMechanism.SHA_256):
            verifier = self._admin.verifier(user, mechanism)
            if verifier is not None:
                return verifier, True
        return decoy, False

    def _digest(self, user: str, password: str) -> bytes:
        data = user.encode(errors="replace") + b"\0" + password.encode(errors="replace")
        return hashlib.blake2b(data, key=self._cache_key, digest_size=32).digest()

    def _is_remembered(self, digest: bytes, verifier: ScramVerifier) -> bool:
        remembered = self._right.get(digest)
        if remembered is None:
            return False
        if remembered[0] != verifier or self._clock.monotonic() >= remembered[1]:
            del self._right[digest]
            return False
        return True

    def _remember(self, digest: bytes, verifier: ScramVerifier) -> None:
        self._right.pop(digest, None)
        self._right[digest] = (verifier, self._clock.monotonic() + REMEMBERED_S)
        if len(self._right) > REMEMBERED_MAX:
            del self._right[next(iter(self._right))]

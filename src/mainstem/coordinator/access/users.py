"""The state machine of users: the SCRAM verifiers that prove who a client is.

Owns: which users there are. A user has a verifier of one mechanism or of both; a user without any does not
exist. Refuses: passwords, which never get here; to show a verifier in a `repr` or an error; counts of
iterations out of Kafka's range, and keys whose length is not that of their hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from mainstem.access_contract import ITERATIONS_MAX, ITERATIONS_MIN, ScramMechanism, ScramVerifier
from mainstem.authentication.names import user_name
from mainstem.coordinator.errors import (
    InvalidUserName,
    TooManyUsers,
    UnacceptableVerifier,
    UnknownVerifier,
)
from mainstem.coordinator.runtime.records import StateRecord
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.promise import Promise

USERS_MAX = 100_000
SALT_BYTES_MAX = 256
KEY_BYTES = {ScramMechanism.SHA_256: 32, ScramMechanism.SHA_512: 64}
"""The length of the keys of each mechanism: that of its hash."""


class UserVerifierSet(StateRecord, frozen=True, array_like=True, tag="user-verifier-set"):
    """State record: a user has this verifier, and no other of its mechanism."""

    name: str
    mechanism: int
    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return f"UserVerifierSet({self.name!r}, {self.mechanism})"


class UserVerifierDeleted(StateRecord, frozen=True, array_like=True, tag="user-verifier-deleted"):
    """State record: a user has no verifier of this mechanism any more. Without any the user is deleted."""

    name: str
    mechanism: int


class Users:
    """The state machine. `runtime` is set once, before the first write."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]] = (UserVerifierSet, UserVerifierDeleted)
    runtime: Runtime

    def __init__(self) -> None:
        self.version = 0
        """Rises with each change."""
        self.on_deleted: list[Callable[[str], None]] = []
        """Callbacks for the name of a user whose deletion is durable."""
        self.on_credentials_changed: list[Callable[[str], None]] = []
        """Callbacks for the name of a user whose verifiers were set or deleted, when that is durable."""
        self.deleted_with: list[Callable[[str], Sequence[msgspec.Struct]]] = []
        """Return the records that delete what goes with a user, for the write that deletes the user."""
        self.on_changed: list[Callable[[], None]] = []
        """Callbacks for after a change that is durable."""
        self.reset()

    # --- the state machine --------------------------------------------------------------------------------

    def reset(self) -> None:
        """See `StateMachine`."""
        self.version += 1
        self._verifiers: dict[str, dict[ScramMechanism, ScramVerifier]] = {}

    def apply(self, record: Any) -> None:
        """See `StateMachine`."""
        self.version += 1
        mechanism = ScramMechanism(record.mechanism)
        if isinstance(record, UserVerifierSet):
            verifier = ScramVerifier(
                mechanism, record.salt, record.iterations, record.stored_key, record.server_key
            )
            self._verifiers.setdefault(record.name, {})[mechanism] = verifier
            return
        its_verifiers = self._verifiers[record.name]
        del its_verifiers[mechanism]
        if not its_verifiers:
            del self._verifiers[record.name]

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """See `StateMachine`."""
        copied = [(name, tuple(verifiers.values())) for name, verifiers in self._verifiers.items()]
        return (_record(name, verifier) for name, verifiers in copied for verifier in verifiers)

    # --- reading ------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The names of all users, sorted."""
        return sorted(self._verifiers)

    def verifier(self, name: str, mechanism: ScramMechanism) -> ScramVerifier | None:
        """The verifier of a user; None if there is no such user, or none of this mechanism."""
        return self._verifiers.get(name, {}).get(mechanism)

    def mechanisms(self, name: str) -> dict[ScramMechanism, int]:
        """Mechanism -> iterations of a user's verifiers; empty if there is no such user."""
        return {kind: verifier.iterations for kind, verifier in self._verifiers.get(name, {}).items()}

    # --- writing ------------------------------------------------------------------------------------------

    def put(self, name: str, verifiers: Sequence[ScramVerifier]) -> Promise[None]:
        """Set verifiers of a user, who need not exist. Done when that is durable. Fails with InvalidUserName,
        UnacceptableVerifier, TooManyUsers, StorageError."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            check_user_name(name)
            for verifier in verifiers:
                check_verifier(verifier)
            if name not in self._verifiers and len(self._verifiers) >= USERS_MAX:
                raise TooManyUsers(f"there are {USERS_MAX} users already")
            return [_record(name, verifier) for verifier in verifiers], None

        put = self.runtime.write(decide)
        put.then(lambda done: self._after_change(name, done))
        return put

    def delete(self, name: str, mechanisms: Sequence[ScramMechanism]) -> Promise[None]:
        """Remove the verifiers of these mechanisms that a user has. Done when that is durable. Fails with
        UnknownVerifier (the user has none of them), StorageError."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            its_verifiers = self._verifiers.get(name, {})
            present = [mechanism for mechanism in dict.fromkeys(mechanisms) if mechanism in its_verifiers]
            if not present:
                raise UnknownVerifier(
                    f"user {name!r}: there is no such user, or no verifier of these mechanisms"
                )
            records: list[msgspec.Struct] = [UserVerifierDeleted(name, mechanism) for mechanism in present]
            if len(present) == len(its_verifiers):
                for deletions_of in self.deleted_with:
                    records += deletions_of(name)
            return records, None

        deleted = self.runtime.write(decide)
        deleted.then(lambda done: self._after_change(name, done))
        return deleted

    def _after_change(self, name: str, done: Promise[None]) -> None:
        if done.error is not None:
            return
        for callback in self.on_changed:
            callback()
        for callback_of_user in self.on_credentials_changed:
            callback_of_user(name)
        for callback_of_user in self.on_deleted if name not in self._verifiers else ():
            callback_of_user(name)


def check_user_name(name: str) -> None:
    """InvalidUserName: the name is empty, too long, has a control character or a space at an end, or is not
    prepared (SASLprep), so that no login would have it."""
    try:
        prepared = user_name(name)
    except ValueError as error:
        raise InvalidUserName(str(error)) from None
    if prepared != name:
        raise InvalidUserName(f"user {name!r}: SASLprep makes another name of it: {prepared!r}")
    if not name.isprintable() or name != name.strip():
        raise InvalidUserName(
            f"user {name!r}: a name has no control characters, and no space at its beginning or end"
        )


def check_verifier(verifier: ScramVerifier) -> None:
    """UnacceptableVerifier: its iterations or the lengths of its salt and keys are out of range."""
    if not ITERATIONS_MIN <= verifier.iterations <= ITERATIONS_MAX:
        raise UnacceptableVerifier(
            f"{verifier.iterations} iterations; between {ITERATIONS_MIN} and {ITERATIONS_MAX} are permitted"
        )
    if not 1 <= len(verifier.salt) <= SALT_BYTES_MAX:
        raise UnacceptableVerifier(f"a salt has 1 to {SALT_BYTES_MAX} bytes, not {len(verifier.salt)}")
    wanted = KEY_BYTES[verifier.mechanism]
    for key in (verifier.stored_key, verifier.server_key):
        if len(key) != wanted:
            raise UnacceptableVerifier(
                f"a key of {verifier.mechanism.name} has {wanted} bytes, not {len(key)}"
            )


def _record(name: str, verifier: ScramVerifier) -> UserVerifierSet:
    return UserVerifierSet(
        name,
        int(verifier.mechanism),
        verifier.salt,
        verifier.iterations,
        verifier.stored_key,
        verifier.server_key,
    )

"""The state machine of API tokens: their hashes, whose they are, and what they are limited to.

Owns: which tokens there are. A token is a user's, and is deleted with the user, in the same write. Refuses:
the tokens themselves, which are shown once, to the person who asked for one, and never get here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from mainstem.access_contract import ApiToken, Principal
from mainstem.coordinator.access.scopes import scopes_problem
from mainstem.coordinator.access.users import Users
from mainstem.coordinator.errors import InvalidApiToken, UnknownApiToken
from mainstem.coordinator.runtime.records import StateRecord
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.promise import Promise

TOKENS_MAX = 100_000
TOKENS_OF_USER_MAX = 100
NAME_CHARS_MAX = 100
DIGEST_BYTES = 32


class ApiTokenAdded(StateRecord, frozen=True, array_like=True, tag="api-token-added"):
    """State record: there is this token."""

    id: str
    digest: bytes
    user: str
    name: str
    scopes: tuple[str, ...]
    created_ms: int
    expires_ms: int
    roles: tuple[str, ...] = ()
    is_of_provider: bool = False

    def __repr__(self) -> str:
        return f"ApiTokenAdded({self.id!r}, {self.user!r})"


class ApiTokenDeleted(StateRecord, frozen=True, array_like=True, tag="api-token-deleted"):
    """State record: there is no token of this id any more."""

    id: str


class ApiTokens:
    """The state machine. `runtime` is set once, before the first write."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]] = (ApiTokenAdded, ApiTokenDeleted)
    runtime: Runtime

    def __init__(self, users: Users) -> None:
        self._users = users
        self.on_deleted: list[Callable[[str], None]] = []
        """Callbacks for the id of a token whose deletion is durable."""
        users.deleted_with.append(self._deletions_of)
        self.reset()

    # --- the state machine --------------------------------------------------------------------------------

    def reset(self) -> None:
        """See `StateMachine`."""
        self._tokens: dict[str, ApiToken] = {}
        self._digests: dict[str, bytes] = {}
        self._by_digest: dict[bytes, ApiToken] = {}
        self._by_user: dict[str, dict[str, None]] = {}

    def apply(self, record: Any) -> None:
        """See `StateMachine`."""
        if isinstance(record, ApiTokenAdded):
            token = ApiToken(
                id=record.id,
                user=record.user,
                name=record.name,
                scopes=frozenset(record.scopes),
                created_ms=record.created_ms,
                expires_ms=record.expires_ms,
                roles=frozenset(map(Principal.parse, record.roles)),
                is_of_provider=record.is_of_provider,
            )
            self._tokens[record.id] = self._by_digest[record.digest] = token
            self._digests[record.id] = record.digest
            self._by_user.setdefault(record.user, {})[record.id] = None
            return
        token = self._tokens.pop(record.id)
        del self._by_digest[self._digests.pop(record.id)]
        of_user = self._by_user[token.user]
        del of_user[record.id]
        if not of_user:
            del self._by_user[token.user]

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """See `StateMachine`."""
        copied = [(token, self._digests[token.id]) for token in self._tokens.values()]
        return (_record(token, digest) for token, digest in copied)

    # --- reading ------------------------------------------------------------------------------------------

    def tokens(self) -> Sequence[ApiToken]:
        """See `ApiTokenStore`."""
        return sorted(self._tokens.values(), key=lambda token: (token.user, token.created_ms, token.id))

    def find(self, digest: bytes) -> ApiToken | None:
        """See `ApiTokenStore`."""
        return self._by_digest.get(digest)

    # --- writing ------------------------------------------------------------------------------------------

    def add(self, token: ApiToken, digest: bytes) -> Promise[None]:
        """See `ApiTokenStore`. Tokens that had expired when this one was made are deleted with it. Fails with
        InvalidApiToken, StorageError."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            self._check(token, digest)
            expired = [
                ApiTokenDeleted(known.id)
                for known in self._tokens.values()
                if known.expires_ms <= token.created_ms
            ]
            return [*expired, _record(token, digest)], None

        return self.runtime.write(decide)

    def delete(self, id_: str) -> Promise[None]:
        """See `ApiTokenStore`. Fails with UnknownApiToken, StorageError."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            if id_ not in self._tokens:
                raise UnknownApiToken(f"there is no API token {id_[:60]!r}")
            return [ApiTokenDeleted(id_)], None

        def after(done: Promise[None]) -> None:
            for callback in self.on_deleted if done.error is None else ():
                callback(id_)

        deleted = self.runtime.write(decide)
        deleted.then(after)
        return deleted

    def _check(self, token: ApiToken, digest: bytes) -> None:
        problem = scopes_problem(token.scopes)
        if problem is None and not (0 < len(token.name) <= NAME_CHARS_MAX and token.name.isprintable()):
            problem = f"a name has 1 to {NAME_CHARS_MAX} characters, and no control characters"
        if problem is None and not token.is_of_provider and not self._users.mechanisms(token.user):
            problem = f"there is no user {token.user[:60]!r}"
        if problem is None and token.expires_ms <= token.created_ms:
            problem = "it would have expired already"
        if problem is None and len(self._by_user.get(token.user, ())) >= TOKENS_OF_USER_MAX:
            problem = f"user {token.user} has {TOKENS_OF_USER_MAX} already"
        if problem is None and len(self._tokens) >= TOKENS_MAX:
            problem = f"there are {TOKENS_MAX} already"
        if problem is not None:
            raise InvalidApiToken(f"API token: {problem}")
        assert len(digest) == DIGEST_BYTES, "a token is known by its SHA-256 hash"
        assert token.id not in self._tokens, "an id is random"

    def _deletions_of(self, user: str) -> list[msgspec.Struct]:
        """The records that delete a user's tokens."""
        return [ApiTokenDeleted(id_) for id_ in self._by_user.get(user, ())]


def _record(token: ApiToken, digest: bytes) -> ApiTokenAdded:
    return ApiTokenAdded(
        token.id,
        digest,
        token.user,
        token.name,
        tuple(sorted(token.scopes)),
        token.created_ms,
        token.expires_ms,
        tuple(sorted(role.text for role in token.roles)),
        token.is_of_provider,
    )

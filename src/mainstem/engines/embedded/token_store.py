"""API tokens with the errors of the contract, for doors that do not know the node.

Owns: the translation of errors, and that a read-only door changes no tokens. Refuses: everything else, which
is `coordinator/access/tokens.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mainstem.access_contract import ApiToken, ApiTokenStore
from mainstem.engines.embedded.admin_changes import changed_by_door
from mainstem.promise import Promise


class TranslatedTokens:
    """See `ApiTokenStore`."""

    def __init__(self, store: ApiTokenStore, is_read_only: bool) -> None:
        self._store = store
        self._is_read_only = is_read_only
        self.on_deleted = store.on_deleted

    def tokens(self) -> Sequence[ApiToken]:
        """See `ApiTokenStore`."""
        return self._store.tokens()

    def find(self, digest: bytes) -> ApiToken | None:
        """See `ApiTokenStore`."""
        return self._store.find(digest)

    def add(self, token: ApiToken, digest: bytes) -> Promise[None]:
        """See `ApiTokenStore`. NotAllowed: the door is read-only; NotReachable."""
        return self._change(lambda: self._store.add(token, digest))

    def delete(self, id_: str) -> Promise[None]:
        """See `ApiTokenStore`. NotAllowed, NotReachable."""
        return self._change(lambda: self._store.delete(id_))

    def _change(self, change: Callable[[], Promise[None]]) -> Promise[None]:
        return changed_by_door("API tokens", change, is_read_only=self._is_read_only)

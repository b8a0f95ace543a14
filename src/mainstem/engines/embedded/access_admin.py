"""Users and access control entries with the errors of the contract, for doors that do not know the node.

Owns: the translation of errors, and that a read-only door changes no users and entries. Refuses: everything
else, which is `coordinator/access/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mainstem.access_contract import AccessAdmin, Acl, AclFilter, ScramMechanism, ScramVerifier, UserInfo
from mainstem.engines.embedded.admin_changes import changed_by_door
from mainstem.promise import Promise


class TranslatedAdmin:
    """See `AccessAdmin`."""

    def __init__(self, admin: AccessAdmin, is_read_only: bool) -> None:
        self._admin = admin
        self._is_read_only = is_read_only
        self.on_user_deleted = admin.on_user_deleted
        self.on_credentials_changed = admin.on_credentials_changed

    def users(self) -> Sequence[UserInfo]:
        """See `AccessAdmin`."""
        return self._admin.users()

    def user(self, name: str) -> UserInfo | None:
        """See `AccessAdmin`."""
        return self._admin.user(name)

    def verifier(self, user: str, mechanism: ScramMechanism) -> ScramVerifier | None:
        """See `AccessAdmin`."""
        return self._admin.verifier(user, mechanism)

    def put_verifiers(self, user: str, verifiers: Sequence[ScramVerifier]) -> Promise[None]:
        """See `AccessAdmin`. NotAllowed: the door is read-only, as for all that follow."""
        return self._change(f"user {user!r}", lambda: self._admin.put_verifiers(user, verifiers))

    def delete_verifiers(self, user: str, mechanisms: Sequence[ScramMechanism]) -> Promise[None]:
        """See `AccessAdmin`."""
        return self._change(f"user {user!r}", lambda: self._admin.delete_verifiers(user, mechanisms))

    def acls(self, filter_: AclFilter) -> Sequence[Acl]:
        """See `AccessAdmin`."""
        return self._admin.acls(filter_)

    def create_acls(self, acls: Sequence[Acl]) -> Promise[None]:
        """See `AccessAdmin`."""
        return self._change("access control", lambda: self._admin.create_acls(acls))

    def delete_acls(self, acls: Sequence[Acl]) -> Promise[None]:
        """See `AccessAdmin`."""
        return self._change("access control", lambda: self._admin.delete_acls(acls))

    def _change(self, subject: str, change: Callable[[], Promise[None]]) -> Promise[None]:
        return changed_by_door(subject, change, is_read_only=self._is_read_only)

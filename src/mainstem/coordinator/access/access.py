"""Access control of one node: users, entries, and the decisions that follow from them and the settings.

Owns: what `access_contract.AccessAdmin` promises, with the errors of the coordinator, and the masks. Refuses:
passwords and connections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from mainstem.access_contract import (
    USER,
    Acl,
    AclFilter,
    Principal,
    ScramMechanism,
    ScramVerifier,
    UserInfo,
)
from mainstem.coordinator.access.acls import Acls
from mainstem.coordinator.access.authorizer import AclAuthorizer, parse_super_users
from mainstem.coordinator.access.mask_rules import MaskRules
from mainstem.coordinator.access.users import Users
from mainstem.promise import Promise


class AccessSettings(Protocol):
    """The settings that this module reads."""

    @property
    def access_control(self) -> bool: ...
    @property
    def super_users(self) -> str: ...
    @property
    def allow_everyone_if_no_acl_found(self) -> bool: ...


class AccessControl:
    """See `access_contract.AccessAdmin`."""

    def __init__(self, settings: AccessSettings, users: Users, acls: Acls, masks: MaskRules) -> None:
        """ValueError: the setting `super_users` cannot be read."""
        self._users = users
        self._acls = acls
        self.authorizer = AclAuthorizer(
            users,
            acls,
            is_on=settings.access_control,
            super_users=parse_super_users(settings.super_users),
            allow_everyone_if_no_acl_found=settings.allow_everyone_if_no_acl_found,
        )
        self.masks = masks
        masks.is_super = self.authorizer.is_super_requester
        self.on_user_deleted = users.on_deleted
        self.on_credentials_changed = users.on_credentials_changed

    def users(self) -> Sequence[UserInfo]:
        """See `AccessAdmin`."""
        return [self._info(name, self._users.mechanisms(name)) for name in self._users.names()]

    def user(self, name: str) -> UserInfo | None:
        """See `AccessAdmin`."""
        mechanisms = self._users.mechanisms(name)
        return self._info(name, mechanisms) if mechanisms else None

    def _info(self, name: str, mechanisms: Mapping[ScramMechanism, int]) -> UserInfo:
        is_super = self.authorizer.is_super(Principal(USER, name))
        return UserInfo(name=name, mechanisms=mechanisms, is_super=is_super)

    def verifier(self, user: str, mechanism: ScramMechanism) -> ScramVerifier | None:
        """See `AccessAdmin`."""
        return self._users.verifier(user, mechanism)

    def put_verifiers(self, user: str, verifiers: Sequence[ScramVerifier]) -> Promise[None]:
        """See `AccessAdmin`. Errors: as `Users.put`."""
        return self._users.put(user, verifiers)

    def delete_verifiers(self, user: str, mechanisms: Sequence[ScramMechanism]) -> Promise[None]:
        """See `AccessAdmin`. Errors: as `Users.delete`."""
        return self._users.delete(user, mechanisms)

    def acls(self, filter_: AclFilter) -> Sequence[Acl]:
        """See `AccessAdmin`."""
        return self._acls.find(filter_)

    def create_acls(self, acls: Sequence[Acl]) -> Promise[None]:
        """See `AccessAdmin`. Errors: as `Acls.create`."""
        return self._acls.create(acls)

    def delete_acls(self, acls: Sequence[Acl]) -> Promise[None]:
        """See `AccessAdmin`. Errors: as `Acls.delete`."""
        return self._acls.delete(acls)

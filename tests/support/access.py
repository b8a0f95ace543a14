"""Requesters, entries and verifiers for tests of access control."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import cast

from mainstem.access_contract import (
    ANY_HOST,
    USER,
    Acl,
    Operation,
    PatternType,
    Permission,
    Principal,
    Requester,
    ResourceType,
    ScramMechanism,
    ScramVerifier,
)
from mainstem.coordinator.access.access import AccessControl
from mainstem.coordinator.access.users import KEY_BYTES
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.coordinator.state_machines import StateMachines
from mainstem.log.disk.contract import Disk
from mainstem.settings import Settings
from tests.support.clock import SimClock
from tests.support.fake_state import FakeStateDisk, FakeStateLog

ALICE, BOB, EVERYBODY = (Principal(USER, name) for name in ("alice", "bob", "*"))


def requester(
    principal: Principal = ALICE, *, host: str = "10.0.0.1", roles: Iterable[Principal] = ()
) -> Requester:
    return Requester(principal=principal, roles=frozenset(roles), host=host)


def allow(operation: Operation, name: str, principal: Principal = ALICE, *, prefixed: bool = False) -> Acl:
    """An entry that allows something of a topic."""
    pattern = PatternType.PREFIXED if prefixed else PatternType.LITERAL
    return Acl(ResourceType.TOPIC, name, pattern, principal, ANY_HOST, operation, Permission.ALLOW)


def deny(operation: Operation, name: str, principal: Principal = ALICE, *, prefixed: bool = False) -> Acl:
    """An entry that denies something of a topic."""
    return allow(operation, name, principal, prefixed=prefixed)._replace(permission=Permission.DENY)


def verifier(mechanism: ScramMechanism = ScramMechanism.SHA_256, secret: bytes = b"k") -> ScramVerifier:
    key = (secret * 64)[: KEY_BYTES[mechanism]]
    return ScramVerifier(mechanism, b"salt", 4096, key, key)


class AccessRig:
    """Users and entries on a state log in memory. `restart()` loads them again from what is durable."""

    def __init__(self, settings: Settings | None = None, *, auto_commit: bool = True) -> None:
        self.clock = SimClock()
        self.disk = FakeStateDisk()
        self.log = FakeStateLog(auto_commit=auto_commit)
        self.settings = settings or Settings(access_control=True, super_users="User:admin")
        self.open()

    def open(self) -> None:
        machines = StateMachines.create(self.settings, self.clock, random.Random(1))
        self.users, self.acls, self.masks = machines.users, machines.acls, machines.mask_rules
        self.tokens = machines.api_tokens
        self.access = AccessControl(self.settings, self.users, self.acls, self.masks)
        self.authorizer = self.access.authorizer
        all_of_them = (self.users, self.acls, self.masks, self.tokens)
        self.runtime = Runtime(cast(Disk, self.disk), self.log, self.clock, all_of_them)
        self.users.runtime = self.acls.runtime = self.masks.runtime = self.tokens.runtime = self.runtime
        self.runtime.on_reloaded.append(self.authorizer.changed)
        self.runtime.load()

    def restart(self) -> None:
        """Load the state again as after kill -9: without what was not durable."""
        self.runtime.close()
        self.log.fail()
        self.open()

"""The state machine of client quotas: which there are, and which of them counts for a client.

Owns: the quotas of all entities, and Kafka's order among those that a client falls under. Refuses: entities
and values that Kafka refuses, and quotas that nothing here enforces (`controller_mutation_rate`); to measure
anything (`quota_usage.py`).
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import msgspec

from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.runtime.records import StateRecord
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.promise import Promise
from mainstem.quota_contract import CLIENT_KEYS, DEFAULT, QuotaAlteration, QuotaEntity, QuotaKey

ENTITIES_MAX = 100_000
NAME_CHARS_MAX = 4_096
INT_MAX, LONG_MAX = 2**31 - 1, 2**63 - 1
"""The largest quotas of connections, and of bytes."""
FRACTION_MAX = 1e-6
"""What Kafka takes for a whole number."""


class ClientQuotaSet(StateRecord, frozen=True, array_like=True, tag="client-quota-set"):
    """State record: an entity has these quotas, and no others."""

    user: str | None
    client_id: str | None
    ip: str | None
    values: dict[str, float]


class ApplyingQuota(NamedTuple):
    """The quota that counts for a client, and with whom the client shares it."""

    limit: float
    shared_by: tuple[str | None, str | None]
    """(user, client id); None: whatever it is."""


class Quotas:
    """The state machine. `runtime` is set once, before the first write."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]] = (ClientQuotaSet,)
    runtime: Runtime

    def __init__(self) -> None:
        self.reset()

    # --- the state machine --------------------------------------------------------------------------------

    def reset(self) -> None:
        """See `StateMachine`."""
        self._of_entity: dict[QuotaEntity, dict[QuotaKey, float]] = {}
        self._places: dict[QuotaEntity, tuple[int, str, bool, str]] = {}
        """Of each entity its place among all: computed once, for they are many."""
        self._is_ordered = True
        self._of_key: dict[QuotaKey, dict[QuotaEntity, float]] = {key: {} for key in QuotaKey}
        self.limits_clients = False
        """Whether there is any quota of a user or client id."""

    def apply(self, record: Any) -> None:
        """See `StateMachine`."""
        entity = QuotaEntity(record.user, record.client_id, record.ip)
        for key in self._of_entity.pop(entity, ()):
            del self._of_key[key][entity]
        self._places.pop(entity, None)
        if record.values:
            self._places[entity] = _place(entity)
            self._is_ordered = False
            values = self._of_entity[entity] = {QuotaKey(key): v for key, v in record.values.items()}
            for key, value in values.items():
                self._of_key[key][entity] = value
        self.limits_clients = any(self._of_key[key] for key in CLIENT_KEYS)

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """See `StateMachine`."""
        copied = list(self._of_entity.items())
        return (_record(entity, values) for entity, values in copied)

    # --- reading ------------------------------------------------------------------------------------------

    def quotas(self) -> Mapping[QuotaEntity, Mapping[QuotaKey, float]]:
        """See `QuotaAdmin`."""
        if not self._is_ordered:
            in_order = sorted(self._of_entity, key=self._places.__getitem__)
            self._of_entity = {entity: self._of_entity[entity] for entity in in_order}
            self._is_ordered = True
        return self._of_entity

    def applying(self, key: QuotaKey, user: str, client_id: str) -> ApplyingQuota | None:
        """The quota that counts for a client: the first of these in Kafka's order, user and client id, user
        and default client, user, default user and client id, both defaults, default user, client id, default
        client. None: it has none."""
        limits = self._of_key[key]
        if not limits:
            return None
        both, its_user, its_client = (user, client_id), (user, None), (None, client_id)
        for entity, shared_by in (
            (QuotaEntity(user, client_id), both),
            (QuotaEntity(user, DEFAULT), both),
            (QuotaEntity(user), its_user),
            (QuotaEntity(DEFAULT, client_id), both),
            (QuotaEntity(DEFAULT, DEFAULT), both),
            (QuotaEntity(DEFAULT), its_user),
            (QuotaEntity(None, client_id), its_client),
            (QuotaEntity(None, DEFAULT), its_client),
        ):
            if (limit := limits.get(entity)) is not None:
                return ApplyingQuota(limit, shared_by)
        return None

    def connections_of(self, ip: str) -> float | None:
        """Connections a second that may come from an address; None: it has no quota."""
        limits = self._of_key[QuotaKey.CONNECTIONS]
        limit = limits.get(QuotaEntity(ip=ip))
        return limits.get(QuotaEntity(ip=DEFAULT)) if limit is None else limit

    # --- writing ------------------------------------------------------------------------------------------

    def alter(
        self,
        entity: QuotaEntity,
        changes: Mapping[QuotaKey, float | None],
        *,
        validate_only: bool = False,
    ) -> Promise[None]:
        """See `QuotaAdmin`. Fails with InvalidRequest, StorageError."""

        def result(refusals: list[Exception | None]) -> None:
            if refusals[0] is not None:
                raise refusals[0]

        return self.alter_each([(entity, changes)], validate_only=validate_only).map(result)

    def alter_each(
        self, alterations: Sequence[QuotaAlteration], *, validate_only: bool = False
    ) -> Promise[list[Exception | None]]:
        """See `QuotaAdmin`. Fails with StorageError."""

        def decide() -> tuple[Sequence[msgspec.Struct], list[Exception | None]]:
            after: dict[QuotaEntity, dict[QuotaKey, float]] = {}
            refusals: list[Exception | None] = []
            for entity, changes in alterations:
                try:
                    self._alter(after, entity, changes)
                    refusals.append(None)
                except InvalidRequest as refusal:
                    refusals.append(refusal)
            records = [
                _record(entity, values)
                for entity, values in after.items()
                if values != self._of_entity.get(entity, {})
            ]
            return [] if validate_only else records, refusals

        return self.runtime.write(decide)

    def _alter(
        self,
        after: dict[QuotaEntity, dict[QuotaKey, float]],
        entity: QuotaEntity,
        changes: Mapping[QuotaKey, float | None],
    ) -> None:
        """Note in `after` what an entity has after these changes. InvalidRequest."""
        plain = plain_entity(entity)
        check_changes(plain, changes)
        before = after.get(plain, self._of_entity.get(plain))
        if before is None and len(self._of_entity) + len(after) >= ENTITIES_MAX:
            raise InvalidRequest(f"{ENTITIES_MAX:,} entities have quotas already")
        values: dict[QuotaKey, float | None] = {**(before or {}), **changes}
        after[plain] = {key: value for key, value in values.items() if value is not None}


def _place(entity: QuotaEntity) -> tuple[int, str, bool, str]:
    """Users come first, each alone before its clients; client ids follow, then addresses."""
    user, client_id, ip = entity
    if user is not None:
        return 0, user, client_id is not None, client_id or ""
    return (2, ip, False, "") if ip is not None else (1, client_id or "", False, "")


def plain_entity(entity: QuotaEntity) -> QuotaEntity:
    """The entity, with its address in the usual form. InvalidRequest: it names nothing, an address beside
    others, or something that is no address."""
    if entity == QuotaEntity():
        raise InvalidRequest("Invalid empty client quota entity")
    if any(name is not None and len(name) > NAME_CHARS_MAX for name in entity):
        raise InvalidRequest(f"a name of a quota entity has at most {NAME_CHARS_MAX:,} characters")
    if entity.ip is None:
        return entity
    if entity.user is not None or entity.client_id is not None:
        raise InvalidRequest(
            "Invalid quota entity combination, IP entity should not be combined with User or ClientId"
        )
    try:
        return QuotaEntity(ip=entity.ip and str(ipaddress.ip_address(entity.ip)))
    except ValueError:
        raise InvalidRequest(f"{entity.ip[:100]} is not a valid IP address.") from None


def check_changes(entity: QuotaEntity, changes: Mapping[QuotaKey, float | None]) -> None:
    """InvalidRequest: a quota is not one of this entity, or not a number above 0, whole where Kafka's is."""
    for key, value in changes.items():
        if value is None:
            continue
        if (key in CLIENT_KEYS) != (entity.ip is None):
            raise InvalidRequest(f"Invalid configuration key {key}")
        if not (math.isfinite(value) and value > 0):
            raise InvalidRequest(f"Quota {key} must be greater than 0")
        if key is QuotaKey.REQUEST:
            continue
        largest = INT_MAX if key is QuotaKey.CONNECTIONS else LONG_MAX
        if value > largest:
            raise InvalidRequest(f"Proposed value for {key} is too large.")
        if value % 1 > FRACTION_MAX:
            raise InvalidRequest(f"{key} cannot be a fractional value.")


def _record(entity: QuotaEntity, values: Mapping[QuotaKey, float]) -> ClientQuotaSet:
    return ClientQuotaSet(*entity, {str(key): value for key, value in values.items()})

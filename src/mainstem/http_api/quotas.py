"""The JSON of client quotas, and its translation to the words of the quota contract.

Owns: the fields of these requests and replies, with their limits and descriptions, and what an entity has
before and after a change. Refuses: addresses that are none, and changes of nothing; which
entities and values make sense is decided where quotas are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainstem.quota_contract import QuotaAdmin, QuotaEntity, QuotaKey

QuotaWord = Literal[
    "producer_byte_rate", "consumer_byte_rate", "request_percentage", "connection_creation_rate"
]
EntityName = Annotated[str, Meta(max_length=4_096)]
UserPart = Annotated[
    EntityName | None,
    Meta(
        description="A user; empty: every user that has none by name; null: whichever user it is.",
    ),
]
ClientPart = Annotated[
    EntityName | None,
    Meta(
        description="A client id; empty: every client id that has none by name; null: whichever it is.",
    ),
]
IpPart = Annotated[
    EntityName | None,
    Meta(
        description="An IP address; empty: every address that has none of its own; null: it is not of one.",
    ),
]
NewQuota = Annotated[float, Meta(gt=0)] | UnsetType


class QuotaJson(msgspec.Struct, frozen=True):
    """The quotas of an entity: a user, a client id, both, or an address. Null: it has none of this kind."""

    user: UserPart
    client_id: ClientPart
    ip: IpPart
    producer_byte_rate: Annotated[float | None, Meta(description="Bytes that are published in a second.")]
    consumer_byte_rate: Annotated[float | None, Meta(description="Bytes that are read in a second.")]
    request_percentage: Annotated[
        float | None,
        Meta(description="Time that requests take, in percent of the thread that serves them."),
    ]
    connection_creation_rate: Annotated[
        float | None, Meta(description="New connections in a second, of an address.")
    ]


class QuotasQuery(msgspec.Struct):
    """Which quotas to list; what is left out matches everything."""

    user: Annotated[
        EntityName | None, Meta(description="Only those for this user; empty: those for every user.")
    ] = None
    client_id: Annotated[
        EntityName | None, Meta(description="Only those for this client id; empty: those for every client.")
    ] = None
    ip: Annotated[
        EntityName | None, Meta(description="Only that of this address; empty: that of every address.")
    ] = None
    limit: Annotated[int, Meta(ge=1, le=1_000, description="Maximum number of entities.")] = 500
    skip: Annotated[int, Meta(ge=0, le=1_000_000, description="`next` of the previous page.")] = 0


class QuotasJson(msgspec.Struct):
    """A page of the entities that have quotas: users, then client ids, then addresses, each by name."""

    quotas: list[QuotaJson]
    next: int | None


class SetQuotaJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to set quotas of an entity. Those that are not named stay as they are."""

    JSON_SCHEMA: ClassVar = {
        "examples": [{"user": "alice", "producer_byte_rate": 1_048_576, "dry_run": True}]
    }

    user: UserPart = None
    client_id: ClientPart = None
    ip: IpPart = None
    producer_byte_rate: NewQuota = UNSET
    consumer_byte_rate: NewQuota = UNSET
    request_percentage: NewQuota = UNSET
    connection_creation_rate: NewQuota = UNSET
    dry_run: Annotated[bool, Meta(description="Only report what would be done.")] = False

    def changes(self) -> dict[QuotaKey, float | None]:
        """The quotas to set."""
        values = ((key, getattr(self, key)) for key in QuotaKey)
        return {key: value for key, value in values if value is not UNSET}


class DeleteQuotaJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to remove quotas of an entity."""

    user: UserPart = None
    client_id: ClientPart = None
    ip: IpPart = None
    quotas: Annotated[
        list[QuotaWord], Meta(max_length=20, description="Which; empty: all that the entity has.")
    ] = []
    dry_run: Annotated[bool, Meta(description="Only report what would be done.")] = False

    def changes(self) -> dict[QuotaKey, float | None]:
        """The quotas to remove."""
        return dict.fromkeys(map(QuotaKey, self.quotas) if self.quotas else QuotaKey)


class ChangedQuotaJson(msgspec.Struct):
    """The reply to a change: the quotas of the entity before and after it; null: it has none."""

    before: QuotaJson | None
    after: QuotaJson | None
    dry_run: bool


def entity_of(body: SetQuotaJson | DeleteQuotaJson | QuotasQuery) -> QuotaEntity:
    """The entity, its address in the usual form. ValueError: that is no address."""
    if not body.ip:
        return QuotaEntity(body.user, body.client_id, body.ip)
    try:
        return QuotaEntity(body.user, body.client_id, str(ip_address(body.ip)))
    except ValueError:
        raise ValueError(f"{body.ip[:100]!r} is not an IP address") from None


def quota_json(entity: QuotaEntity, values: Mapping[QuotaKey, float]) -> QuotaJson | None:
    """The JSON of an entity's quotas; None if there are none."""
    return QuotaJson(*entity, *map(values.get, QuotaKey)) if values else None


def value_text(value: float) -> str:
    """A quota as people write it: 1048576, 12.5."""
    return str(int(value)) if value.is_integer() else str(value)


def matching(
    quotas: Mapping[QuotaEntity, Mapping[QuotaKey, float]], query: QuotasQuery
) -> Iterator[tuple[QuotaEntity, Mapping[QuotaKey, float]]]:
    """The entities that have every name of the query, with their quotas. ValueError: as `entity_of`."""
    user, client_id, ip = entity_of(query)
    for entity, values in quotas.items():
        if (
            (user is None or entity.user == user)
            and (client_id is None or entity.client_id == client_id)
            and (ip is None or entity.ip == ip)
        ):
            yield entity, values


async def change_quotas(quotas: QuotaAdmin, body: SetQuotaJson | DeleteQuotaJson) -> ChangedQuotaJson:
    """Make the change of the request, unless it is a dry run. ValueError: it names no quota, or an address
    that is none; other errors: as `QuotaAdmin.alter`."""
    entity, changes = entity_of(body), body.changes()
    if not changes:
        raise ValueError("the request names no quota to set")
    before = dict(quotas.quotas().get(entity, {}))
    await quotas.alter(entity, changes, validate_only=body.dry_run)
    after: dict[QuotaKey, float | None] = {**before, **changes}
    left = {key: value for key, value in after.items() if value is not None}
    return ChangedQuotaJson(quota_json(entity, before), quota_json(entity, left), body.dry_run)

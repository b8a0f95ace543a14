"""The contract of client quotas: how much of the server clients may use, and what doors ask.

A quota belongs to an entity: a user, a client id, both, or an address, each by name or as the default for all
that have none of their own. Words, numbers and precedence are those of Apache Kafka (KIP-13, 55, 124, 546,
612). Owns: these types and protocols. Refuses: imports of an engine, the coordinator or a wire protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Protocol, TypeAlias

from mainstem.promise import Promise
from mainstem.stream_errors import NotAllowed

DEFAULT: Final = ""
"""As a name of an entity: all that have no quota of their own. No entity has this name."""


class QuotaKey(StrEnum):
    """What is limited, by Kafka's names."""

    PRODUCE = "producer_byte_rate"
    """Bytes that clients publish in a second."""
    FETCH = "consumer_byte_rate"
    """Bytes that clients read in a second."""
    REQUEST = "request_percentage"
    """Share of the time of one thread that requests take, in percent."""
    CONNECTIONS = "connection_creation_rate"
    """New connections in a second, of an address."""


CLIENT_KEYS: Final = (QuotaKey.PRODUCE, QuotaKey.FETCH, QuotaKey.REQUEST)
"""Those of users and client ids. The one that is left is for addresses."""


class QuotaEntity(NamedTuple):
    """Whom a quota is for: of users and client ids with these names, or of an address. A name is None where
    the quota does not look at it, and DEFAULT for all that have no quota by name."""

    user: str | None = None
    client_id: str | None = None
    ip: str | None = None


class QuotaUse(NamedTuple):
    """What the quotas of a kind have done since the start of the server."""

    throttled: int
    """How many requests were delayed or refused; for connections, how many were closed."""
    delay_ms: int
    """The sum of the delays."""


QuotaAlteration: TypeAlias = tuple[QuotaEntity, Mapping[QuotaKey, float | None]]
"""An entity, and its quotas that are to be set, or removed where they are None."""


class QuotaAdmin(Protocol):
    """Quotas, and their changes."""

    def quotas(self) -> Mapping[QuotaEntity, Mapping[QuotaKey, float]]:
        """All of them, in order: users, client ids, addresses, each by name. Not to be changed."""

    def alter(
        self,
        entity: QuotaEntity,
        changes: Mapping[QuotaKey, float | None],
        *,
        validate_only: bool = False,
    ) -> Promise[None]:
        """Set these quotas of an entity; None removes one. Done when that is durable."""

    def alter_each(
        self, alterations: Sequence[QuotaAlteration], *, validate_only: bool = False
    ) -> Promise[list[Exception | None]]:
        """As `alter`, for many entities; the others are altered if one is refused. The value has why each was
        refused, None if it was not."""


class ClientQuotas(QuotaAdmin, Protocol):
    """What clients have used, and what is too much."""

    @property
    def is_offered(self) -> bool:
        """Whether there can be quotas here at all."""

    @property
    def is_on(self) -> bool:
        """Whether there is any quota of users or client ids: only then has use to be counted."""

    def charge(self, key: QuotaKey, user: str, client_id: str, amount: float) -> int:
        """A client has used this much: bytes, or percent of a second. Milliseconds for which it has to be
        muted so that its rate is within the quota again, at most 1,000 for REQUEST; 0: it may go on."""

    def excess_ms(self, key: QuotaKey, user: str, client_id: str) -> int:
        """For how long the client has to wait until there is room, by what it has used until now: the whole
        time, for REQUEST too."""

    def admits(self, ip: str) -> bool:
        """Whether one more connection from this address is within its quota; it is counted."""

    def use(self) -> Sequence[tuple[QuotaKey, QuotaUse]]:
        """For metrics."""


class NoQuotas:
    """Quotas where there are none: in front of a Kafka cluster, which has its own."""

    is_offered = False
    is_on = False

    def quotas(self) -> Mapping[QuotaEntity, Mapping[QuotaKey, float]]:
        """See `QuotaAdmin`."""
        return {}

    def alter(
        self,
        entity: QuotaEntity,
        changes: Mapping[QuotaKey, float | None],
        *,
        validate_only: bool = False,
    ) -> Promise[None]:
        """See `QuotaAdmin`. Fails with NotAllowed."""
        return Promise.failed(NotAllowed("there are no client quotas here; the cluster has its own"))

    def alter_each(
        self, alterations: Sequence[QuotaAlteration], *, validate_only: bool = False
    ) -> Promise[list[Exception | None]]:
        """See `QuotaAdmin`. Each is refused with NotAllowed."""
        refusal = NotAllowed("there are no client quotas here; the cluster has its own")
        return Promise.resolved([refusal for _ in alterations])

    def charge(self, key: QuotaKey, user: str, client_id: str, amount: float) -> int:
        """See `ClientQuotas`."""
        return 0

    def excess_ms(self, key: QuotaKey, user: str, client_id: str) -> int:
        """See `ClientQuotas`."""
        return 0

    def admits(self, ip: str) -> bool:
        """See `ClientQuotas`."""
        return True

    def use(self) -> Sequence[tuple[QuotaKey, QuotaUse]]:
        """See `ClientQuotas`."""
        return ()

"""What clients have used lately, and for how long they have to wait when it is too much.

A client may use in a moment what its quota allows in ten seconds (`quota.window.num` 11 and
`quota.window.size.seconds` 1, Kafka's defaults, allow the same); of what is more, each second of the quota is
a second of delay. Kafka measures by windows of a second, forgets what is older than eleven, and so lets a
client that uses more than that at once have more in the long run. Owns: what is used and not yet paid off by
time, which is of this life of the server. Refuses: to delay anybody itself; the door does that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from mainstem.clock import Clock
from mainstem.coordinator.access.quotas import Quotas
from mainstem.promise import Promise
from mainstem.quota_contract import QuotaAlteration, QuotaEntity, QuotaKey, QuotaUse

AT_ONCE_S = 10.0
"""As many seconds of a quota may be used at once."""
REQUEST_DELAY_MS_MAX = 1_000
"""How long a client waits after a request that took too much time: a second at most, as in Kafka."""
_ROUNDING_S = 1e-6
"""What rounding leaves is no excess."""
RATES_MAX = 50_000
"""Rates that are kept; of more, that which was used longest ago is forgotten."""
CLIENT_ID_CHARS = 256
"""Client ids with the same beginning share a rate."""


class UseRate:
    """What was used, less what the quota has allowed since."""

    __slots__ = ("_at_s", "_level")

    def __init__(self) -> None:
        self._level = 0.0
        self._at_s = 0.0

    def add(self, now_s: float, limit: float, amount: float) -> int:
        """This much is used now. Milliseconds until nothing is left beyond what may be used at once."""
        self._level = max(0.0, self._level - limit * (now_s - self._at_s)) + amount
        self._at_s = now_s
        excess = self._level - limit * AT_ONCE_S
        return max(1, round(excess / limit * 1000)) if excess > limit * _ROUNDING_S else 0


class QuotaUsage:
    """See `quota_contract.ClientQuotas`."""

    is_offered = True

    def __init__(self, clock: Clock, quotas: Quotas) -> None:
        self._clock = clock
        self._quotas = quotas
        self._rates: OrderedDict[tuple[QuotaKey, str | None, str | None], UseRate] = OrderedDict()
        self._throttled: dict[QuotaKey, int] = dict.fromkeys(QuotaKey, 0)
        self._delay_ms: dict[QuotaKey, int] = dict.fromkeys(QuotaKey, 0)

    @property
    def is_on(self) -> bool:
        """See `ClientQuotas`."""
        return self._quotas.limits_clients

    def quotas(self) -> Mapping[QuotaEntity, Mapping[QuotaKey, float]]:
        """See `QuotaAdmin`."""
        return self._quotas.quotas()

    def alter(
        self,
        entity: QuotaEntity,
        changes: Mapping[QuotaKey, float | None],
        *,
        validate_only: bool = False,
    ) -> Promise[None]:
        """See `QuotaAdmin`. Errors: as `Quotas.alter`."""
        return self._quotas.alter(entity, changes, validate_only=validate_only)

    def alter_each(
        self, alterations: Sequence[QuotaAlteration], *, validate_only: bool = False
    ) -> Promise[list[Exception | None]]:
        """See `QuotaAdmin`. Fails with StorageError."""
        return self._quotas.alter_each(alterations, validate_only=validate_only)

    def _rate(self, key: QuotaKey, user: str | None, client_id: str | None) -> UseRate:
        name = key, user, client_id if client_id is None else client_id[:CLIENT_ID_CHARS]
        rate = self._rates.get(name)
        if rate is None:
            rate = self._rates[name] = UseRate()
            if len(self._rates) > RATES_MAX:
                self._rates.popitem(last=False)
        else:
            self._rates.move_to_end(name)
        return rate

    def charge(self, key: QuotaKey, user: str, client_id: str, amount: float) -> int:
        """See `ClientQuotas`."""
        delay_ms = self._add(key, user, client_id, amount)
        return self._noted(key, min(delay_ms, REQUEST_DELAY_MS_MAX) if key is QuotaKey.REQUEST else delay_ms)

    def excess_ms(self, key: QuotaKey, user: str, client_id: str) -> int:
        """See `ClientQuotas`."""
        return self._noted(key, self._add(key, user, client_id, 0))

    def _add(self, key: QuotaKey, user: str, client_id: str, amount: float) -> int:
        quota = self._quotas.applying(key, user, client_id)
        if quota is None:
            return 0
        rate = self._rate(key, *quota.shared_by)
        return rate.add(self._clock.monotonic(), quota.limit, amount)

    def _noted(self, key: QuotaKey, delay_ms: int) -> int:
        if delay_ms:
            self._throttled[key] += 1
            self._delay_ms[key] += delay_ms
        return delay_ms

    def admits(self, ip: str) -> bool:
        """See `ClientQuotas`."""
        limit = self._quotas.connections_of(ip)
        if limit is None:
            return True
        rate, now_s = self._rate(QuotaKey.CONNECTIONS, ip, None), self._clock.monotonic()
        if not rate.add(now_s, limit, 1):
            return True
        rate.add(now_s, limit, -1)  # it is not made
        self._throttled[QuotaKey.CONNECTIONS] += 1
        return False

    def use(self) -> Sequence[tuple[QuotaKey, QuotaUse]]:
        """See `ClientQuotas`."""
        return [(key, QuotaUse(self._throttled[key], self._delay_ms[key])) for key in QuotaKey]

"""Client quotas with the errors of the contract, for doors that do not know the node.

Owns: the translation of errors, and that a read-only door changes no quotas. Refuses: everything else, which
is `coordinator/access/quotas.py` and `quota_usage.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from mainstem.engines.embedded.admin_changes import changed_by_door
from mainstem.promise import Promise
from mainstem.quota_contract import ClientQuotas, QuotaAlteration, QuotaEntity, QuotaKey

T = TypeVar("T")


class TranslatedQuotas:
    """See `ClientQuotas`. What is asked for each request is the method of the quotas themselves."""

    is_offered = True

    def __init__(self, quotas: ClientQuotas, is_read_only: bool) -> None:
        self._quotas = quotas
        self._is_read_only = is_read_only
        self.charge = quotas.charge
        self.excess_ms = quotas.excess_ms
        self.admits = quotas.admits
        self.use = quotas.use
        self.quotas = quotas.quotas

    @property
    def is_on(self) -> bool:
        """See `ClientQuotas`."""
        return self._quotas.is_on

    def alter(
        self,
        entity: QuotaEntity,
        changes: Mapping[QuotaKey, float | None],
        *,
        validate_only: bool = False,
    ) -> Promise[None]:
        """See `QuotaAdmin`. InvalidArgument: an entity or a value makes no sense; NotReachable; NotAllowed:
        the door is read-only."""
        return self._change(lambda: self._quotas.alter(entity, changes, validate_only=validate_only))

    def alter_each(
        self, alterations: Sequence[QuotaAlteration], *, validate_only: bool = False
    ) -> Promise[list[Exception | None]]:
        """See `QuotaAdmin`. NotReachable, NotAllowed."""
        return self._change(lambda: self._quotas.alter_each(alterations, validate_only=validate_only))

    def _change(self, change: Callable[[], Promise[T]]) -> Promise[T]:
        return changed_by_door("client quotas", change, is_read_only=self._is_read_only)

"""Masking rules with the errors of the contract, for doors that do not know the node.

Owns: the translation of errors, and that a read-only door changes no rules. Refuses: everything else, which
is `coordinator/access/mask_rules.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from mainstem.access_contract import Requester
from mainstem.engines.embedded.admin_changes import changed_by_door
from mainstem.masking.contract import Masks
from mainstem.masking.mask import TopicMask
from mainstem.masking.rules import MaskRule
from mainstem.promise import Promise

T = TypeVar("T")


class TranslatedMasks:
    """See `Masks`."""

    def __init__(self, masks: Masks, is_read_only: bool) -> None:
        self._masks = masks
        self._is_read_only = is_read_only
        self.mask_of: Callable[[Requester, str], TopicMask | None] = masks.mask_of
        self.on_change = masks.on_change

    @property
    def has_rules(self) -> bool:
        """See `Masks`."""
        return self._masks.has_rules

    def rules(self) -> Sequence[MaskRule]:
        """See `Masks`."""
        return self._masks.rules()

    def preview(self, rule: MaskRule) -> TopicMask:
        """See `Masks`."""
        return self._masks.preview(rule)

    def put_rule(self, rule: MaskRule, *, validate_only: bool = False) -> Promise[None]:
        """See `Masks`. InvalidArgument: the rule names nothing, or there are too many; NotReachable;
        NotAllowed: the door is read-only."""
        return self._change(lambda: self._masks.put_rule(rule, validate_only=validate_only))

    def delete_rule(self, name: str) -> Promise[bool]:
        """See `Masks`. NotReachable, NotAllowed."""
        return self._change(lambda: self._masks.delete_rule(name))

    def _change(self, change: Callable[[], Promise[T]]) -> Promise[T]:
        return changed_by_door("masking", change, is_read_only=self._is_read_only)

"""Masking rules in memory, for tests of what is masked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mainstem.access_contract import EVERYBODY, PatternType, Principal, Requester
from mainstem.masking.mask import TopicMask
from mainstem.masking.rules import MaskKind, MaskPath, MaskRule, rules_for
from mainstem.promise import Promise

SECRET = b"s" * 32


def mask_rule(
    topic: str, path: str, kind: MaskKind = MaskKind.HIDDEN, *exempt: Principal, name: str = ""
) -> MaskRule:
    """A rule for everybody but those that are exempt."""
    whom = (EVERYBODY,)
    return MaskRule(
        name or f"{topic} {path}", topic, PatternType.LITERAL, MaskPath.parse(path), kind, whom, exempt
    )


class MemoryMasks:
    """Implements `masking.contract.Masks`."""

    def __init__(self, *rules: MaskRule) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self.on_change: list[Callable[[], None]] = []

    @property
    def has_rules(self) -> bool:
        return bool(self._rules)

    def mask_of(self, requester: Requester, topic: str) -> TopicMask | None:
        rules = rules_for(self._rules.values(), requester, topic)
        return TopicMask(rules, SECRET) if rules else None

    def rules(self) -> Sequence[MaskRule]:
        return sorted(self._rules.values())

    def put_rule(self, rule: MaskRule, *, validate_only: bool = False) -> Promise[None]:
        if not validate_only:
            self._rules[rule.name] = rule
            self._changed()
        return Promise.resolved(None)

    def delete_rule(self, name: str) -> Promise[bool]:
        was_there = self._rules.pop(name, None) is not None
        self._changed()
        return Promise.resolved(was_there)

    def _changed(self) -> None:
        for callback in self.on_change:
            callback()

    def preview(self, rule: MaskRule) -> TopicMask:
        return TopicMask([rule], SECRET)

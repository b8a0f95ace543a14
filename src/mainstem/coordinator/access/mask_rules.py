"""The state machine of masking: the rules, and the secret from which hashes are made.

The secret is drawn with the first rule and never changes, so that equal values keep equal hashes. Owns: which
rules there are, and the masks that follow for a requester. Refuses: rules that name nothing; to show anything
of an event while the rules are being loaded again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeVar

import msgspec

from mainstem.access_contract import EVERYBODY, PatternType, Principal, Requester
from mainstem.coordinator.errors import InvalidMaskRule
from mainstem.coordinator.runtime.records import StateRecord
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.masking.mask import TopicMask
from mainstem.masking.rules import RULES_MAX, MaskKind, MaskPath, MaskRule, rules_for
from mainstem.promise import Promise

T = TypeVar("T")

SECRET_BYTES = 32
NAME_CHARS_MAX = 255
PRINCIPALS_MAX = 100
CACHED_MAX = 10_000
"""Masks in the cache, which is emptied when it is full."""

ALL_HIDDEN = MaskRule(
    "loading", "*", PatternType.LITERAL, MaskPath("field", ()), MaskKind.HIDDEN, (EVERYBODY,)
)


class MaskRulePut(StateRecord, frozen=True, array_like=True, tag="mask-rule-put"):
    """State record: there is this rule, and no other of its name."""

    name: str
    topic: str
    pattern: int
    path: str
    kind: int
    principals: tuple[str, ...]
    exempt: tuple[str, ...] = ()

    @property
    def rule(self) -> MaskRule:
        """The rule. ValueError: a number or a path that this version does not know."""
        return MaskRule(
            self.name,
            self.topic,
            PatternType(self.pattern),
            MaskPath.parse(self.path),
            MaskKind(self.kind),
            tuple(map(Principal.parse, self.principals)),
            tuple(map(Principal.parse, self.exempt)),
        )


class MaskRuleDeleted(StateRecord, frozen=True, array_like=True, tag="mask-rule-deleted"):
    """State record: there is no rule of this name any more."""

    name: str


class MaskSecretDrawn(StateRecord, frozen=True, array_like=True, tag="mask-secret-drawn"):
    """State record: hashes are made with this secret."""

    secret: bytes

    def __repr__(self) -> str:
        return "MaskSecretDrawn(...)"


class MaskRules:
    """The state machine. `runtime` is set once, before the first write. `is_super` says who sees everything:
    the super users."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]] = (MaskRulePut, MaskRuleDeleted, MaskSecretDrawn)
    runtime: Runtime

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.is_super: Callable[[Requester], bool] = lambda requester: False
        self.on_change: list[Callable[[], None]] = []
        self.reset()

    # --- the state machine --------------------------------------------------------------------------------

    def reset(self) -> None:
        """See `StateMachine`."""
        self._is_loading = True
        self._rules: dict[str, MaskRule] = {}
        self._secret = b""
        self._cache: dict[tuple[Principal, frozenset[Principal], str], TopicMask | None] = {}

    def apply(self, record: Any) -> None:
        """See `StateMachine`."""
        self._cache = {}
        match record:
            case MaskRulePut():
                self._rules[record.name] = record.rule
            case MaskRuleDeleted(name=name):
                del self._rules[name]
            case MaskSecretDrawn(secret=secret):
                self._secret = secret

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """See `StateMachine`."""
        secret = [MaskSecretDrawn(self._secret)] if self._secret else []
        return [*secret, *map(_record, self._rules.values())]

    # --- reading ------------------------------------------------------------------------------------------

    @property
    def _is_loaded(self) -> bool:
        """Whether all rules are known, which they are not while the state is loaded again."""
        if self._is_loading and self.runtime.fenced is None:
            self._is_loading = False
        return not self._is_loading

    @property
    def has_rules(self) -> bool:
        """See `masking.contract.Masks`."""
        return not self._is_loaded or bool(self._rules)

    def rules(self) -> Sequence[MaskRule]:
        """See `masking.contract.Masks`."""
        return sorted(self._rules.values())

    def mask_of(self, requester: Requester, topic: str) -> TopicMask | None:
        """See `masking.contract.Masks`."""
        if not self._is_loaded:
            return TopicMask([ALL_HIDDEN], self._secret)
        if not self._rules or self.is_super(requester):
            return None
        question = (requester.principal, requester.roles, topic)
        if question not in self._cache:
            if len(self._cache) >= CACHED_MAX:
                self._cache = {}
            rules = rules_for(self._rules.values(), requester, topic)
            self._cache[question] = TopicMask(rules, self._secret) if rules else None
        return self._cache[question]

    def preview(self, rule: MaskRule) -> TopicMask:
        """See `masking.contract.Masks`."""
        return TopicMask([rule], self._secret or bytes(SECRET_BYTES))

    # --- writing ------------------------------------------------------------------------------------------

    def put_rule(self, rule: MaskRule, *, validate_only: bool = False) -> Promise[None]:
        """See `masking.contract.Masks`. Fails with InvalidMaskRule, StorageError."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            _check(rule)
            if rule.name not in self._rules and len(self._rules) >= RULES_MAX:
                raise InvalidMaskRule(f"there are {RULES_MAX} masking rules already")
            if validate_only:
                return (), None
            secret = () if self._secret else (MaskSecretDrawn(self._rng.randbytes(SECRET_BYTES)),)
            return (*secret, _record(rule)), None

        return self._written(self.runtime.write(decide))

    def delete_rule(self, name: str) -> Promise[bool]:
        """See `masking.contract.Masks`. Fails with StorageError."""

        def decide() -> tuple[Sequence[msgspec.Struct], bool]:
            return ((MaskRuleDeleted(name),), True) if name in self._rules else ((), False)

        return self._written(self.runtime.write(decide))

    def _written(self, change: Promise[T]) -> Promise[T]:
        change.then(self._after_change)
        return change

    def _after_change(self, done: Promise[T]) -> None:
        for callback in self.on_change if done.error is None else ():
            callback()


def _check(rule: MaskRule) -> None:
    if not rule.name or len(rule.name) > NAME_CHARS_MAX:
        raise InvalidMaskRule(f"the name of a masking rule has 1 to {NAME_CHARS_MAX} characters")
    if not rule.topic or len(rule.topic) > NAME_CHARS_MAX:
        raise InvalidMaskRule(f"masking rule {rule.name}: the topic has 1 to {NAME_CHARS_MAX} characters")
    if rule.pattern not in (PatternType.LITERAL, PatternType.PREFIXED):
        raise InvalidMaskRule(f"masking rule {rule.name}: the pattern is literal or prefixed")
    if not rule.principals:
        raise InvalidMaskRule(f"masking rule {rule.name}: it applies to no user and no role")
    if len(rule.principals) + len(rule.exempt) > PRINCIPALS_MAX:
        raise InvalidMaskRule(
            f"masking rule {rule.name}: it names more than {PRINCIPALS_MAX} users and roles"
        )
    if any(len(principal.text) > 2 * NAME_CHARS_MAX for principal in (*rule.principals, *rule.exempt)):
        raise InvalidMaskRule(f"masking rule {rule.name}: the name of a user or role is too long")


def _record(rule: MaskRule) -> MaskRulePut:
    return MaskRulePut(
        rule.name,
        rule.topic,
        rule.pattern,
        rule.path.text,
        rule.kind,
        tuple(principal.text for principal in rule.principals),
        tuple(principal.text for principal in rule.exempt),
    )

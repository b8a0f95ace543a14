"""Policies: what an operator says of exchanges and queues whose names match a pattern.

Owns: policies, and which one applies: of those that match, the one with the highest priority. Refuses:
what follows from it (`queue_arguments.py`, `vhost.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from mainstem.amqp.errors import amqp_error
from mainstem.amqp.queue_arguments import POLICY_KEYS, TIME_MS_MAX
from mainstem.queues.settings import OVERFLOWS

AppliesTo: TypeAlias = Literal["all", "queues", "classic_queues", "quorum_queues", "streams", "exchanges"]
APPLIES_TO = ("all", "queues", "classic_queues", "quorum_queues", "streams", "exchanges")
EXCHANGE_KEYS = ("alternate-exchange",)
IGNORED_KEYS = frozenset({
    "ha-mode", "ha-params", "ha-sync-mode", "ha-promote-on-shutdown", "ha-promote-on-failure", "queue-mode",
    "queue-version", "queue-master-locator", "dead-letter-strategy", "max-age",
    "stream-max-segment-size-bytes", "initial-cluster-size", "max-in-memory-length", "max-in-memory-bytes",
})  # fmt: skip
"""What RabbitMQ knows and means nothing here: accepted, for definitions are imported with it."""
PATTERN_CHARACTERS_MAX = 1_000
NUMBERS_OF_OPERATORS = frozenset(
    {"expires", "message-ttl", "max-length", "max-length-bytes", "delivery-limit"}
)
"""What an operator policy may say."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy. One whose operator policy it is sets limits that no argument can exceed."""

    name: str
    pattern: str
    """A regular expression, which is searched in names."""
    definition: Mapping[str, Any]
    priority: int = 0
    apply_to: AppliesTo = "all"

    def applies(self, name: str, kind: str) -> bool:
        """Whether it applies to what has this name. `kind`: `exchange`, or the type of a queue."""
        wanted = self.apply_to
        is_kind = wanted == "all" or (
            (wanted == "exchanges") == (kind == "exchange")
            and wanted in ("exchanges", "queues", f"{kind}_queues", f"{kind}s")
        )
        return is_kind and re.search(self.pattern, name) is not None


def check_policy(policy: Policy, *, is_operator: bool) -> None:
    """AmqpError (406): the pattern, or what the policy says."""
    problem = _problem(policy, is_operator)
    if problem:
        raise amqp_error(406, f"policy '{policy.name}': {problem}")


def _problem(policy: Policy, is_operator: bool) -> str:
    if len(policy.pattern) > PATTERN_CHARACTERS_MAX:
        return f"a pattern of more than {PATTERN_CHARACTERS_MAX} characters"
    try:
        re.compile(policy.pattern)
    except re.error as error:
        return f"the pattern '{policy.pattern}' is no regular expression: {error}"
    if policy.apply_to not in APPLIES_TO:
        return f"apply-to is one of {', '.join(APPLIES_TO)}"
    if not policy.definition:
        return "the definition is empty"
    for key, value in policy.definition.items():
        if problem := _value_problem(key, value, is_operator):
            return problem
    return ""


def _value_problem(key: str, value: Any, is_operator: bool) -> str:
    allowed = NUMBERS_OF_OPERATORS if is_operator else {*POLICY_KEYS, *EXCHANGE_KEYS, *IGNORED_KEYS}
    if key not in allowed:
        return f"'{key}' is no setting of a policy"
    if key in IGNORED_KEYS:
        return ""
    if key in NUMBERS_OF_OPERATORS or key == "consumer-timeout":
        least = 1 if key == "expires" else -1 if key == "delivery-limit" else 0
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            return f"{key} is {least} or more, not {value!r}"
        if key in ("expires", "message-ttl") and value > TIME_MS_MAX:
            return f"{key} is at most {TIME_MS_MAX:,} ms"
        return ""
    if key == "overflow":
        return "" if value in OVERFLOWS else f"overflow is one of {', '.join(OVERFLOWS)}"
    return "" if isinstance(value, str) else f"{key} is text"


def applying(policies: Iterable[Policy], name: str, kind: str) -> Policy | None:
    """The policy that applies; of several with the highest priority, the first by name."""
    matching = [policy for policy in policies if policy.applies(name, kind)]
    return min(matching, key=lambda policy: (-policy.priority, policy.name), default=None)

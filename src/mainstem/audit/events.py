"""What the audit keeps of an action.

Owns: `AuditEvent`, its JSON, and how it is made of a decision, a login or an action of a door. Refuses:
secrets: there is no field for a password, a token or a payload.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from mainstem.access_contract import AccessDecision, Acl, Operation, PatternType, Requester, Resource

TEXT_CHARACTERS_MAX = 500
"""Most characters that are kept of a text that a client chose; the rest is cut off."""

AuditValue: TypeAlias = str | int | bool | None
ActionOutcome = Literal["done", "refused", "failed", "cut-off"]
"""Done; refused, for which the request is to blame; failed, for which the server is; cut-off, because the
client left."""
AuditOutcome: TypeAlias = ActionOutcome | Literal["allowed", "denied", "lost"]
"""Of an action, as above. Of a right that was asked for, or a login: allowed, denied. Of the audit: lost."""


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One action, or several equal ones of a short time."""

    time: str
    """When it ended, or the last of them; ISO 8601, UTC, with milliseconds."""
    principal: str
    """`User:alice`; of a login that failed, the name that was given."""
    host: str
    """The client's IP address."""
    client_id: str = ""
    action: str
    """`read`, `alter_configs` …: Kafka's operation, in lower case; `login`; or an action of the HTTP door,
    such as `export`."""
    resource_type: str = ""
    """`topic`, `group`, `cluster` …"""
    resource: str = ""
    """The name of the resource."""
    outcome: AuditOutcome
    rule: str = ""
    """The access control entry that decided."""
    reason: str = ""
    """Why, if no entry decided."""
    count: int = 1
    """Number of equal actions that this event is about."""
    details: dict[str, AuditValue] = msgspec.field(default_factory=dict)
    """What else the door knows of the action: numbers of events, the query, whether it was a dry run."""


def of_decision(
    time: str, requester: Requester, operation: Operation, resource: Resource, decision: AccessDecision
) -> AuditEvent:
    """The event of a decision about a right."""
    return AuditEvent(
        time=time,
        principal=_bounded(requester.principal.text),
        host=requester.host,
        client_id=_bounded(requester.client_id),
        action=operation.name.lower(),
        resource_type=resource.type.name.lower(),
        resource=_bounded(resource.name),
        outcome="allowed" if decision.allowed else "denied",
        rule="" if decision.acl is None else rule_text(decision.acl),
        reason=decision.reason,
    )


def of_login(
    time: str, principal: str, host: str, *, allowed: bool, mechanism: str, door: str, reason: str = ""
) -> AuditEvent:
    """The event of an authentication. `principal`: if it failed, as the client gave it."""
    return AuditEvent(
        time=time,
        principal=_bounded(principal),
        host=host,
        action="login",
        outcome="allowed" if allowed else "denied",
        reason=reason,
        details={"door": door, "mechanism": mechanism},
    )


def of_action(
    time: str,
    principal: str,
    host: str,
    action: str,
    outcome: ActionOutcome,
    details: Mapping[str, AuditValue],
) -> AuditEvent:
    """The event of an action of the HTTP door."""
    return AuditEvent(
        time=time,
        principal=_bounded(principal),
        host=host,
        action=action,
        outcome=outcome,
        details=bounded_values(details),
    )


def rule_text(acl: Acl) -> str:
    """The entry in a line: `ALLOW User:alice to READ TOPIC orders* from *`; a prefixed name ends in `*`."""
    name = f"{acl.name}*" if acl.pattern is PatternType.PREFIXED else acl.name
    return (
        f"{acl.permission.name} {acl.principal.text} to {acl.operation.name}"
        f" {acl.resource_type.name} {name} from {acl.host}"
    )


def bounded_values(values: Mapping[str, AuditValue]) -> dict[str, AuditValue]:
    """The values, texts cut off after TEXT_CHARACTERS_MAX."""
    return {name: _bounded(value) if isinstance(value, str) else value for name, value in values.items()}


def _bounded(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS_MAX else text[:TEXT_CHARACTERS_MAX]

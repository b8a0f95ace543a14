"""What is kept of requests to the management API: audit lines of changes, and what messages count for quotas.

Owns: which requests are refused for a quota. Refuses: rates, and where the audit is kept.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mainstem.amqp.errors import AmqpError
from mainstem.audit.events import ActionOutcome, AuditValue
from mainstem.audit.log_lines import write
from mainstem.contract import StreamError
from mainstem.doors.rabbitmq_management.refusals import ApiRefusal, refusal_of

if TYPE_CHECKING:
    from mainstem.doors.rabbitmq_management.request import ApiAnswer, ManagementRequest, ManagementRoute


async def handled(request: ManagementRequest, route: ManagementRoute) -> ApiAnswer:
    """Answer a request; write the audit line of a change."""
    if not route.changes or route.quota is not None:
        return await route.handle(request)
    outcome: ActionOutcome = "done"
    why: dict[str, AuditValue] = {}
    try:
        return await route.handle(request)
    except (AmqpError, StreamError, ApiRefusal) as error:
        refusal = error if isinstance(error, ApiRefusal) else refusal_of(error)
        outcome = "refused" if refusal.status < 500 else "failed"
        why = {"why": str(error)}
        raise
    except asyncio.CancelledError:
        outcome, why = "cut-off", {"why": "the client closed the connection, or the server stopped"}
        raise
    except BaseException as error:
        outcome, why = "failed", {"why": repr(error)}
        raise
    finally:
        _note(request, route, outcome, why)


def _note(
    request: ManagementRequest, route: ManagementRoute, outcome: ActionOutcome, why: dict[str, AuditValue]
) -> None:
    requester = request.requester
    action = f"rabbitmq {route.method} {route.path}"
    details: dict[str, AuditValue] = dict(request.parameters)
    who: dict[str, AuditValue] = {"peer": requester.host, "principal": requester.principal.text}
    write({"action": action, **who, **details, "outcome": outcome, **why})
    audit = request.context.door.audit
    if audit is not None:
        audit.acted(requester.principal.text, requester.host, action, outcome, {**details, **why})


def check_quota(request: ManagementRequest, route: ManagementRoute) -> None:
    """ApiRefusal (429): the requester has published or read more than its quota lately."""
    quotas, requester = request.context.door.access.quotas, request.requester
    if route.quota is None or not quotas.is_on:
        return
    delay_ms = quotas.excess_ms(route.quota, requester.principal.name, requester.client_id)
    if delay_ms:
        reason = f"the quota {route.quota} of this client is used up; there is room in {delay_ms:,} ms"
        headers = {"retry-after": str(-(-delay_ms // 1000))}
        raise ApiRefusal(429, "too_many_requests", reason, headers=headers)


def charge(request: ManagementRequest, route: ManagementRoute, size: int) -> None:
    """Count the bytes of a request, or an answer, with messages."""
    quotas, requester = request.context.door.access.quotas, request.requester
    if route.quota is not None and quotas.is_on:
        quotas.charge(route.quota, requester.principal.name, requester.client_id, size)

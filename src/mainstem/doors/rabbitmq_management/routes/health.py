"""Health checks, for load balancers and monitors.

Owns: `/api/health/checks/…`, `/api/aliveness-test/…`. Refuses: checks of several nodes: there is one, which
answers that it is the only one.
"""

from __future__ import annotations

from mainstem.doors.rabbitmq_management.refusals import bad_request
from mainstem.doors.rabbitmq_management.request import ApiAnswer, ManagementRequest, ManagementRoute, Tag
from mainstem.doors.rabbitmq_management.routes.overview import listeners

PROTOCOLS = {"amqp091": "amqp", "amqps": "amqp/ssl", "https": "http/ssl"}
"""Other names of protocols -> ours."""
SECONDS_OF_UNIT = {
    "days": 86_400,
    "weeks": 7 * 86_400,
    "months": 30 * 86_400,
    "years": 365 * 86_400,
}
OK = ApiAnswer(200, {"status": "ok"})


async def problems_check(request: ManagementRequest) -> ApiAnswer:
    """Whether every door serves as it should, and messages can be stored."""
    problems = [
        f"{status.title}: {problem}"
        for status in request.context.door.statuses()
        for problem in status.problems
    ]
    if (refusal := request.context.door.write_refusal()) is not None:
        problems.append(f"low on disk: {refusal}")
    if problems:
        return ApiAnswer(503, {"status": "failed", "reason": "; ".join(problems)})
    return OK


async def ok_check(request: ManagementRequest) -> ApiAnswer:
    """It answers, so it is well."""
    return OK


async def certificate_check(request: ManagementRequest) -> ApiAnswer:
    """Whether no certificate of a listener ends within this time."""
    within, unit = request.parameters["within"], request.parameters["unit"]
    if not (within.isascii() and within.isdigit() and len(within) <= 6) or unit not in SECONDS_OF_UNIT:
        raise bad_request("Invalid expiration unit or value")
    door = request.context.door
    until_s = door.clock.wall_ms() / 1000 + int(within) * SECONDS_OF_UNIT[unit]
    ends = [status.certificate_expires_at_s for status in door.statuses()]
    if any(end is not None and end <= until_s for end in ends):
        return ApiAnswer(503, {"status": "failed", "reason": "Certificates expiring"})
    return OK


async def only_node_check(request: ManagementRequest) -> ApiAnswer:
    """There is a single node."""
    return ApiAnswer(200, {"status": "ok", "reason": "single node cluster"})


async def port_check(request: ManagementRequest) -> ApiAnswer:
    """Whether a port of RabbitMQ's protocols is listened on."""
    text = request.parameters["port"]
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise bad_request("Invalid port")
    ports = [listener["port"] for listener in listeners(request)]
    if int(text) in ports:
        return ApiAnswer(200, {"status": "ok", "port": int(text)})
    failed = {"status": "failed", "reason": "No active listener", "missing": int(text), "ports": ports}
    return ApiAnswer(503, failed)


async def protocol_check(request: ManagementRequest) -> ApiAnswer:
    """Whether a protocol is listened for."""
    wanted = request.parameters["protocol"]
    wanted = PROTOCOLS.get(wanted, wanted)
    protocols = sorted({listener["protocol"] for listener in listeners(request)})
    if wanted in protocols:
        return ApiAnswer(200, {"status": "ok", "protocol": wanted})
    reason = "No active listener"
    return ApiAnswer(503, {"status": "failed", "reason": reason, "missing": wanted, "protocols": protocols})


async def alive(request: ManagementRequest) -> ApiAnswer:
    """Whether a virtual host is there."""
    request.vhost  # noqa: B018  # raises 404
    return OK


CHECKS = {
    "/health/checks/alarms": problems_check,
    "/health/checks/local-alarms": problems_check,
    "/health/checks/virtual-hosts": ok_check,
    "/health/checks/certificate-expiration/{within}/{unit}": certificate_check,
    "/health/checks/node-is-mirror-sync-critical": only_node_check,
    "/health/checks/node-is-quorum-critical": only_node_check,
    "/health/checks/port-listener/{port}": port_check,
    "/health/checks/protocol-listener/{protocol}": protocol_check,
    "/health/checks/is-in-service": ok_check,
    "/health/checks/ready-to-serve-clients": ok_check,
    "/healthchecks/node": problems_check,
    "/healthchecks/node/{node}": problems_check,
    "/aliveness-test/{vhost}": alive,
}
ROUTES = tuple(
    ManagementRoute(
        method="GET",
        path=path,
        handle=handle,
        rights=Tag.MANAGEMENT,
        lacks="no message is sent" if handle is alive else "",
    )
    for path, handle in CHECKS.items()
)

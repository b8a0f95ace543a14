"""Client quotas: list, set and delete them.

Owns: their JSON. Refuses: quotas in front of a Kafka cluster, which has its own; entities and values that
make no sense are refused where quotas are kept. The Kafka door has the same quotas (keys 48 and 49), and asks
for the same rights.
"""

from __future__ import annotations

from itertools import islice

from starlette.responses import Response

from mainstem.access_contract import Operation
from mainstem.doors.http import audit
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, json_response
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.rights import on_cluster
from mainstem.http_api.quotas import (
    ChangedQuotaJson,
    DeleteQuotaJson,
    QuotasJson,
    QuotasQuery,
    SetQuotaJson,
    change_quotas,
    matching,
    quota_json,
    value_text,
)
from mainstem.quota_contract import ClientQuotas

QUOTAS_PATH = "/api/v1/quotas"


def _quotas(call: Call) -> ClientQuotas:
    quotas = call.context.quotas
    if not quotas.is_offered:
        raise Problem(
            "not-offered",
            "client quotas are those of the Kafka cluster, which keeps them itself",
            fix="Change them by the cluster's own tools, such as kafka-configs.sh.",
        )
    return quotas


async def list_quotas(call: Call) -> Response:
    """List client quotas: of users, client ids, both, and addresses."""
    query: QuotasQuery = call.query
    try:
        rows = matching(_quotas(call).quotas(), query)
        page = list(islice(rows, query.skip, query.skip + query.limit + 1))
    except ValueError as error:
        raise Problem("unfit", str(error)) from None
    bodies = [body for entity, values in page[: query.limit] if (body := quota_json(entity, values))]
    return json_response(QuotasJson(bodies, query.skip + query.limit if len(page) > query.limit else None))


async def set_quota(call: Call) -> Response:
    """Set quotas of an entity. They hold from the next request of its clients on."""
    return await _changed(call, "set-quota", await call.json_body(SetQuotaJson))


async def delete_quota(call: Call) -> Response:
    """Delete quotas of an entity. Those that it does not have are ignored."""
    return await _changed(call, "delete-quota", await call.json_body(DeleteQuotaJson))


async def _changed(call: Call, action: str, body: SetQuotaJson | DeleteQuotaJson) -> Response:
    names = {"user": body.user, "client_id": body.client_id, "ip": body.ip}
    details = {name: value for name, value in names.items() if value is not None}
    changes = body.changes().items()
    values = ",".join(key if value is None else f"{key}={value_text(value)}" for key, value in changes)
    with audit.action(call, action, dry_run=body.dry_run, **details, quotas=values):
        try:
            reply = await change_quotas(_quotas(call), body)
        except ValueError as error:
            raise Problem("unfit", str(error)) from None
    return json_response(reply)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=QUOTAS_PATH,
        handle=list_quotas,
        rights=on_cluster(Operation.DESCRIBE_CONFIGS),
        tag="access",
        query=QuotasQuery,
        reply=QuotasJson,
        problems=("not-offered",),
    ),
    Endpoint(
        method="POST",
        path=QUOTAS_PATH,
        handle=set_quota,
        rights=on_cluster(Operation.ALTER_CONFIGS),
        tag="access",
        bodies={JSON: SetQuotaJson},
        reply=ChangedQuotaJson,
        problems=("not-offered",),
    ),
    Endpoint(
        method="POST",
        path=QUOTAS_PATH + ":delete",
        handle=delete_quota,
        rights=on_cluster(Operation.ALTER_CONFIGS),
        tag="access",
        bodies={JSON: DeleteQuotaJson},
        reply=ChangedQuotaJson,
        problems=("not-offered",),
    ),
)

"""Access control entries: list, add and delete them, and ask whether somebody may do something.

Owns: their JSON. Refuses: entries for hosts that are no addresses; the rest is refused by the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from starlette.responses import Response

from mainstem.access_contract import Acl, AclFilter, Operation, Principal, Requester, Resource, ResourceType
from mainstem.doors.http import audit
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, json_response
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.rights import on_cluster
from mainstem.http_api.access import (
    AccessAnswerJson,
    AccessQuestionJson,
    AclsJson,
    AclsQuery,
    ChangeAclsJson,
    ChangedAclsJson,
    acl_json,
    acl_of,
    answer_json,
    check_hosts,
    filter_of,
)

T = TypeVar("T")
ACLS_PATH = "/api/v1/acls"


def _fit(work: Callable[[], T]) -> T:
    """The result of `work`, whose ValueError is a refusal."""
    try:
        return work()
    except ValueError as error:
        raise Problem("unfit", str(error)) from None


async def list_acls(call: Call) -> Response:
    """List access control entries."""
    query: AclsQuery = call.query
    filter_ = _fit(lambda: filter_of(query))
    matching = call.context.admin.acls(filter_)
    end = query.skip + query.limit
    page = [acl_json(acl) for acl in matching[query.skip : end]]
    return json_response(AclsJson(page, end if end < len(matching) else None))


def _existing(call: Call, acls: list[Acl]) -> set[Acl]:
    return set(acls).intersection(call.context.admin.acls(AclFilter()))


async def add_acls(call: Call) -> Response:
    """Add access control entries. Those that exist stay as they are."""
    body = await call.json_body(ChangeAclsJson)
    with audit.action(call, "add-acls", dry_run=body.dry_run) as line:
        _fit(lambda: check_hosts(acl.host for acl in body.acls))
        acls = [acl_of(acl) for acl in dict.fromkeys(body.acls)]
        existing = _existing(call, acls)
        new = [acl for acl in acls if acl not in existing]
        line.count(acls=len(new))
        if not body.dry_run:
            await call.context.admin.create_acls(new)
    return json_response(ChangedAclsJson([acl_json(acl) for acl in new], body.dry_run))


async def delete_acls(call: Call) -> Response:
    """Delete access control entries. Those that do not exist are ignored."""
    body = await call.json_body(ChangeAclsJson)
    with audit.action(call, "delete-acls", dry_run=body.dry_run) as line:
        existing = sorted(_existing(call, [acl_of(acl) for acl in body.acls]))
        line.count(acls=len(existing))
        if not body.dry_run:
            await call.context.admin.delete_acls(existing)
    return json_response(ChangedAclsJson([acl_json(acl) for acl in existing], body.dry_run))


async def test_access(call: Call) -> Response:
    """Whether somebody may do something, and which entry decides. Nothing is done, and it is no attempt."""
    body = await call.json_body(AccessQuestionJson)
    requester = Requester(
        principal=Principal.parse(body.principal),
        roles=frozenset(Principal.parse(role) for role in body.roles),
        host=body.host,
    )
    resource = Resource(ResourceType[body.resource_type], body.name)
    decision = call.context.authorizer.decide(requester, Operation[body.operation], resource)
    return json_response(answer_json(decision))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=ACLS_PATH,
        handle=list_acls,
        rights=on_cluster(Operation.DESCRIBE),
        tag="access",
        query=AclsQuery,
        reply=AclsJson,
    ),
    Endpoint(
        method="POST",
        path=ACLS_PATH,
        handle=add_acls,
        rights=on_cluster(Operation.ALTER),
        tag="access",
        bodies={JSON: ChangeAclsJson},
        reply=ChangedAclsJson,
    ),
    Endpoint(
        method="POST",
        path=ACLS_PATH + ":delete",
        handle=delete_acls,
        rights=on_cluster(Operation.ALTER),
        tag="access",
        bodies={JSON: ChangeAclsJson},
        reply=ChangedAclsJson,
    ),
    Endpoint(
        method="POST",
        path=ACLS_PATH + ":test",
        handle=test_access,
        rights=on_cluster(Operation.DESCRIBE),
        tag="access",
        bodies={JSON: AccessQuestionJson},
        reply=AccessAnswerJson,
    ),
)

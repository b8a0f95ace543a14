"""Policies and operator policies: list, set, clear.

Owns: `/api/policies` and `/api/operator-policies`. Refuses: changes by users that may not ALTER the
virtual host, and of operator policies by all but administrators.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast, get_args

from mainstem.access_contract import Operation
from mainstem.amqp.policies import AppliesTo, Policy
from mainstem.amqp.vhost import Vhost
from mainstem.doors.rabbitmq_management import bodies
from mainstem.doors.rabbitmq_management.listing import plain_list
from mainstem.doors.rabbitmq_management.refusals import bad_request, not_in_api
from mainstem.doors.rabbitmq_management.request import (
    CREATED,
    NO_CONTENT,
    ApiAnswer,
    ManagementRequest,
    ManagementRoute,
    Tag,
)


def policy_json(vhost: str, policy: Policy) -> dict[str, Any]:
    """A policy."""
    return {
        "vhost": vhost,
        "name": policy.name,
        "pattern": policy.pattern,
        "apply-to": policy.apply_to,
        "definition": dict(policy.definition),
        "priority": policy.priority,
    }


def policy_of(name: str, body: dict[str, Any]) -> Policy:
    """The policy that a body describes. ApiRefusal: a member is missing, or of another type."""
    bodies.require_keys(body, "pattern", "definition")
    applies_to = bodies.text(body, "apply-to", "all")
    if applies_to not in get_args(AppliesTo):
        raise bad_request(f"Validation failed\n\n{applies_to} is not a kind of what a policy applies to\n")
    return Policy(
        name=name,
        pattern=bodies.text(body, "pattern"),
        definition=bodies.table(body, "definition"),
        priority=bodies.whole_number(body, "priority", 0),
        apply_to=cast(AppliesTo, applies_to),
    )


def policies_json(vhosts: Iterable[Vhost], kind: str) -> list[dict[str, Any]]:
    """The policies of a kind, `policies` or `operator_policies`."""
    return [
        policy_json(vhost.name, policies[name])
        for vhost in vhosts
        for policies in (vhost.operator_policies if kind == "operator_policies" else vhost.policies,)
        for name in sorted(policies)
    ]


def _routes(path: str, kind: str, tag: Tag) -> tuple[ManagementRoute, ...]:
    """The routes of a kind of policies."""
    is_operator = kind == "operator_policies"

    async def list_policies(request: ManagementRequest) -> ApiAnswer:
        """All policies."""
        items = policies_json(request.visible_vhosts(), kind)
        return await plain_list(request.query, request.context.door.clock, items)

    async def list_policies_of_vhost(request: ManagementRequest) -> ApiAnswer:
        """The policies of a virtual host."""
        items = policies_json([request.vhost], kind)
        return await plain_list(request.query, request.context.door.clock, items)

    async def get_policy(request: ManagementRequest) -> ApiAnswer:
        """A policy."""
        for item in policies_json([request.vhost], kind):
            if item["name"] == request.parameters["policy"]:
                return ApiAnswer(200, item)
        raise not_in_api()

    async def put_policy(request: ManagementRequest) -> ApiAnswer:
        """Set a policy."""
        vhost, name = request.vhost, request.parameters["policy"]
        policy = policy_of(name, await request.body())
        request.require_queue(Operation.ALTER, vhost.name, "")
        known = vhost.operator_policies if is_operator else vhost.policies
        is_new = name not in known
        await vhost.set_policy(policy, is_operator=is_operator)
        return CREATED if is_new else NO_CONTENT

    async def delete_policy(request: ManagementRequest) -> ApiAnswer:
        """Clear a policy."""
        vhost, name = request.vhost, request.parameters["policy"]
        request.require_queue(Operation.ALTER, vhost.name, "")
        if name not in (vhost.operator_policies if is_operator else vhost.policies):
            raise not_in_api()
        await vhost.clear_policy(name, is_operator=is_operator)
        return NO_CONTENT

    its_path = path + "/{vhost}/{policy}"
    return (
        ManagementRoute(method="GET", path=path, handle=list_policies, rights=Tag.MANAGEMENT),
        ManagementRoute(
            method="GET", path=path + "/{vhost}", handle=list_policies_of_vhost, rights=Tag.MANAGEMENT
        ),
        ManagementRoute(method="GET", path=its_path, handle=get_policy, rights=Tag.MANAGEMENT),
        ManagementRoute(method="PUT", path=its_path, handle=put_policy, rights=tag, changes=True),
        ManagementRoute(method="DELETE", path=its_path, handle=delete_policy, rights=tag, changes=True),
    )


ROUTES = (
    *_routes("/policies", "policies", Tag.MANAGEMENT),
    *_routes("/operator-policies", "operator_policies", Tag.ADMINISTRATOR),
)

"""Sessions of the console: log in and out, and who is logged in with which rights.

Owns: their JSON. Refuses: to say why a login failed.
"""

from __future__ import annotations

from starlette.responses import Response

from mainstem.access_contract import Operation, ResourceType
from mainstem.doors.http.endpoint import JSON, MANAGED_OPERATIONS, Call, Endpoint, json_response
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.requesters import BASIC
from mainstem.doors.http.rights import OPEN, RouteRights
from mainstem.doors.http.session_cookie import SESSION_PATH, end_session, set_cookie
from mainstem.http_api.sessions import LoggedOutJson, LoginJson, MeJson

SHOWN = (ResourceType.TOPIC, ResourceType.GROUP, ResourceType.SUBSCRIPTION, ResourceType.CLUSTER)
LOGIN_RIGHTS = RouteRights(login=False, also="user and password")


def _me(call: Call) -> MeJson:
    caller = call.caller
    rights: dict[str, list[str]] = {}
    for resource_type in SHOWN if caller.is_known else ():
        operations = [operation for operation in MANAGED_OPERATIONS if _may(call, operation, resource_type)]
        rights[resource_type.name.lower()] = [operation.name for operation in operations]
    return MeJson(
        principal=caller.requester.principal.text if caller.is_known else None,
        needs_login=caller.peer.listener.security.authenticates,
        has_session=caller.session is not None,
        provider=_issuer(call),
        access_control=call.context.authorizer.is_on,
        rights=rights,
    )


def _issuer(call: Call) -> str | None:
    provider = call.context.authentication.provider
    return None if provider is None else provider.issuer


def _may(call: Call, operation: Operation, resource_type: ResourceType) -> bool:
    """Whether the requester may do this to some resource of the type."""
    if not call.is_limited:
        return True
    if resource_type is ResourceType.CLUSTER:
        return call.rights.allows(operation, resource_type)
    if call.context.authorizer.allows_any(call.requester, operation, resource_type):
        return True
    is_creation = operation is Operation.CREATE and resource_type is ResourceType.TOPIC
    return is_creation and call.rights.allows(operation, ResourceType.CLUSTER)


async def show_me(call: Call) -> Response:
    """Show who is logged in, and what they may do."""
    return json_response(_me(call))


async def log_in(call: Call) -> Response:
    """Log in to the console: begin a session, whose token is in a cookie."""
    body = await call.json_body(LoginJson)
    peer = call.caller.peer
    if BASIC not in peer.listener.mechanisms:
        raise Problem(
            "not-offered",
            "at this address there is no login with a password",
            fix="Use an address whose security protocol and mechanisms allow it; see docs/SETTINGS.md.",
        )
    authentication = call.context.authentication
    identity = await authentication.check_password(body.user, body.password, peer, call.request.headers)
    end_session(call)
    token, caller = authentication.begin_session(identity, peer)
    call.become(caller)
    response = json_response(_me(call))
    set_cookie(response, peer, token, round(authentication.sessions.age_max_s))
    return response


async def log_out(call: Call) -> Response:
    """Log out: end the session of the cookie."""
    response = json_response(LoggedOutJson(end_session(call)))
    set_cookie(response, call.caller.peer, "", 0)
    return response


ENDPOINTS = (
    Endpoint(method="GET", path="/api/v1/me", handle=show_me, rights=OPEN, tag="sessions", reply=MeJson),
    Endpoint(
        method="POST",
        path=SESSION_PATH,
        handle=log_in,
        rights=LOGIN_RIGHTS,
        tag="sessions",
        bodies={JSON: LoginJson},
        reply=MeJson,
        problems=("unauthorized", "too-many-attempts", "not-offered"),
    ),
    Endpoint(
        method="DELETE",
        path=SESSION_PATH,
        handle=log_out,
        rights=OPEN,
        tag="sessions",
        reply=LoggedOutJson,
    ),
)

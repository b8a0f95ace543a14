"""Users: list, add and delete them, and change their passwords.

Owns: that a user is added only if there is none of its name, and changed only if there is. Refuses: passwords
in any form: clients send SCRAM verifiers; and to show a verifier.
"""

from __future__ import annotations

from bisect import bisect_right

from starlette.responses import Response

from mainstem.access_contract import Operation, ScramMechanism, ScramVerifier
from mainstem.contract import NoSuchUser
from mainstem.doors.http import audit
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, json_response
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.rights import on_cluster
from mainstem.http_api.access import (
    DeletedUserJson,
    NewUserJson,
    UserJson,
    UsersJson,
    UsersQuery,
    VerifierJson,
    VerifiersJson,
    user_json,
    verifier_of,
)
from mainstem.http_api.topics import DryRunQuery

USERS_PATH = "/api/v1/users"
USER_PATH = USERS_PATH + "/{user:text}"


def _verifiers(bodies: list[VerifierJson]) -> list[ScramVerifier]:
    try:
        return [verifier_of(body) for body in bodies]
    except ValueError as error:
        raise Problem("unfit", str(error)) from None


def _user(call: Call, name: str) -> UserJson:
    """The user of that name. NoSuchUser."""
    info = call.context.admin.user(name)
    if info is None:
        raise NoSuchUser(f"there is no user {name!r}")
    return user_json(info)


async def list_users(call: Call) -> Response:
    """List the users with their mechanisms."""
    query: UsersQuery = call.query
    infos = call.context.admin.users()
    start = bisect_right(infos, query.after, key=lambda info: info.name) if query.after else 0
    page = infos[start : start + query.limit]
    more = len(infos) > start + len(page)
    return json_response(UsersJson([user_json(info) for info in page], page[-1].name if more else None))


async def add_user(call: Call) -> Response:
    """Add a user, by the verifiers of its password."""
    body = await call.json_body(NewUserJson)
    with audit.action(call, "add-user", user=body.user):
        verifiers = _verifiers(body.verifiers)
        if call.context.admin.user(body.user) is not None:
            raise Problem("user-exists", f"there is a user {body.user!r} already")
        await call.context.admin.put_verifiers(body.user, verifiers)
    return json_response(_user(call, body.user), 201)


async def change_user(call: Call) -> Response:
    """Change the password of a user, by new verifiers. They replace all that the user has."""
    name = call.path_parameter("user")
    body = await call.json_body(VerifiersJson)
    with audit.action(call, "change-user", user=name):
        verifiers = _verifiers(body.verifiers)
        old = {mechanism for mechanism in ScramMechanism if call.context.admin.verifier(name, mechanism)}
        _user(call, name)
        await call.context.admin.put_verifiers(name, verifiers)
        others = old - {verifier.mechanism for verifier in verifiers}
        if others:
            await call.context.admin.delete_verifiers(name, sorted(others))
    return json_response(_user(call, name))


async def delete_user(call: Call) -> Response:
    """Delete a user. Their connections are closed; entries about them stay."""
    name, dry_run = call.path_parameter("user"), call.query.dry_run
    with audit.action(call, "delete-user", dry_run=dry_run, user=name):
        _user(call, name)
        if not dry_run:
            await call.context.admin.delete_verifiers(name, tuple(ScramMechanism))
    return json_response(DeletedUserJson(name, dry_run))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=USERS_PATH,
        handle=list_users,
        rights=on_cluster(Operation.DESCRIBE),
        tag="access",
        query=UsersQuery,
        reply=UsersJson,
        link_sources={"user": "/users/0/user"},
    ),
    Endpoint(
        method="POST",
        path=USERS_PATH,
        handle=add_user,
        rights=on_cluster(Operation.ALTER),
        tag="access",
        bodies={JSON: NewUserJson},
        reply=UserJson,
        status=201,
        problems=("user-exists",),
        link_sources={"user": "/user"},
    ),
    Endpoint(
        method="PATCH",
        path=USER_PATH,
        handle=change_user,
        rights=on_cluster(Operation.ALTER),
        tag="access",
        bodies={JSON: VerifiersJson},
        reply=UserJson,
        problems=("unknown-user",),
    ),
    Endpoint(
        method="DELETE",
        path=USER_PATH,
        handle=delete_user,
        rights=on_cluster(Operation.ALTER),
        tag="access",
        query=DryRunQuery,
        reply=DeletedUserJson,
        problems=("unknown-user",),
    ),
)

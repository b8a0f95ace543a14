"""API tokens: make, list and delete them.

Owns: who may: everybody their own, and who may ALTER the cluster those of all. Refuses: to make a token for
who comes with a token, which would outlive its scopes and its time, or to delete any for them; and to show a
token twice.
"""

from __future__ import annotations

from msgspec import UNSET
from starlette.responses import Response

from mainstem.access_contract import USER, ApiToken, ApiTokenStore, Operation, ResourceType
from mainstem.contract import NoSuchToken, NotAuthorized
from mainstem.doors.http import audit
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, json_response
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.rights import inside
from mainstem.http_api.tokens import (
    ApiTokenJson,
    ApiTokensJson,
    DeletedApiTokenJson,
    MadeApiTokenJson,
    NewApiTokenJson,
    new_token,
    token_json,
)

TOKENS_PATH = "/api/v1/tokens"
OF_PROVIDER_MS_MAX = 30 * 86_400_000
"""How long a token lasts that has the roles of a login by the provider."""
RIGHTS = inside("one's own; those of others need ALTER on the cluster")


def _store(call: Call) -> ApiTokenStore:
    store = call.context.api_tokens
    if store is None:
        raise Problem("not-offered", "API tokens are not kept in front of a Kafka cluster")
    return store


def _manages_all(call: Call) -> bool:
    return not call.is_limited or call.rights.allows(Operation.ALTER, ResourceType.CLUSTER)


def _is_own(call: Call, user: str) -> bool:
    principal = call.requester.principal
    return call.caller.has_logged_in and principal.type == USER and principal.name == user


def _require(call: Call, user: str) -> None:
    if not _is_own(call, user):
        call.rights.require(Operation.ALTER, ResourceType.CLUSTER)


def _json(call: Call, token: ApiToken, now_ms: int) -> ApiTokenJson:
    return token_json(token, now_ms, call.context.authentication.token_uses.last_ms(token.id))


async def list_tokens(call: Call) -> Response:
    """List API tokens: one's own, or those of all users."""
    now_ms, sees_all = call.context.clock.wall_ms(), _manages_all(call)
    tokens = [token for token in _store(call).tokens() if sees_all or _is_own(call, token.user)]
    return json_response(ApiTokensJson([_json(call, token, now_ms) for token in tokens]))


async def make_token(call: Call) -> Response:
    """Make an API token. It is shown in this reply, and never again."""
    body = await call.json_body(NewApiTokenJson)
    store = _store(call)
    if call.requester.scopes is not None:
        raise NotAuthorized("an API token makes no API tokens; log in to make them")
    user = call.requester.principal.name if body.user is UNSET else body.user
    _require(call, user)
    session = call.caller.session
    is_of_provider = session is not None and session.by_provider and _is_own(call, user)
    if is_of_provider and body.expires_in_ms > OF_PROVIDER_MS_MAX:
        raise Problem(
            "unfit",
            "a token of a login by the provider lasts 30 days at most: the provider does not say here when"
            " you lose a role",
        )
    now_ms = call.context.clock.wall_ms()
    roles = call.requester.roles if is_of_provider else frozenset()
    secret, token, digest = new_token(
        body,
        user,
        now_ms,
        call.context.authentication.random_bytes,
        roles=roles,
        is_of_provider=is_of_provider,
    )
    scopes = ",".join(sorted(token.scopes)) or "*"
    with audit.action(call, "make-token", token=token.id, user=user, scopes=scopes):
        await store.add(token, digest)
    return json_response(MadeApiTokenJson(secret, _json(call, token, now_ms)), 201)


async def delete_token(call: Call) -> Response:
    """Delete an API token. Requests that came with it end."""
    store, id_ = _store(call), call.path_parameter("token")
    token = next((token for token in store.tokens() if token.id == id_), None)
    if token is None or not (_is_own(call, token.user) or _manages_all(call)):
        raise NoSuchToken(f"there is no API token {id_[:60]!r}")
    if call.requester.scopes is not None:
        raise NotAuthorized("an API token deletes no API tokens; log in to delete them")
    with audit.action(call, "delete-token", token=id_, user=token.user):
        await store.delete(id_)
    return json_response(DeletedApiTokenJson(id_))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=TOKENS_PATH,
        handle=list_tokens,
        rights=RIGHTS,
        tag="tokens",
        reply=ApiTokensJson,
        problems=("not-offered",),
    ),
    Endpoint(
        method="POST",
        path=TOKENS_PATH,
        handle=make_token,
        rights=RIGHTS,
        tag="tokens",
        bodies={JSON: NewApiTokenJson},
        reply=MadeApiTokenJson,
        status=201,
        problems=("not-offered",),
        link_sources={"token": "/about/id"},
    ),
    Endpoint(
        method="DELETE",
        path=TOKENS_PATH + "/{token:word}",
        handle=delete_token,
        rights=RIGHTS,
        tag="tokens",
        reply=DeletedApiTokenJson,
        problems=("not-offered", "unknown-token"),
    ),
)

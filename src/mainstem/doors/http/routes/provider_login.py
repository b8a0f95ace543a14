"""Logging in to the console by an OpenID Connect provider: to the provider, and back.

Owns: the cookie that binds a login to the browser that began it, and where the browser is sent at the end.
Refuses: to send it to another site.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.responses import RedirectResponse, Response

from mainstem.authentication.identity import BearerUnavailable, Identity
from mainstem.authentication.oidc import LOGIN_S, OidcLogins
from mainstem.doors.http.endpoint import Call, Endpoint
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.rights import OPEN
from mainstem.doors.http.session_cookie import SESSION_PATH, end_session, set_cookie

PROVIDER_PATH = SESSION_PATH + "/oidc"
COOKIE = "mainstem-login"
FRAGMENT_CHARACTERS_MAX = 2_000
FAILED = "/?login=failed"
"""Where the browser goes if the provider does not confirm the person."""
UNREACHABLE = "/?login=unreachable"
"""Where it goes if the provider cannot be asked."""


class ProviderLoginQuery(msgspec.Struct):
    """Where to go on after the login."""

    to: Annotated[
        str,
        Meta(
            max_length=FRAGMENT_CHARACTERS_MAX,
            description="The fragment of a page of the console: `#/topics`.",
        ),
    ] = ""


class ProviderAnswerQuery(msgspec.Struct):
    """What the provider sends by the browser (RFC 6749, 4.1.2)."""

    state: Annotated[str, Meta(max_length=200)] = ""
    code: Annotated[str, Meta(max_length=4_096)] = ""
    error: Annotated[str, Meta(max_length=500)] = ""
    iss: Annotated[str, Meta(max_length=4_096, description="The issuer (RFC 9207).")] = ""


async def begin_provider_login(call: Call) -> Response:
    """Send the browser to the login provider."""
    try:
        start = await _provider(call).begin(_redirect_address(call))
    except BearerUnavailable:
        return RedirectResponse(UNREACHABLE, 303)
    response = RedirectResponse(start.url, 303)
    fragment = base64.urlsafe_b64encode(call.query.to.encode()).decode()
    _set_login_cookie(call, response, f"{start.state}.{fragment}", round(LOGIN_S))
    return response


async def end_provider_login(call: Call) -> Response:
    """Take what the login provider sends by the browser, and begin a session of the console."""
    answer: ProviderAnswerQuery = call.query
    provider, peer = _provider(call), call.caller.peer
    state, _, fragment = call.request.cookies.get(COOKIE, "").partition(".")
    response = RedirectResponse(FAILED, 303)
    is_of_provider = answer.iss in ("", provider.issuer)
    if state and answer.code and not answer.error and is_of_provider:
        authentication = call.context.authentication
        try:
            identity = await authentication.check_provider(
                answer.state, state, answer.code, peer, call.request.headers
            )
        except Problem:
            pass  # the browser shows the login again; the audit says why
        else:
            await _end_tokens_beyond(call, identity)
            end_session(call)
            token, _ = authentication.begin_session(identity, peer, by_provider=True)
            response = RedirectResponse("/" + _page(fragment), 303)
            set_cookie(response, peer, token, round(authentication.sessions.age_max_s))
    _set_login_cookie(call, response, "", 0)
    return response


async def _end_tokens_beyond(call: Call, identity: Identity) -> None:
    """Delete the API tokens of a user with roles that the provider no longer names."""
    store = call.context.api_tokens
    if store is None:
        return
    for token in store.tokens():
        if token.user == identity.principal.name and not token.roles <= identity.roles:
            await store.delete(token.id)


def _provider(call: Call) -> OidcLogins:
    provider = call.context.authentication.provider
    if provider is None or not call.caller.peer.listener.security.authenticates:
        raise Problem(
            "not-offered",
            "at this address there is no login by a provider",
            fix="Set http_oidc_issuer, and use an address whose security protocol authenticates.",
        )
    return provider


def _redirect_address(call: Call) -> str:
    given: str | None = call.context.oidc_redirect
    if given:
        return given
    scheme = "https" if call.caller.peer.listener.security.tls else "http"
    return f"{scheme}://{call.request.headers['host']}{PROVIDER_PATH}/callback"


def _page(fragment: str) -> str:
    """The fragment that the cookie kept, if it is one of the console."""
    try:
        text = base64.urlsafe_b64decode(fragment).decode()
    except (ValueError, binascii.Error):
        return ""
    return text if text.startswith("#/") and text.isprintable() else ""


def _set_login_cookie(call: Call, response: Response, value: str, age_s: int) -> None:
    """`SameSite=Lax`: the browser comes back from another site."""
    response.set_cookie(
        COOKIE,
        value,
        max_age=age_s,
        path=PROVIDER_PATH,
        secure=call.caller.peer.listener.security.tls,
        httponly=True,
        samesite="lax",
    )


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=PROVIDER_PATH,
        handle=begin_provider_login,
        rights=OPEN,
        tag="sessions",
        query=ProviderLoginQuery,
        status=303,
        problems=("not-offered",),
    ),
    Endpoint(
        method="GET",
        path=PROVIDER_PATH + "/callback",
        handle=end_provider_login,
        rights=OPEN,
        tag="sessions",
        query=ProviderAnswerQuery,
        ignores_parameters=True,
        status=303,
        problems=("not-offered",),
    ),
)

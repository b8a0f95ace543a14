"""What receivers of pushed events need to verify the tokens of this server, for everybody."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from mainstem.door_contract import PublishesTokenKeys
from mainstem.doors.http.endpoint import Call, Endpoint, json_response
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.rights import OPEN
from mainstem.http_api.push_keys import TokenIssuerJson, TokenKeyJson, TokenKeysJson

KEYS_PATH = "/.well-known/jwks.json"
CACHED = {"cache-control": "public, max-age=300"}
"""Receivers may keep the keys, and ask again when a token names one that they do not have."""


def _published(call: Call) -> tuple[PublishesTokenKeys, str]:
    keys = call.context.token_keys
    if keys is None or keys.issuer is None:
        raise Problem("not-offered", "this server signs no tokens: set push_issuer")
    return keys, keys.issuer


async def show_push_keys(call: Call) -> Response:
    """Show the keys by which receivers verify the tokens of pushed events."""
    keys, _ = _published(call)
    rows = [msgspec.convert(dict(key), TokenKeyJson) for key in await keys.public_keys()]
    return json_response(TokenKeysJson(rows), headers=CACHED)


async def show_push_issuer(call: Call) -> Response:
    """Describe the issuer of the tokens of pushed events: where its keys are, and how it signs."""
    _, issuer = _published(call)
    description = TokenIssuerJson(
        issuer=issuer,
        jwks_uri=issuer + KEYS_PATH,
        id_token_signing_alg_values_supported=["ES256"],
        claims_supported=["iss", "aud", "sub", "iat", "exp"],
        response_types_supported=["id_token"],
        subject_types_supported=["public"],
    )
    return json_response(description, headers=CACHED)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=KEYS_PATH,
        handle=show_push_keys,
        rights=OPEN,
        tag="subscriptions",
        reply=TokenKeysJson,
        problems=("not-offered",),
    ),
    Endpoint(
        method="GET",
        path="/.well-known/openid-configuration",
        handle=show_push_issuer,
        rights=OPEN,
        tag="subscriptions",
        reply=TokenIssuerJson,
        problems=("not-offered",),
    ),
)

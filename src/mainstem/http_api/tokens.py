"""The JSON of API tokens, and its translation to the words of the access contract.

Owns: the form of a token, and that only its hash is kept. Refuses: to keep or to read tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainstem import base64url
from mainstem.access_contract import ApiToken, Principal
from mainstem.timespec import format_iso

TOKEN_BYTES, ID_BYTES = 32, 8
"""Random bytes of a token, and of its id."""
TOKEN_PREFIX = "mst_"
"""What every API token begins with."""
EXPIRY_MS_MAX = 366 * 86_400_000
SCOPE_PATTERN = r"^(read-only|(topics|groups|subscriptions):.{1,249})$"

Scope = Annotated[str, Meta(pattern=SCOPE_PATTERN, max_length=300)]


class NewApiTokenJson(msgspec.Struct, forbid_unknown_fields=True):
    """A token to make."""

    name: Annotated[str, Meta(min_length=1, max_length=100, description="For people: what it is for.")]
    expires_in_ms: Annotated[
        int, Meta(ge=60_000, le=EXPIRY_MS_MAX, description="How long it lasts, in ms: at most a year.")
    ]
    user: Annotated[
        str | UnsetType,
        Meta(description="Whose it is; absent: that of who asks. Another's needs ALTER on the cluster."),
    ] = UNSET
    scopes: Annotated[
        list[Scope],
        Meta(
            max_length=50,
            description=(
                "What it is limited to: `read-only`, `topics:PREFIX`, `groups:PREFIX`,"
                " `subscriptions:PREFIX`. Empty: it has all rights of its user."
            ),
        ),
    ] = []


class ApiTokenJson(msgspec.Struct):
    """What is known of a token."""

    id: str
    user: str
    name: str
    scopes: list[str]
    created: Annotated[str, Meta(description="ISO 8601.")]
    expires: Annotated[str, Meta(description="ISO 8601.")]
    expired: bool
    last_used: Annotated[
        str | None,
        Meta(description="When a request last came with it, ISO 8601; null: not since the server started."),
    ]
    roles: Annotated[
        list[str], Meta(description="Role:NAME for each role of the login by a provider that it was made in.")
    ] = []


class ApiTokensJson(msgspec.Struct):
    """Tokens, by user and time."""

    tokens: list[ApiTokenJson]


class MadeApiTokenJson(msgspec.Struct):
    """A token that was made."""

    token: Annotated[str, Meta(description="The token itself, shown this once: the server has its hash.")]
    about: ApiTokenJson


class DeletedApiTokenJson(msgspec.Struct):
    """A token that was deleted."""

    id: str


def new_token(
    body: NewApiTokenJson,
    user: str,
    now_ms: int,
    random_bytes: Callable[[int], bytes],
    *,
    roles: frozenset[Principal] = frozenset(),
    is_of_provider: bool = False,
) -> tuple[str, ApiToken, bytes]:
    """A token of a user as `body` asks for it: the token itself, what is known of it, and its hash. `roles`,
    `is_of_provider`: see `ApiToken`."""
    secret = TOKEN_PREFIX + base64url.encode(random_bytes(TOKEN_BYTES))
    token = ApiToken(
        id=random_bytes(ID_BYTES).hex(),  # an argument of commands: it never begins with a hyphen
        user=user,
        name=body.name,
        scopes=frozenset(body.scopes),
        created_ms=now_ms,
        expires_ms=now_ms + body.expires_in_ms,
        roles=roles,
        is_of_provider=is_of_provider,
    )
    return secret, token, token_digest(secret)


def token_digest(secret: str) -> bytes:
    """The hash of a token, by which it is found. It may be any text that a client sends."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def token_json(token: ApiToken, now_ms: int, used_ms: int | None = None) -> ApiTokenJson:
    """What is known of a token, at this time. `used_ms`: when a request last came with it; None: it is not
    known that one did."""
    return ApiTokenJson(
        token.id,
        token.user,
        token.name,
        sorted(token.scopes),
        format_iso(token.created_ms),
        format_iso(token.expires_ms),
        token.expires_ms <= now_ms,
        None if used_ms is None else format_iso(used_ms),
        sorted(role.text for role in token.roles),
    )

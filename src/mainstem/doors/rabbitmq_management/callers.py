"""Who sends a request to the management API.

Owns: Basic credentials at the API's own address. Refuses: any difference between an unknown user and a wrong
password. Where the listener asks for no login, credentials only name the user that answers show; below the
HTTP door that door has checked them.
"""

from __future__ import annotations

import math
from base64 import b64decode
from typing import TYPE_CHECKING

from mainstem.access_contract import Requester
from mainstem.authentication.identity import AuthenticationFailed, TooManyAttempts
from mainstem.doors.rabbitmq_management.refusals import ApiRefusal

if TYPE_CHECKING:
    from mainstem.access_contract import Principal
    from mainstem.authentication.service import Authentication
    from mainstem.doors.contract import Listener

DOOR = "rabbitmq_management"
GUEST = "guest"
"""The user that RabbitMQ has at first; here the name of who need not log in."""
CHALLENGE = {"www-authenticate": 'Basic realm="RabbitMQ Management"'}


async def requester_of(
    credentials: str | None,
    *,
    listener: Listener,
    host: str,
    principal: Principal,
    authentication: Authentication,
) -> Requester:
    """Who sends a request with this Authorization header from `host`. `principal`: who it is without a login.
    ApiRefusal: 401, or 429 after too many attempts."""
    if not listener.security.authenticates or (
        credentials is None and principal != listener.default_principal  # a certificate names it
    ):
        return Requester(principal=principal, host=host)
    user, password = basic_credentials(credentials)
    if "PLAIN" not in listener.mechanisms:
        raise _login_failed()
    try:
        identity = await authentication.check_password(user, password, host, door=DOOR)
    except TooManyAttempts as error:
        wait_s = max(1, math.ceil(error.retry_after_s))
        headers = {"retry-after": str(wait_s)}
        raise ApiRefusal(429, "too_many_attempts", f"try again in {wait_s} s", headers=headers) from None
    except AuthenticationFailed:
        raise _login_failed() from None
    return Requester(principal=identity.principal, roles=identity.roles, host=host)


def basic_credentials(credentials: str | None) -> tuple[str, str]:
    """User and password of an Authorization header. ApiRefusal: it has none (RFC 7617)."""
    scheme, _, given = (credentials or "").partition(" ")
    if scheme.lower() != "basic":
        raise ApiRefusal(401, "not_authorised", "Login failed", headers=CHALLENGE)
    try:
        user, colon, password = b64decode(given.strip(), validate=True).decode().partition(":")
    except ValueError:
        raise _login_failed() from None
    if not colon:
        raise _login_failed()
    return user, password


def shown_name(credentials: str | None, requester: Requester, *, is_anonymous: bool) -> str:
    """The name of the user in answers: that of the requester, or what the credentials say if the server does
    not check them."""
    if not is_anonymous:
        return requester.principal.name
    try:
        return basic_credentials(credentials)[0] or GUEST
    except ApiRefusal:
        return GUEST


def _login_failed() -> ApiRefusal:
    return ApiRefusal(401, "not_authorized", "Login failed", headers=CHALLENGE)

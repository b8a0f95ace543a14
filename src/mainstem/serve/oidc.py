"""The login provider of the settings, if there is one.

Owns: the settings about it, and the client secret in its file. Refuses: a start with half of the settings, an
issuer without TLS on another machine, and a secret that others may read.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mainstem.authentication.oidc import OidcLogins, OidcRules, check_address
from mainstem.serve.documents import read_document
from mainstem.serve.errors import CannotServe

if TYPE_CHECKING:
    from mainstem.authentication.passwords import WorkerThread
    from mainstem.clock import Clock
    from mainstem.settings import Settings

log = logging.getLogger("mainstem.authentication")

SECRET_MAX_BYTES = 4_096


def oidc_rules(settings: Settings) -> OidcRules | None:
    """What the settings say of the provider; None: nothing. CannotServe(usage)."""
    values = settings.door_values
    issuer, client_id = values.get("http_oidc_issuer"), values.get("http_oidc_client_id")
    if not issuer:
        if client_id:
            raise CannotServe("usage", "http_oidc_client_id is set, but http_oidc_issuer is not")
        return None
    try:
        check_address(issuer)
    except ValueError as error:
        raise CannotServe("usage", f"http_oidc_issuer: {error}") from None
    if not client_id:
        raise CannotServe("usage", "http_oidc_issuer is set, but http_oidc_client_id is not")
    optional: dict[str, Any] = {
        name: values[f"http_oidc_{name}"]
        for name in ("scopes", "user_claim", "roles_claim")
        if values.get(f"http_oidc_{name}")
    }
    secret = _secret(values.get("http_oidc_client_secret_file"))
    return OidcRules(issuer=issuer, client_id=client_id, client_secret=secret, **optional)


def oidc_logins(
    rules: OidcRules | None, worker: WorkerThread, clock: Clock, random: Callable[[int], bytes]
) -> OidcLogins | None:
    """The logins by the provider."""
    return None if rules is None else OidcLogins(rules, read_document, worker, clock, random, log.warning)


def _secret(path: str | None) -> str:
    if not path:
        return ""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            mode = os.fstat(descriptor).st_mode
            secret = os.read(descriptor, SECRET_MAX_BYTES).decode().strip()
        finally:
            os.close(descriptor)
    except (OSError, UnicodeDecodeError) as error:
        raise CannotServe("usage", f"http_oidc_client_secret_file {path}: {error}") from None
    if mode & 0o077:
        raise CannotServe(
            "refused", f"http_oidc_client_secret_file {path}: others may read it; chmod 600 {path}"
        )
    if not secret:
        raise CannotServe("usage", f"http_oidc_client_secret_file {path} is empty")
    return secret

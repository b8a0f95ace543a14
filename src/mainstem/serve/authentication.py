"""Puts the server's authentication together: worker threads, keys for tokens, the secret behind decoys.

Owns: the threads that derive keys and read key sets, and reading a JWKS from a file or by HTTPS. Refuses: to
start with OAUTHBEARER unless keys, issuer and audience are set, and a key set by HTTP from another machine.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from mainstem.authentication.jwks import KeySource, KeysUnreadable, parse_keys
from mainstem.authentication.jwt import OAUTHBEARER, TokenChecks, TokenRules
from mainstem.authentication.service import Authentication
from mainstem.doors.net.address import is_loopback
from mainstem.promise import Promise
from mainstem.serve.documents import read_document
from mainstem.serve.errors import CannotServe
from mainstem.serve.oidc import oidc_logins, oidc_rules

if TYPE_CHECKING:
    from mainstem.access_contract import AccessAdmin
    from mainstem.clock import Clock
    from mainstem.doors.contract import Listener
    from mainstem.settings import Settings

log = logging.getLogger("mainstem.authentication")

T = TypeVar("T")

PASSWORD_THREADS = 2


class Threads:
    """Threads beside the event loop. Implements `passwords.WorkerThread`."""

    def __init__(self, name: str, count: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix=name)

    def run(self, function: Callable[[], T]) -> Promise[T]:
        """See `WorkerThread`."""
        promise: Promise[T] = Promise()

        def done(future: asyncio.Future[T]) -> None:
            if future.cancelled():
                promise.fail(RuntimeError("the server stops"))
            elif (error := future.exception()) is not None:
                promise.fail(error)
            else:
                promise.resolve(future.result())

        self._loop.run_in_executor(self._pool, function).add_done_callback(done)
        return promise

    def close(self) -> None:
        """Start nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class ServerAuthentication(Authentication):
    """The authentication with its threads. `folder_secret`: what only this data folder has;
    None: there is no folder, and nothing that is to be the same after a restart."""

    def __init__(
        self, settings: Settings, admin: AccessAdmin, clock: Clock, folder_secret: bytes | None
    ) -> None:
        self._threads = [Threads("mainstem-password", PASSWORD_THREADS), Threads("mainstem-keys", 1)]
        super().__init__(
            admin=admin,
            clock=clock,
            worker=self._threads[0],
            random=os.urandom,
            secret=hashlib.sha256(b"mainstem decoys\0" + (folder_secret or os.urandom(32))).digest(),
            tokens=_token_checks(settings, clock, self._threads[1]),
            provider=oidc_logins(oidc_rules(settings), self._threads[1], clock, os.urandom),
        )

    def close(self) -> None:
        """End the threads; checks that wait fail."""
        for threads in self._threads:
            threads.close()


def check_settings(settings: Settings, listeners: Iterable[Listener]) -> None:
    """CannotServe if the settings about tokens or the login provider make no sense, or the file of keys has
    none."""
    oidc_rules(settings)
    url = settings.sasl_oauthbearer_jwks_endpoint_url
    if not url:
        if any(OAUTHBEARER in listener.mechanisms for listener in listeners):
            raise _refusal("OAUTHBEARER is enabled, so sasl_oauthbearer_jwks_endpoint_url is")
        return
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http", "file") or (parts.scheme != "file" and not parts.hostname):
        raise CannotServe(
            "usage", f"sasl_oauthbearer_jwks_endpoint_url: {url!r} is no https:// or file:/// address"
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise CannotServe(
            "usage", "sasl_oauthbearer_jwks_endpoint_url: keys by HTTP could be anybody's; use https://"
        )
    if not settings.sasl_oauthbearer_expected_issuer:
        raise _refusal("tokens are accepted, so sasl_oauthbearer_expected_issuer is")
    if not settings.sasl_oauthbearer_expected_audience:
        raise _refusal("tokens are accepted, so sasl_oauthbearer_expected_audience is")
    if parts.scheme == "file":
        try:
            parse_keys(read_document(url))
        except (OSError, KeysUnreadable) as error:
            raise CannotServe("usage", f"sasl_oauthbearer_jwks_endpoint_url: {url}: {error}") from None


def _refusal(what: str) -> CannotServe:
    return CannotServe("usage", f"{what} needed: without it anybody's token would be good")


def _token_checks(settings: Settings, clock: Clock, worker: Threads) -> TokenChecks | None:
    url = settings.sasl_oauthbearer_jwks_endpoint_url
    if not url:
        return None
    source = KeySource(
        partial(read_document, url),
        worker,
        clock,
        refresh_s=settings.sasl_oauthbearer_jwks_endpoint_refresh_ms / 1000,
        max_age_s=settings.oauthbearer_keys_max_age_ms / 1000,
        warn=lambda text: log.warning("%s (%s)", text, url),
    )
    rules = TokenRules(
        issuer=settings.sasl_oauthbearer_expected_issuer,
        audience=settings.sasl_oauthbearer_expected_audience,
        clock_skew_s=settings.sasl_oauthbearer_clock_skew_seconds,
        user_claim=settings.sasl_oauthbearer_sub_claim_name,
        roles_claim=settings.oauthbearer_roles_claim,
    )
    return TokenChecks(source, rules, clock)

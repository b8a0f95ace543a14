"""The certificates of a server's listeners, from its settings to their end.

Owns: which files belong to which listener, reading them again when they change, and warnings about those that
end soon or are not for the name that clients are given. Refuses: nothing; `doors.net.tls` judges the files.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mainstem.doors.contract import Listener
from mainstem.doors.net.principal_rules import PrincipalRules, RuleError
from mainstem.doors.net.tls import VERIFY, VERSIONS, ServerTls, TlsError, TlsOptions
from mainstem.serve.errors import CannotServe
from mainstem.serve.listener_names import ListenerNames

if TYPE_CHECKING:
    from mainstem.clock import Clock

log = logging.getLogger("mainstem.serve.certificate_watch")

WARN_DAYS = 30
DAY_SECONDS = 86_400


def server_tls(name: str, names: ListenerNames, alpn: Sequence[str]) -> ServerTls:
    """The TLS of the listener `name`. CannotServe: its settings make no sense, or its files are unusable."""
    certs = [path.strip() for path in names.value(name, "tls_cert").split(",") if path.strip()]
    keys = [path.strip() for path in names.value(name, "tls_key").split(",") if path.strip()]
    client_ca = names.value(name, "tls_client_ca")
    client_auth = names.choice(name, "tls_client_auth", VERIFY)
    if not certs:
        raise CannotServe(
            "usage", f"the listener {name} has TLS and no certificate: --tls-cert FILE and --tls-key FILE"
        )
    if keys and len(keys) != len(certs):
        raise CannotServe(
            "usage", f"the listener {name} has {len(certs)} files of certificates and {len(keys)} of keys"
        )
    if client_auth != "none" and not client_ca:
        raise CannotServe(
            "usage",
            f"the listener {name} checks the certificates of clients (tls_client_auth={client_auth}):"
            " --tls-client-ca FILE names the authorities that sign them",
        )
    try:
        return ServerTls(
            TlsOptions(
                files=tuple(zip(certs, keys or [""] * len(certs), strict=True)),
                client_ca=client_ca,
                client_auth=client_auth,
                min_version=names.choice(name, "tls_min_version", VERSIONS),
                alpn=tuple(alpn),
                rules=PrincipalRules.parse(names.value(name, "ssl_principal_mapping_rules")),
                handshake_s=names.settings.first_request_timeout_ms / 1000,
                handshakes_max=max(names.settings.max_connections // 2, 1),
            )
        )
    except TlsError as error:
        raise CannotServe("usage", str(error)) from None
    except RuleError as error:
        raise CannotServe("usage", f"ssl_principal_mapping_rules: {error}") from None


class CertificateWatch:
    """Looks at the certificates of these listeners, whenever `check` is called."""

    def __init__(self, listeners: Sequence[tuple[Listener, ServerTls]], clock: Clock) -> None:
        self._listeners = listeners
        self._clock = clock
        self._warn_at = 0.0
        for listener, tls in listeners:
            self._warn_of_name(listener, tls)
        self.check()

    def check(self, *, forced: bool = False) -> None:
        """Read changed files again; all of them if `forced`. Once a day, warn of certificates that end
        soon."""
        for listener, tls in self._listeners:
            try:
                if tls.reload(forced=forced):
                    log.info("the certificate of %s was read again", listener.address)
                    self._warn_of_name(listener, tls)
                    self._warn_at = 0.0
            except TlsError as error:
                log.error("the certificate of %s stays as it was: %s", listener.address, error)
        now = self._clock.monotonic()
        if now >= self._warn_at:
            self._warn_at = now + DAY_SECONDS
            for listener, _ in self._listeners:
                for note in self.notes(listener):
                    log.warning("%s", note)

    def notes(self, listener: Listener) -> Iterator[str]:
        """What an administrator should do about the certificates of a listener, one line each."""
        now_s = self._clock.wall_ms() / 1000
        for tls in self._tls_of(listener):
            for info, (path, _) in zip(tls.certificates, tls.options.files, strict=True):
                days = int((info.expires_at_s - now_s) // DAY_SECONDS)
                if info.expires_at_s <= now_s:
                    yield f"the certificate of {listener.address} has expired: put a new one into {path}"
                elif days < WARN_DAYS:
                    yield (
                        f"the certificate of {listener.address} expires in {days} days: put a new one into"
                        f" {path}, it is read without a restart"
                    )

    def expires_at_s(self, listener: Listener) -> float | None:
        """When the first certificate of a listener ends, in seconds since 1970; None without TLS."""
        return min(
            (info.expires_at_s for tls in self._tls_of(listener) for info in tls.certificates), default=None
        )

    def _tls_of(self, listener: Listener) -> Iterator[ServerTls]:
        return (tls for watched, tls in self._listeners if watched is listener)

    def _warn_of_name(self, listener: Listener, tls: ServerTls) -> None:
        host = listener.advertised.host
        if listener.advertised.is_wildcard or any(info.is_for(host) for info in tls.certificates):
            return
        hosts = ", ".join(host for info in tls.certificates for host in info.hosts)
        log.warning(
            "clients of %s are directed to %s, and its certificate is for %s: they will refuse it",
            listener.address,
            host,
            hosts or "no host",
        )

"""How a client protects its connections, and how it logs in.

Owns: what every client of this project is given for that, and its form for Python's TLS, for librdkafka and
for HTTP. Refuses: certificates and keys that are not PEM, and to send a password or a token where others
could read it, unless `protocol` was chosen by a person.

Secrets are in no text that this module makes, and never an argument of a process.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import ssl

ProtocolName = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
PROTOCOLS: tuple[ProtocolName, ...] = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER")
TOKEN_SECONDS = 3600
"""How long librdkafka may use a token before it asks for the next one, which is the same."""
ENVIRONMENT = "MAINSTEM_WORKER_SECURITY"
"""The variable by which a process passes these settings on to its workers."""


class ClientSecurityError(ValueError):
    """The error for settings that no connection can be made with. The message is one line."""


def protocol_of(text: str) -> ProtocolName:
    """The security protocol of this name. ClientSecurityError if there is none."""
    for protocol in PROTOCOLS:
        if protocol == text.upper():
            return protocol
    raise ClientSecurityError(f"{text} is none of the protocols {', '.join(PROTOCOLS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSecurity:
    """The security of the connections to one cluster. Files are in PEM."""

    protocol: ProtocolName = "PLAINTEXT"
    ca: str = ""
    """File of the authorities that are trusted; empty: those of the machine."""
    cert: str = ""
    """File of the client's own certificate, if it shows one."""
    key: str = ""
    """File of its key; empty: the certificate's file has it."""
    checks_host: bool = True
    """Whether the server's certificate has to be for the host that is connected to."""
    mechanism: str = "SCRAM-SHA-512"
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    """What OAUTHBEARER sends."""

    @property
    def has_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def has_login(self) -> bool:
        """Whether the client logs in by SASL."""
        return self.protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    def ssl_context(self) -> ssl.SSLContext:
        """The TLS of a connection. ClientSecurityError: a file cannot be used."""
        import ssl

        try:
            context = ssl.create_default_context(cafile=self.ca or None)
        except (OSError, ssl.SSLError) as error:
            raise ClientSecurityError(f"{self.ca} has no certificates in PEM: {_reason(error)}") from None
        context.check_hostname = self.checks_host
        if self.cert:
            try:
                context.load_cert_chain(self.cert, self.key or None, password=_no_password)
            except (OSError, ssl.SSLError) as error:
                files = f"{self.cert} and its key {self.key or self.cert}"
                raise ClientSecurityError(f"{files} cannot be used: {_reason(error)}") from None
        return context

    def librdkafka(self) -> dict[str, Any]:
        """The settings of a client of librdkafka. ClientSecurityError: a file cannot be used."""
        if self.protocol == "PLAINTEXT":
            return {}
        settings: dict[str, Any] = {"security.protocol": self.protocol}
        if self.has_tls:
            self.ssl_context()  # reports what librdkafka reports like a server that is silent
            files = {
                "ssl.ca.location": self.ca,
                "ssl.certificate.location": self.cert,
                "ssl.key.location": self.cert and (self.key or self.cert),
            }
            settings |= {name: path for name, path in files.items() if path}
            if not self.checks_host:
                settings["ssl.endpoint.identification.algorithm"] = "none"
        if self.has_login:
            settings["sasl.mechanism"] = self.mechanism
            if self.mechanism == "OAUTHBEARER":
                settings["oauth_cb"] = self._token_for_librdkafka
            else:
                settings |= {"sasl.username": self.user, "sasl.password": self.password}
        return settings

    def _token_for_librdkafka(self, _: str) -> tuple[str, float]:
        return self.token, time.time() + TOKEN_SECONDS

    def authorization(self) -> str | None:
        """The value of HTTP's Authorization header; None: there is nothing to log in with."""
        if self.token:
            return f"Bearer {self.token}"
        if self.user:
            return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return None

    def environment(self) -> dict[str, str]:
        """The variable that passes this on to a worker, which only the same account can read."""
        return {} if self == PLAINTEXT else {ENVIRONMENT: json.dumps(asdict(self))}

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> ClientSecurity:
        """What `environment` of another process has passed on."""
        text = environ.get(ENVIRONMENT)
        return PLAINTEXT if text is None else cls(**json.loads(text))


PLAINTEXT = ClientSecurity()
"""No TLS and no login."""


def _no_password() -> str:
    raise ClientSecurityError("a key that is encrypted: give one that is not, of mode 0600")


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return str(reason).lower().replace("_", " ")

"""How a listener protects its connections: Kafka's security protocols, and which logins are safe with them.

Owns: the words, and which SASL mechanisms may be offered on an address. Refuses: mechanisms that send a
password or a token where others could read it.
"""

from __future__ import annotations

from enum import StrEnum

SCRAM_MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512")
"""They prove that the client knows the password, and do not send it."""
SENDING_MECHANISMS = ("PLAIN", "OAUTHBEARER")
"""They send the password or the token itself."""
MECHANISMS = (*SCRAM_MECHANISMS, *SENDING_MECHANISMS)


class SecurityProtocol(StrEnum):
    """Kafka's `security.protocol`."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted by TLS."""
        return self in (SecurityProtocol.SSL, SecurityProtocol.SASL_SSL)

    @property
    def authenticates(self) -> bool:
        """Whether clients have to log in."""
        return self in (SecurityProtocol.SASL_PLAINTEXT, SecurityProtocol.SASL_SSL)


def is_safe(mechanism: str, security: SecurityProtocol, *, is_loopback: bool) -> bool:
    """Whether no other machine can read what a client of this listener sends to log in by the mechanism."""
    return mechanism in SCRAM_MECHANISMS or security.tls or is_loopback

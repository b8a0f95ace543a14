"""What a successful authentication proves, what a failed one says, and what is recorded of either.

Owns: `Identity`, `Login` and the errors. Refuses: secrets in any of them; the error that a client sees is the
same for an unknown user and for a wrong password.
"""

from __future__ import annotations

from dataclasses import dataclass

from mainstem.access_contract import USER, Principal

FAILED = "authentication failed"
LOCKED_OUT = "locked out after failed attempts"
"""The reason of an attempt that was not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Somebody whose credentials were right."""

    principal: Principal
    roles: frozenset[Principal] = frozenset()
    """From a token's claim of groups; empty for passwords."""
    expires_at_ms: int | None = None
    """Wall ms at which the token expires; None: it does not, as a password."""
    mechanism: str
    """SASL's name, such as SCRAM-SHA-512."""

    @classmethod
    def of_user(cls, name: str, mechanism: str) -> Identity:
        """The user of this name."""
        return cls(principal=Principal(USER, name), mechanism=mechanism)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One attempt, for the audit and for metrics."""

    user: str
    """The name that the client claims, cut to 256 characters; empty if none was readable."""
    host: str
    mechanism: str
    door: str
    """The name of the door, such as kafka."""
    allowed: bool
    reason: str
    """Why it failed, for the operator; empty if it did not. Clients never see it."""


class AuthenticationFailed(Exception):
    """The credentials are wrong. The text is the same for every reason; `reason` is for the audit alone."""

    def __init__(self, reason: str, *, user: str = "") -> None:
        super().__init__(FAILED)
        self.reason = reason
        self.user = user[:256]
        """The name that was claimed, if it was readable."""


class TooManyAttempts(AuthenticationFailed):
    """Too many attempts failed before this one, which was not looked at."""

    def __init__(self, retry_after_s: float, *, user: str = "") -> None:
        super().__init__(LOCKED_OUT, user=user)
        self.retry_after_s = retry_after_s
        """Seconds until the next attempt is looked at."""


class BearerUnavailable(AuthenticationFailed):
    """No token can be checked, because there are no keys that are fresh enough."""

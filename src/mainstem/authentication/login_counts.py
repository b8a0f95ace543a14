"""Counts attempts to log in, for metrics: by door, mechanism and outcome.

Owns: the counters, since the start of the server. Refuses: names of users and addresses, which would be
without a bound, and mechanisms that no client can log in by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum

from mainstem.authentication.identity import LOCKED_OUT, Login
from mainstem.authentication.jwt import OAUTHBEARER
from mainstem.authentication.oidc import MECHANISM as OIDC
from mainstem.authentication.passwords import PLAIN

API_TOKEN = "API_TOKEN"
"""The mechanism of those who log in by an API token."""
MECHANISMS = frozenset((PLAIN, OAUTHBEARER, OIDC, API_TOKEN, "SCRAM-SHA-256", "SCRAM-SHA-512"))
OTHER = "other"


class LoginOutcome(StrEnum):
    """What became of an attempt."""

    SUCCESS = "success"
    FAILED = "failed"
    """The credentials were wrong, or could not be checked."""
    LOCKED = "locked"
    """It was not looked at, because too many had failed before it."""


class LoginCounts:
    """The counters."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def count(self, login: Login) -> None:
        """Count an attempt."""
        if login.allowed:
            outcome = LoginOutcome.SUCCESS
        else:
            outcome = LoginOutcome.LOCKED if login.reason == LOCKED_OUT else LoginOutcome.FAILED
        self.add(login.door, login.mechanism, outcome)

    def add(self, door: str, mechanism: str, outcome: LoginOutcome) -> None:
        """Count an attempt of which only this is known."""
        self._counts[door, mechanism if mechanism in MECHANISMS else OTHER, outcome] += 1

    def values(self) -> Iterator[tuple[tuple[str, str, str], int]]:
        """(door, mechanism, outcome) and how many there were, in order."""
        return iter(sorted(self._counts.items()))

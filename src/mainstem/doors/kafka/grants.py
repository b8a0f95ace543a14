"""What a client was allowed lately, so that the same question is not asked with every batch.

Owns: the names, and their end as soon as rights have changed. Refuses: to remember a refusal, which the audit
learns of each time.
"""

from __future__ import annotations

from mainstem.doors.kafka.rights import Right

NAMES_MAX = 10_000
"""Names of a connection. If there are more, all are asked for again."""


class Grants:
    """The topics of one connection that its client has a right to."""

    __slots__ = ("_count", "_names", "version")

    def __init__(self) -> None:
        self.version = -1
        """The authorizer's, when these rights were given."""
        self._names: dict[Right, set[str]] = {}
        self._count = 0

    def has(self, right: Right, name: str) -> bool:
        """Whether the client had this right when it last was asked for, in this version."""
        names = self._names.get(right)
        return names is not None and name in names

    def add(self, right: Right, name: str) -> None:
        """The client has the right."""
        if self._count >= NAMES_MAX:
            self.clear(self.version)
        self._names.setdefault(right, set()).add(name)
        self._count += 1

    def clear(self, version: int) -> None:
        """Forget all, because rights have changed: they are of this version now."""
        self.version = version
        self._names.clear()
        self._count = 0

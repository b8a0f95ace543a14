"""When API tokens were used, as far as this server has seen it since its start.

Owns: a time for each of the tokens that were used lately. Refuses: to write it to the disk with each request,
and unbounded memory: of many tokens, the one that was used longest ago is forgotten.
"""

from __future__ import annotations

USES_MAX = 10_000


class TokenUses:
    """The last use of each token, by its id."""

    def __init__(self) -> None:
        self._used_ms: dict[str, int] = {}

    def note(self, id_: str, now_ms: int) -> None:
        """A request has come with this token."""
        self._used_ms.pop(id_, None)
        self._used_ms[id_] = now_ms
        if len(self._used_ms) > USES_MAX:
            del self._used_ms[next(iter(self._used_ms))]

    def last_ms(self, id_: str) -> int | None:
        """Wall ms of the last use; None: there was none since the start, or it is forgotten."""
        return self._used_ms.get(id_)

"""Audit lines: who changed or exported something by HTTP.

Owns: the form of a line of the logger `mainstem.audit`. There is one line for each action when it ends,
successful or not, and also for a dry run; publishing is not an action. Refuses: text of a client that would
end a line or colour it. Lines are written whatever the log level is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mainstem.audit.events import ActionOutcome, AuditValue
from mainstem.audit.log_lines import write
from mainstem.contract import StreamError
from mainstem.doors.http.problem import Problem, from_error
from mainstem.timespec import format_iso

if TYPE_CHECKING:
    from mainstem.doors.http.endpoint import Call
    from mainstem.http_api.replay import MatchesJson


class AuditLine:
    """The audit line of one action: collected while the action runs, written at its end."""

    def __init__(
        self, action: str, peer: str, principal: str, *, dry_run: bool, details: dict[str, AuditValue]
    ) -> None:
        self.action, self.peer, self.principal = action, peer, principal
        self.details: dict[str, AuditValue] = {"dry_run": dry_run, **details}
        self.counts: dict[str, AuditValue] = {}
        self.outcome: ActionOutcome = "done"
        self._why: str | None = None

    def count(self, **counts: AuditValue) -> None:
        """Set numbers of events, bytes, partitions …; the line has the latest number of each."""
        self.counts |= counts

    def fail(self, outcome: ActionOutcome, why: str) -> None:
        """Record that the action was not successful, and the reason `why`."""
        self.outcome, self._why = outcome, why

    def fail_with(self, error: Problem | StreamError) -> None:
        """Record the error that ended the action: `refused` if the request was to blame, else `failed`."""
        problem = error if isinstance(error, Problem) else from_error(error)
        self.fail("refused" if problem.status < 500 else "failed", problem.detail)

    @property
    def why(self) -> dict[str, AuditValue]:
        """The reason, if the action was not successful."""
        return {} if self._why is None else {"why": self._why}

    def fields(self) -> dict[str, AuditValue]:
        """All fields of the line, in order."""
        head: dict[str, AuditValue] = {"action": self.action, "peer": self.peer, "principal": self.principal}
        return {**head, **self.details, "outcome": self.outcome, **self.counts, **self.why}


@contextmanager
def action(call: Call, name: str, *, dry_run: bool = False, **details: AuditValue) -> Iterator[AuditLine]:
    """The context of one action of a client, such as the deletion of a topic. At its end the audit line is
    written, also after an error, which is raised again. `details`: fields that name the object of the
    action."""
    requester = call.requester
    line = AuditLine(name, requester.host, requester.principal.text, dry_run=dry_run, details=details)
    try:
        yield line
    except (Problem, StreamError) as error:
        line.fail_with(error)
        raise
    except (asyncio.CancelledError, GeneratorExit, ConnectionError):
        line.fail("cut-off", "the client closed the connection, or the server stopped")
        raise
    except BaseException as error:
        line.fail("failed", repr(error))
        raise
    finally:
        write(line.fields())
        if call.context.audit is not None:
            call.context.audit.acted(
                line.principal, line.peer, name, line.outcome, {**line.details, **line.counts, **line.why}
            )


def matches_details(matches: MatchesJson) -> dict[str, AuditValue]:
    """The fields of an audit line that say which matches are exported or replayed."""
    details: dict[str, AuditValue] = {"query": matches.query, "topics": ",".join(matches.topics) or "*"}
    if matches.partitions is not None:
        details["partitions"] = ",".join(map(str, matches.partitions))
    if matches.since_ms is not None:
        details["since"] = format_iso(matches.since_ms)
    if matches.until_ms is not None:
        details["until"] = format_iso(matches.until_ms)
    return details

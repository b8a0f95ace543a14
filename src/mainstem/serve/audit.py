"""Opens the audit of a server, if it has something to say.

It is on if there is a right to ask for or a login: with access control, with a listener that authenticates,
or if the setting `audit_file` asks for it. Refuses: a file that others may read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mainstem.serve.errors import CannotServe

if TYPE_CHECKING:
    from mainstem.audit.trail import AuditSink, AuditTrail
    from mainstem.authentication.identity import Login
    from mainstem.authentication.service import Authentication
    from mainstem.doors.contract import Listener
    from mainstem.node import Node


def open_audit(
    node: Node, authentication: Authentication, listeners: Iterable[Listener]
) -> AuditTrail | None:
    """The audit, which learns of decisions and logins from now on; None if it is off.
    CannotServe(folder): the file cannot be used."""
    settings = node.settings
    is_on = settings.access_control or any(listener.security.authenticates for listener in listeners)
    if not is_on and settings.audit_file is None:
        return None
    from mainstem.audit.file_sink import AuditFile
    from mainstem.audit.trail import AuditTrail
    from mainstem.engines.embedded.audit_topic import AuditTopic

    sinks: list[AuditSink] = [AuditTopic(node)] if is_on else []
    if settings.audit_file is not None:
        file = AuditFile(settings.audit_file)
        try:
            file.open()
        except OSError as error:
            raise CannotServe("folder", f"audit file {settings.audit_file}: {error.strerror}") from None
        sinks.append(file)
    trail = AuditTrail(node.clock, sinks)
    node.access.authorizer.on_decision = trail.decided

    def logged_in(login: Login) -> None:
        trail.logged_in(
            f"User:{login.user}" if login.allowed else login.user,
            login.host,
            allowed=login.allowed,
            mechanism=login.mechanism,
            door=login.door,
            reason=login.reason,
        )

    authentication.on_login = logged_in
    return trail

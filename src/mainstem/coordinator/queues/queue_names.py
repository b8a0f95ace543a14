"""The names of namespaces and of routed queues, which are wider than those of topics.

A routed queue is the subscription `NAMESPACE/QUEUE`, with the namespace percent-encoded: so the queue
`orders` of the namespace `/` is `%2F/orders`, and two queues never have the same name there. No subscription
that is created by its name has a `/`. No name is part of a path: folders have ids.

Owns: the rules. Refuses: to keep a share group, whose name is any text, from having such a name first.
"""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

from mainstem.coordinator.errors import InvalidSubscriptionName

WIDE_NAME_BYTES_MAX = 255
"""As in AMQP: 255 bytes of UTF-8."""


def wide_name_problem(name: str) -> str | None:
    """What is wrong with the name of a namespace or a routed queue, as text for people; None if it is
    valid."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "it is no valid Unicode"
    if not size:
        return "the empty string is not allowed"
    if size > WIDE_NAME_BYTES_MAX:
        return f"it has {size:,} bytes of UTF-8, and may have {WIDE_NAME_BYTES_MAX}"
    # Control characters, and those that end a line: a name is shown in lines of a log.
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name):
        return "it has a control character or the end of a line"
    return None


def check_wide_name(name: str, kind: str) -> None:
    """Check the name of a namespace or a queue. `kind`: of what, for people. InvalidSubscriptionName."""
    problem = wide_name_problem(name)
    if problem is not None:
        raise InvalidSubscriptionName(f"the name of the {kind} is invalid: {problem}")


def queue_prefix(namespace: str) -> str:
    """What the subscriptions begin with that are the queues of a namespace."""
    return quote(namespace, safe="") + "/"

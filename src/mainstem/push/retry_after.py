"""Reads the header Retry-After of an endpoint's answer (RFC 9110, 10.2.3).

Owns: both of its forms, a number of seconds and a date, and how long a wait is taken for meant. Refuses: a
clock; the caller says what time it is.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

WAIT_S_MAX = 3600.0
"""An endpoint that asks for more is asked again after this time: it may be reachable by then."""
_SECONDS = re.compile(r"[0-9]{1,18}")


def retry_after_s(value: str, now_ms: int) -> float | None:
    """How many seconds to send nothing, from 0 to WAIT_S_MAX; None: the value asks for nothing that can be
    read. `now_ms`: the wall clock."""
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), WAIT_S_MAX)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return min(max(date.timestamp() - now_ms / 1000, 0.0), WAIT_S_MAX)

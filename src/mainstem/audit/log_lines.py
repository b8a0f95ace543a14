"""The lines of the logger `mainstem.audit`: one for each action of a client that ends.

Owns: their form. Refuses: to keep them (`trail.py`), and to know what an action is.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from mainstem.audit.events import AuditValue, bounded_values

log = logging.getLogger("mainstem.audit")
log.setLevel(logging.INFO)


def write(fields: Mapping[str, AuditValue]) -> None:
    """Write one line: `name=value …` in text logs, members of the object in JSON logs."""
    bounded = bounded_values(dict(fields))
    log.info(" ".join(f"{name}={_text(value)}" for name, value in bounded.items()), extra={"fields": bounded})


def _text(value: AuditValue) -> str:
    if isinstance(value, str) and value.isascii() and value.replace("-", "").replace(".", "").isalnum():
        return value
    return json.dumps(value)  # escapes everything but printable ASCII

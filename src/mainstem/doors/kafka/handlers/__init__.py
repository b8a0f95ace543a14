"""The handlers: one file for each API key, `kNN_name.py`, which ends in its HANDLER.

Owns: finding the handlers. Refuses: a key that two files declare, or a file name with another key than its
handler. The routing table and the reply to ApiVersions are made only from what `discover` returns.
"""

from __future__ import annotations

import importlib
import pkgutil
import re

from mainstem.doors.kafka.handler import Handler

_FILE = re.compile(r"k(\d\d)_[a-z0-9_]+")


def discover() -> dict[int, Handler]:
    """All handlers, by API key. RuntimeError if two files declare the same key, or a file another key than
    its name."""
    handlers: dict[int, Handler] = {}
    for module in pkgutil.iter_modules(__path__):
        match = _FILE.fullmatch(module.name)
        if match is None:
            continue
        handler: Handler = importlib.import_module(f"{__name__}.{module.name}").HANDLER
        if handler.key != int(match[1]):
            raise RuntimeError(f"{module.name} declares API key {handler.key}, not the key of its name")
        if handler.key in handlers:
            raise RuntimeError(f"API key {handler.key} is registered twice, the second time by {module.name}")
        handlers[handler.key] = handler
    return handlers

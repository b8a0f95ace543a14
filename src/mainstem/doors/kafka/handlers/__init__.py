"""One file for each API key: `kNN_name.py`, ending in its HANDLER.

Owns: finding them. Refuses: a key that is registered twice, or under another key's file name. The routing
table and the reply to ApiVersions are made from what `discover` returns and from nothing else.
"""

from __future__ import annotations

import importlib
import pkgutil
import re

from mainstem.doors.kafka.handler import Handler

_FILE = re.compile(r"k(\d\d)_[a-z0-9_]+")


def discover() -> dict[int, Handler]:
    """All handlers, by API key. RuntimeError if two files claim one."""
    handlers: dict[int, Handler] = {}
    for module in pkgutil.iter_modules(__path__):
        match = _FILE.fullmatch(module.name)
        if match is None:
            continue
        handler: Handler = importlib.import_module(f"{__name__}.{module.name}").HANDLER
        if handler.key != int(match[1]):
            raise RuntimeError(f"{module.name} declares API key {handler.key}")
        if handler.key in handlers:
            raise RuntimeError(f"API key {handler.key} is registered twice, also by {module.name}")
        handlers[handler.key] = handler
    return handlers

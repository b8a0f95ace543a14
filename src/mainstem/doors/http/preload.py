"""Imports what the first answers need, beside the door itself, when the door is loaded.

Owns: the list of it. A module that a request imported would delay all others meanwhile, and fail where the
process has no descriptor left. Refuses: optional packages that only some requests need, as pyarrow is, and
what the engine and the search import (`serve/search.py`).
"""

from __future__ import annotations

import importlib

MODULES = (
    "anyio._backends._asyncio",
    "mainstem.console",
    "mainstem.search.match.highlights",
    "mainstem.search.match.matcher",
    "mainstem.search.text.payload",
    "mainstem.search.text.tokens",
)


def preload() -> None:
    """Import them. Blocks: 20 ms of CPU time, 30 to 60 ms on the clock of a busy machine."""
    for name in MODULES:
        importlib.import_module(name)

"""RE2, with limits: never backtracking, bounded memory.

Owns: the options, and errors for people. Refuses: Python's `re` for what users write: it may take for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import re2

MEMORY_BYTES = 1 << 20
"""For a compiled expression and for the states that a search makes; RE2 falls back to a slower engine
beyond."""
LENGTH_MAX = 1_000
"""Characters of an expression that a user writes."""


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MEMORY_BYTES
    return options


def _raw_options() -> Any:
    options = _options()
    options.encoding = re2.Options.Encoding.LATIN1
    return options


@lru_cache(maxsize=256)
def compiled(pattern: str) -> Any:
    """An expression over text (or over its UTF-8 bytes). ValueError says what is wrong with it."""
    try:
        return re2.compile(pattern, _options())
    except re2.error as error:
        (reason,) = error.args
        raise ValueError(
            reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        ) from None


def finder(pattern: str) -> Callable[[str], bool]:
    """Whether an expression is found in a text. Bytes are searched: RE2 then need not count characters."""
    search = compiled(pattern).search
    return lambda text: search(text.encode()) is not None


_NEGATED_CLASS = re.compile(r"(?<!\\)\[\^")
_ASSERTION = re.compile(r"[$^]|\\[^\w]?[AbBzZQ]")


def is_local(pattern: str) -> bool:
    """Whether what an expression matches in a text, it also matches in any text around that.

    It has no ^, $, \\b or the like. False where that is not plain to see."""
    return not _ASSERTION.search(_NEGATED_CLASS.sub("[", pattern))


@lru_cache(maxsize=256)
def compiled_raw(pattern: bytes) -> Any:
    """An expression over bytes, in which every byte is a character."""
    return re2.compile(pattern, _raw_options())


def quote(text: str) -> str:
    """An expression that matches just this text."""
    return "".join(
        character if character.isalnum() or ord(character) > 0x7F else f"\\x{{{ord(character):x}}}"
        for character in text
    )

"""Compiles regular expressions with RE2: no backtracking, bounded memory.

What users write never reaches Python's `re`, whose running time has no bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import re2

MEMORY_BYTES = 1 << 20
"""Limit for a compiled expression and its cached states. Beyond it RE2 uses a slower engine."""
LENGTH_MAX = 1_000
"""Maximum characters of an expression that a user writes."""


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
    """Compile an expression over text or its UTF-8 bytes. Raises ValueError with RE2's reason."""
    try:
        return re2.compile(pattern, _options())
    except re2.error as error:
        (reason,) = error.args
        raise ValueError(
            reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        ) from None


def finder(pattern: str) -> Callable[[str], bool]:
    """Returns a function that tests whether an expression matches anywhere in a text.

    It searches the text's UTF-8 bytes, so that RE2 need not convert positions to characters."""
    search = compiled(pattern).search
    return lambda text: search(text.encode()) is not None


_NEGATED_CLASS = re.compile(r"(?<!\\)\[\^")
_ASSERTION = re.compile(r"[$^]|\\[^\w]?[AbBzZQ]")


def is_local(pattern: str) -> bool:
    """Whether a match in a text is also a match in every longer text that contains it.

    True only if the expression clearly has no ^, $, \\b or similar assertion."""
    return not _ASSERTION.search(_NEGATED_CLASS.sub("[", pattern))


@lru_cache(maxsize=256)
def compiled_raw(pattern: bytes) -> Any:
    """Compile an expression over bytes, in which every byte is a character."""
    return re2.compile(pattern, _raw_options())


def quote(text: str) -> str:
    """An expression that matches this text and no other."""
    return "".join(
        character if character.isalnum() or ord(character) > 0x7F else f"\\x{{{ord(character):x}}}"
        for character in text
    )

"""Text that others chose, made safe to show on a terminal or in a log line.

Owns: what is escaped: everything that is not printable, so line ends, escape sequences, the characters that
change the direction of text, and halves of surrogate pairs. Refuses: to change data that programs read.
"""

from __future__ import annotations

EXCERPT_CHARACTERS = 200
"""Most characters of a value that a client chose in a log line."""

_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def escape_controls(text: str) -> str:
    """The text with all that is not printable escaped, as `\\n` or `\\u001b`, so that it can neither end a
    line nor control a terminal. Escaping it again changes nothing."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def excerpt(text: str, length: int = EXCERPT_CHARACTERS) -> str:
    """The text escaped, and cut to `length` characters; `…` is the last of them if something is left out."""
    escaped = escape_controls(text[: length + 1])
    return escaped if len(escaped) <= length else escaped[: length - 1] + "…"


def _escape(character: str) -> str:
    code = ord(character)
    return _SHORT.get(character) or (f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")

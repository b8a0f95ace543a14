"""Names of users, prepared for comparison (SASLprep, RFC 4013, a profile of stringprep, RFC 3454).

Owns: `user_name`, which every place that stores or compares a user's name goes through, so that names that
look alike because of their encoding are one user. Refuses: names that are empty, too long, or hold characters
that SASLprep prohibits, such as control characters.

Passwords are not prepared: Kafka's tools and clients derive keys from their UTF-8 bytes as they are.
"""

from __future__ import annotations

import stringprep
import unicodedata

NAME_MAX_BYTES = 255
"""Longest name of a user, bytes of UTF-8."""

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def user_name(text: str) -> str:
    """The prepared name. ValueError, which says what is wrong, if no user can have it."""
    if not text:
        raise ValueError("the name of a user is empty")
    if len(text) > NAME_MAX_BYTES or len(text.encode(errors="replace")) > NAME_MAX_BYTES:
        raise ValueError(f"the name of a user is longer than {NAME_MAX_BYTES} bytes")
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in text if not stringprep.in_table_b1(char)
    )
    name = unicodedata.normalize("NFKC", mapped)
    if not name or len(name.encode(errors="replace")) > NAME_MAX_BYTES:
        raise ValueError(f"the name of a user has 1 to {NAME_MAX_BYTES} bytes after SASLprep")
    for char in name:
        if any(is_prohibited(char) for is_prohibited in _PROHIBITED) or stringprep.in_table_a1(char):
            raise ValueError(f"the name of a user holds U+{ord(char):04X}, which SASLprep prohibits")
    _check_direction(name)
    return name


def _check_direction(name: str) -> None:
    """RFC 3454, 6: a name with right-to-left letters has no left-to-right ones, and begins and ends with
    the former."""
    if any(map(stringprep.in_table_d1, name)):
        ends = stringprep.in_table_d1(name[0]) and stringprep.in_table_d1(name[-1])
        if not ends or any(map(stringprep.in_table_d2, name)):
            raise ValueError("the name of a user mixes directions of writing")

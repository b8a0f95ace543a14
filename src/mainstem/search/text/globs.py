"""Glob patterns with `*` and `?`, matched in time proportional to the text.

Prefix, suffix and substring patterns become string operations. All others run in RE2, which never backtracks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mainstem.search.text.regex import finder, quote

SPECIAL = "*?\\"


def parts(pattern: str) -> Iterator[tuple[str, bool]]:
    """Each character of a pattern, and whether it is a wildcard. Backslashes are resolved."""
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            yield next(characters, "\\"), False
        else:
            yield character, character in "*?"


def literals(pattern: str) -> list[str]:
    """The runs of literal characters between wildcards."""
    runs = [""]
    for character, is_wildcard in parts(pattern):
        if is_wildcard:
            runs.append("")
        else:
            runs[-1] += character
    return [run for run in runs if run]


def escaped(text: str) -> str:
    """A pattern that matches this text and no other."""
    return "".join("\\" + character if character in SPECIAL else character for character in text)


def fold(pattern: str) -> str:
    """The same pattern for texts that are case-folded."""
    return "".join(
        character if is_wildcard else escaped(character.casefold())
        for character, is_wildcard in parts(pattern)
    )


def glob_test(pattern: str) -> Callable[[str], bool]:
    """Returns a function that tests whether a whole text matches the pattern."""
    shape = "".join(character if is_wildcard else "a" for character, is_wildcard in parts(pattern))
    literal = "".join(literals(pattern))
    if set(shape) == {"*"}:
        return lambda text: True
    if "?" not in shape and "*" in shape:
        inner = shape.strip("*")
        if "*" not in inner:
            if shape[0] == "*" and shape[-1] == "*":
                return lambda text: literal in text
            if shape[0] == "*":
                return lambda text: text.endswith(literal)
            return lambda text: text.startswith(literal)
    body = "".join(
        {"*": ".*", "?": "."}[character] if is_wildcard else quote(character)
        for character, is_wildcard in parts(pattern)
    )
    return finder(rf"(?s)\A(?:{body})\z")

"""Free text: tokens that stand next to each other in one text.

Owns: the tests of a text. Making a text into tokens is what costs: before it, a text without the letters that
are wanted is left alone. In ASCII that is plain to see, for there folding is `lower()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mainstem.search.text import globs
from mainstem.search.text.tokens import tokens


def token_patterns(pattern: str) -> list[str]:
    """The patterns of the tokens that a free word with wildcards stands for: `wal*-mart?` has two."""
    found = [""]
    for character, is_wildcard in globs.parts(pattern):
        if is_wildcard or character.isalnum():
            found[-1] += character
        else:
            found.append("")
    return [token for token in found if token]


def words_test(wanted: Sequence[str]) -> Callable[[str], bool]:
    """Whether these tokens stand in a text, side by side and in this order."""
    rarest = max(wanted, key=len)

    def test(text: str) -> bool:
        if text.isascii() and rarest not in text.lower():
            return False
        return _holds(tokens(text), wanted)

    return test


def patterns_test(pattern: str) -> Callable[[str], bool]:
    """Whether tokens stand in a text, side by side, that match the patterns of a free word with wildcards."""
    folded = [globs.fold(part) for part in token_patterns(pattern)]
    tests = [globs.glob_test(part) for part in folded]
    rarest = max((literal for part in folded for literal in globs.literals(part)), key=len, default="")

    def test(text: str) -> bool:
        if text.isascii() and rarest not in text.lower():
            return False
        return _holds_patterns(tokens(text), tests)

    return test


def _holds(found: Sequence[str], wanted: Sequence[str]) -> bool:
    first, count = wanted[0], len(wanted)
    if count == 1:
        return first in found
    return any(
        token == first and list(found[at : at + count]) == list(wanted) for at, token in enumerate(found)
    )


def _holds_patterns(found: Sequence[str], wanted: Sequence[Callable[[str], bool]]) -> bool:
    count = len(wanted)
    return any(
        all(test(found[at + place]) for place, test in enumerate(wanted))
        for at in range(len(found) - count + 1)
    )

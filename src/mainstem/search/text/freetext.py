"""Tests of free text: whether a text has given tokens side by side.

Splitting a text into tokens is the expensive step. An ASCII text is therefore first searched for the longest
token; this is exact, because case folding of ASCII is `lower()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mainstem.search.text import globs
from mainstem.search.text.tokens import is_unspaced, runs, tokens


def token_patterns(pattern: str) -> list[str]:
    """The patterns of the single tokens in a free word with wildcards: `wal*-mart?` has two."""
    patterns = [""]
    for character, is_wildcard in globs.parts(pattern):
        if is_wildcard or character.isalnum() or is_unspaced(character):
            patterns[-1] += character
        else:
            patterns.append("")
    return [pattern for pattern in patterns if pattern]


def words_test(wanted: Sequence[str]) -> Callable[[str], bool]:
    """Returns a function that tests whether a text has these tokens, side by side and in this order."""
    longest = max(wanted, key=len)

    def test(text: str) -> bool:
        if text.isascii() and longest not in text.lower():
            return False
        return _has_sequence(tokens(text), wanted)

    return test


def patterns_test(pattern: str) -> Callable[[str], bool]:
    """Returns a function that tests whether a text has runs of letters and digits, side by side, that match a
    free word with wildcards. Beside a character that is a token of its own, the word may begin and end within
    a run."""
    folded = [globs.fold(part) for part in token_patterns(pattern)]
    if is_unspaced(folded[0][0]):
        folded[0] = "*" + folded[0]
    if is_unspaced(folded[-1][-1]):
        folded[-1] += "*"
    tests = [globs.glob_test(part) for part in folded]
    longest = max((literal for part in folded for literal in globs.literals(part)), key=len, default="")

    def test(text: str) -> bool:
        if text.isascii() and longest not in text.lower():
            return False
        return _has_matching_sequence(runs(text), tests)

    return test


def _has_sequence(text_tokens: Sequence[str], wanted: Sequence[str]) -> bool:
    first, count = wanted[0], len(wanted)
    if count == 1:
        return first in text_tokens
    return any(
        token == first and list(text_tokens[i : i + count]) == list(wanted)
        for i, token in enumerate(text_tokens)
    )


def _has_matching_sequence(text_tokens: Sequence[str], tests: Sequence[Callable[[str], bool]]) -> bool:
    return any(
        all(test(text_tokens[start + i]) for i, test in enumerate(tests))
        for start in range(len(text_tokens) - len(tests) + 1)
    )

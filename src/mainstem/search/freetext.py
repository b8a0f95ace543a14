"""Free text: tokens that stand next to each other in one text.

Owns: the tests of a list of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mainstem.search import globs


def token_patterns(pattern: str) -> list[str]:
    """The patterns of the tokens that a free word with wildcards stands for: `wal*-mart?` has two."""
    found = [""]
    for character, is_wildcard in globs.parts(pattern):
        if is_wildcard or character.isalnum():
            found[-1] += character
        else:
            found.append("")
    return [token for token in found if token]


def holds(tokens: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether these stand in there, adjacent and in this order."""
    first, count = wanted[0], len(wanted)
    if count == 1:
        return first in tokens
    return any(
        token == first and list(tokens[at : at + count]) == list(wanted) for at, token in enumerate(tokens)
    )


def holds_patterns(tokens: Sequence[str], wanted: Sequence[Callable[[str], bool]]) -> bool:
    """Whether there are adjacent tokens that match these, one each."""
    count = len(wanted)
    return any(
        all(test(tokens[at + place]) for place, test in enumerate(wanted))
        for at in range(len(tokens) - count + 1)
    )

"""What is wrong with values that a person gave, in words: validation errors name types and patterns of code.

Owns: the translation. Refuses: to validate.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import msgspec

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_PLACE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>[^`]*)`")
_EXPECTED = re.compile(r"Expected `(?P<kind>[^`]*)`(?: (?P<bound>[<>]=) (?P<limit>[0-9.]+))?(?P<rest>.*)")
_LENGTH = re.compile(r" of length (?P<bound>[<>]=) (?P<limit>[0-9]+)")


def invalid_value(error: msgspec.ValidationError, names: Collection[str]) -> str:
    """A line about the first invalid value. `names`: those that may be given."""
    text = str(error)
    place = _PLACE.search(text)
    name = place["path"].rpartition(".")[2] if place is not None else ""
    text = _PLACE.sub("", text)
    if (unknown := _UNKNOWN.match(text)) is not None:
        return f"there is no {unknown['name']}; there are {', '.join(sorted(names))}"
    expected = _EXPECTED.match(text)
    if expected is None:
        return f"{name}: {text}" if name else text
    kinds = [_KINDS.get(kind, kind) for kind in expected["kind"].split(" | ")]
    what = " or ".join(kinds)
    if expected["bound"] is not None:
        edge = "or more" if expected["bound"] == ">=" else "or less"
        what += f", {float(expected['limit']):,.10g} {edge}"
    elif (length := _LENGTH.match(expected["rest"])) is not None:
        edge = "or more" if length["bound"] == ">=" else "or fewer"
        what += f" of {int(length['limit']):,} characters {edge}"
    elif "regex" in expected["rest"]:
        what = "letters, digits and the characters . _ -"
    return f"{name or 'the value'} is {what}"

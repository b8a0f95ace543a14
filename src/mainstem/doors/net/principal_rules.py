"""Kafka's `ssl.principal.mapping.rules`: the name of a user from that of a certificate (KIP-371).

Owns: the rules' language, `RULE:PATTERN/REPLACEMENT/[LU]` and `DEFAULT` with commas, of which the first that
matches decides. Refuses: patterns that could take long, because names are hostile text: RE2 has no
look-around and no back-references, and needs time in proportion to the name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mainstem.access_contract import USER, Principal

RULE = re.compile(r"DEFAULT|RULE:((?:\\.|[^\\/])*)/((?:\\.|[^\\/])*)/([LU]?)")
CASES: dict[str, Callable[[str], str]] = {"": str, "L": str.lower, "U": str.upper}


class RuleError(ValueError):
    """The error for rules that cannot be read. Its message is one line."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """One rule. `pattern` is a compiled pattern of RE2, or None for DEFAULT."""

    pattern: Any
    replacement: str = ""
    change_case: Callable[[str], str] = str

    def name_of(self, distinguished_name: str) -> str | None:
        if self.pattern is None:
            return distinguished_name
        match = self.pattern.fullmatch(distinguished_name)
        if match is None:
            return None
        groups = match.groups()

        def text(part: re.Match[str]) -> str:
            if part[1]:
                return part[1]  # was escaped
            number = int(part[2])
            if not number:
                return distinguished_name
            return (groups[number - 1] or "") if number <= len(groups) else part[0]

        return self.change_case(re.sub(r"\\(.)|\$(\d)", text, self.replacement))


class PrincipalRules:
    """Rules in their order."""

    def __init__(self, rules: Sequence[_Rule]) -> None:
        self._rules = rules

    @classmethod
    def parse(cls, text: str) -> PrincipalRules:
        """Read the rules; none are the same as DEFAULT. RuleError if they cannot be read."""
        rules = []
        start = 0
        text = text.strip() or "DEFAULT"
        while start < len(text):
            match = RULE.match(text, start)
            end = len(text) if match is None else match.end()
            if match is None or not re.match(r"\s*(,|$)", text[end:]):
                raise RuleError(
                    f"{text[start : start + 80]!r} does not begin with RULE:PATTERN/REPLACEMENT/[LU], DEFAULT"
                )
            rules.append(_rule(match))
            start = end + len(text[end:]) - len(text[end:].lstrip(" \t\r\n,"))
        return cls(rules)

    def principal(self, distinguished_name: str) -> Principal | None:
        """The user whom a certificate with this name belongs to; None if no rule matches, or no name is
        left."""
        for rule in self._rules:
            name = rule.name_of(distinguished_name)
            if name is not None:
                return Principal(USER, name) if name else None
        return None


def _rule(match: re.Match[str]) -> _Rule:
    if match[0] == "DEFAULT":
        return _Rule(None)
    import re2  # needed by those who have rules

    try:
        pattern = re2.compile(match[1].replace("\\/", "/"), _options(re2))
    except re2.error as error:
        message = error.args[0].decode() if isinstance(error.args[0], bytes) else error
        raise RuleError(f"{match[0]!r}: {message}") from None
    return _Rule(pattern, match[2], CASES[match[3]])


def _options(re2: Any) -> Any:
    options = re2.Options()
    options.log_errors = False
    return options

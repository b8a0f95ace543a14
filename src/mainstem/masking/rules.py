"""Rules of masking: which fields of which topics are hidden from whom.

Owns: a rule, the paths that it names, and whether it applies to a requester and a topic. Refuses: paths that
name nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from mainstem.access_contract import ANY_NAME, EVERYBODY, PatternType, Principal, Requester

RULES_MAX = 1_000
"""Most rules of a server."""
PATH_PARTS_MAX = 50
ANY_PART = "*"
"""A part of a path that every field name matches."""
_PART = re.compile(r'"((?:[^"\\]|\\.)*)"|((?:[^".\\]|\\.)+)')
_ESCAPED = re.compile(r"\\(.)")


class MaskKind(IntEnum):
    """What is shown in the place of a value."""

    HIDDEN = 1
    """`[hidden]`."""
    HASHED = 2
    """`hash:` and 16 hexadecimal digits, the same for equal values of this server."""
    LAST4 = 3
    """The last four characters of a text or number of at least eight; else as HIDDEN."""


class MaskPath(NamedTuple):
    """The place of a value in an event."""

    kind: str
    """`field`, `header` or `key`."""
    parts: tuple[str, ...]
    """Of a field: its names from the outermost to the innermost, ANY_PART for every name; none: the whole
    payload. Of a header: its name."""

    @property
    def text(self) -> str:
        """As people write it: `customer.card`, `header.authorization`, `key`, `$`."""
        if self.kind == "key":
            return "key"
        parts = [part if part == ANY_PART or _is_plain(part) else _quoted(part) for part in self.parts]
        if self.kind == "header":
            return f"header.{'.'.join(parts)}"
        first_is_taken = self.parts[:1] in (("header",), ("key",), ("$",))
        if first_is_taken:
            parts[0] = _quoted(self.parts[0])
        return ".".join(parts) or "$"

    @property
    def hides_raw(self) -> bool:
        """Whether the raw headers of AMQP messages may say what is here: they are not shown then."""
        return self.kind in ("header", "key")

    @classmethod
    def parse(cls, text: str) -> MaskPath:
        """The path of a text; names with dots are quoted, as in queries. ValueError says what is wrong."""
        if text == "$":
            return cls("field", ())
        if text == "key":
            return cls("key", ())
        parts, quoted = _split(text)
        if parts[0] == "header" and not quoted[0]:
            if len(parts) < 2:
                raise ValueError("which header? Write header.NAME")
            return cls("header", (".".join(parts[1:]),))
        if len(parts) > PATH_PARTS_MAX:
            raise ValueError(f"a path has at most {PATH_PARTS_MAX} names")
        return cls("field", tuple(parts))


class MaskRule(NamedTuple):
    """One rule."""

    name: str
    topic: str
    """A name or, for a prefixed pattern, how names begin; `*` in a literal pattern: every topic."""
    pattern: PatternType
    path: MaskPath
    kind: MaskKind
    principals: tuple[Principal, ...]
    """Users and roles that it applies to; `User:*` is everybody."""
    exempt: tuple[Principal, ...] = ()
    """Users and roles of these that see the value all the same."""

    def is_of_topic(self, topic: str) -> bool:
        """Whether the rule is about this topic."""
        if self.pattern is PatternType.PREFIXED:
            return topic.startswith(self.topic)
        return self.topic in (topic, ANY_NAME)

    def applies_to(self, requester: Requester) -> bool:
        """Whether the requester sees the mask in the place of the value."""
        names = {requester.principal, *requester.roles}
        if names.intersection(self.exempt):
            return False
        return EVERYBODY in self.principals or bool(names.intersection(self.principals))


def rules_for(rules: Iterable[MaskRule], requester: Requester, topic: str) -> tuple[MaskRule, ...]:
    """The rules that apply to what the requester sees of a topic."""
    return tuple(rule for rule in rules if rule.is_of_topic(topic) and rule.applies_to(requester))


def _split(text: str) -> tuple[list[str], list[bool]]:
    """The names of a path, and which of them were quoted."""
    parts, quoted, position = [], [], 0
    while True:
        match = _PART.match(text, position)
        if match is None:
            raise ValueError(f"{text!r} is not a path; write names with dots between them: customer.card")
        parts.append(_ESCAPED.sub(r"\1", match[2] if match[1] is None else match[1]))
        quoted.append(match[1] is not None)
        position = match.end()
        if position == len(text):
            return parts, quoted
        if text[position] != ".":
            raise ValueError(f"{text!r} is not a path: a dot is missing at character {position + 1}")
        position += 1


def _is_plain(part: str) -> bool:
    return bool(part) and not set(part) & set('".\\')


def _quoted(part: str) -> str:
    return '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'

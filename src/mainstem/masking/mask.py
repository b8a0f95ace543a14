"""Masks events: puts something else in the place of what a person may not see.

Fields are found as a search finds them: through arrays, and in JSON that was written into a string. The
payload is written anew from what was decoded, so that a name that is in it twice hides nothing. One that is
not JSON is hidden whole if any rule is about fields, because it cannot be known what it has. Owns:
`TopicMask`. Refuses: to decide who sees what (`rules.py`), and to change an event of the log.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import msgspec

from mainstem.contract import Event
from mainstem.door_contract import AMQP_SECTIONS_HEADER
from mainstem.masking.rules import ANY_PART, MaskKind, MaskRule
from mainstem.routing_contract import AMQP091_HEADER
from mainstem.search.text.numbers import SpelledNumber
from mainstem.search.text.payload import json_of, looks_like_json
from mainstem.search.text.tokens import Scalar, scalar_text

HIDDEN_TEXT = "[hidden]"
HIDDEN_BYTES = b'"[hidden]"'
"""The payload that is shown in the place of one that is hidden whole: JSON."""
HASH_DIGITS = 16
RAW_HEADERS = frozenset(
    f"{prefix}{name}" for name in (AMQP091_HEADER, AMQP_SECTIONS_HEADER) for prefix in ("", "user.")
)
"""Headers that have others in them, as AMQP clients have sent them; of a copy, with a prefix."""
LAST4_CHARACTERS_MIN = 8

_encode = msgspec.json.Encoder().encode


class _Step:
    """A place in a payload that rules lead through: what is masked here, and by name what is further in."""

    __slots__ = ("kind", "names")

    def __init__(self) -> None:
        self.kind: MaskKind | None = None
        self.names: dict[str, _Step] = {}


class TopicMask:
    """The mask of the events of a topic for those that some rules apply to. `secret` makes hashes differ
    between servers."""

    def __init__(self, rules: Sequence[MaskRule], secret: bytes) -> None:
        assert rules, "without a rule there is nothing to mask"
        self.rules = tuple(rules)
        self._secret = secret
        self._key: MaskKind | None = None
        self._headers: dict[str, MaskKind] = {}
        self._root = _Step()
        self._has_fields = False
        for rule in rules:
            self._add(rule)
        self._hides_raw = any(rule.path.hides_raw for rule in rules)

    def _add(self, rule: MaskRule) -> None:
        path, kind = rule.path, rule.kind
        if path.kind == "key":
            self._key = _stricter(self._key, kind)
        elif path.kind == "header":
            self._headers[path.parts[0]] = _stricter(self._headers.get(path.parts[0]), kind)
        else:
            self._has_fields = True
            step = self._root
            for part in path.parts:
                step = step.names.setdefault(part, _Step())
            step.kind = _stricter(step.kind, kind)

    def masked(self, event: Event) -> Event:
        """The event as it is shown. The same object if nothing of it is masked."""
        value = self._payload(event.value)
        key = event.key if self._key is None or event.key is None else self._bytes(self._key, event.key)
        headers = event.headers
        if self._hides_raw and any(name in self._headers or name in RAW_HEADERS for name, _ in headers):
            headers = tuple(
                (name, content if content is None or kind is None else self._bytes(kind, content))
                for name, content in headers
                if name not in RAW_HEADERS
                for kind in (self._headers.get(name),)
            )
        if value is event.value and key is event.key and headers is event.headers:
            return event
        return msgspec.structs.replace(event, value=value, key=key, headers=headers)

    # ------------------------------------------------------------------------------------------------------

    def _payload(self, value: bytes | None) -> bytes | None:
        if value is None or not self._has_fields:
            return value
        if self._root.kind is not None:
            if self._root.kind is MaskKind.HIDDEN:
                return HIDDEN_BYTES
            return _encode(self._text_of_bytes(self._root.kind, value))
        tree = json_of(value)
        if tree is msgspec.UNSET:
            return HIDDEN_BYTES
        try:
            return _encode(_encodable(self._tree(tree, [self._root])))
        except RecursionError:
            return HIDDEN_BYTES

    def _tree(self, value: Any, steps: list[_Step]) -> Any:
        """The value with what is masked below it. `steps`: the places in the rules that this value is at."""
        kind = _kind_at(steps)
        if kind is not None:
            return self._all_of(kind, value)
        if type(value) is list:
            return [self._tree(child, steps) for child in value]
        if type(value) is dict:
            return {name: self._tree(child, _below(steps, name)) for name, child in value.items()}
        if type(value) is str and any(step.names for step in steps) and looks_like_json(value):
            return self._embedded(value, steps)
        return value

    def _embedded(self, text: str, steps: list[_Step]) -> str:
        """A text that has JSON in it, masked in the same way."""
        tree = json_of(text.encode())
        if tree is msgspec.UNSET:
            return text
        return _encode(_encodable(self._tree(tree, steps))).decode()

    def _all_of(self, kind: MaskKind, value: Any) -> Any:
        """The mask of a value: of each scalar in it, unless it is hidden."""
        if kind is MaskKind.HIDDEN:
            return HIDDEN_TEXT
        if type(value) is list:
            return [self._all_of(kind, child) for child in value]
        if type(value) is dict:
            return {name: self._all_of(kind, child) for name, child in value.items()}
        return None if value is None else self._scalar(kind, value)

    def _scalar(self, kind: MaskKind, value: Scalar) -> str:
        text = scalar_text(value)
        return self._hash(text.encode()) if kind is MaskKind.HASHED else _last4(text)

    def _bytes(self, kind: MaskKind, value: bytes) -> bytes:
        """The mask of a key or of a header's value."""
        return HIDDEN_TEXT.encode() if kind is MaskKind.HIDDEN else self._text_of_bytes(kind, value).encode()

    def _text_of_bytes(self, kind: MaskKind, value: bytes) -> str:
        if kind is MaskKind.HASHED:
            return self._hash(value)
        return _last4(value.decode(errors="replace"))

    def _hash(self, data: bytes) -> str:
        return "hash:" + hmac.new(self._secret, data, hashlib.sha256).hexdigest()[:HASH_DIGITS]


def _stricter(first: MaskKind | None, second: MaskKind) -> MaskKind:
    """Of two rules about the same place, the one that shows less."""
    order = (MaskKind.HIDDEN, MaskKind.HASHED, MaskKind.LAST4)
    return second if first is None else min(first, second, key=order.index)


def _kind_at(steps: list[_Step]) -> MaskKind | None:
    kinds = [step.kind for step in steps if step.kind is not None]
    kind = None
    for other in kinds:
        kind = _stricter(kind, other)
    return kind


def _below(steps: list[_Step], name: str) -> list[_Step]:
    """The places in the rules that a field of this name is at."""
    return [step.names[part] for step in steps for part in {name, ANY_PART} if part in step.names]


def _last4(text: str) -> str:
    return f"…{text[-4:]}" if len(text) >= LAST4_CHARACTERS_MIN else HIDDEN_TEXT


def _encodable(value: Any) -> Any:
    """The tree with numbers that keep their spelling when it is encoded."""
    if type(value) is SpelledNumber:
        return msgspec.Raw(str(value).encode())
    if type(value) is list:
        return [_encodable(child) for child in value]
    if type(value) is dict:
        return {name: _encodable(child) for name, child in value.items()}
    return value

"""The bindings of an exchange, by its type: which of them match a message.

Owns: a table for each type (AMQP 0-9-1, 3.1.3; RabbitMQ's headers, consistent-hash and random exchanges).
Refuses: to follow what a binding leads to (`router.py`). Randomness is an argument.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mainstem.amqp.field_values import FieldTable
from mainstem.amqp.properties import Properties
from mainstem.amqp.queue_arguments import shown, type_name
from mainstem.amqp.topic_trie import TopicTrie
from mainstem.amqp.topology import AmqpBinding, Target

WEIGHT_MAX = 1_000
"""The highest weight of a binding of a consistent-hash exchange."""


@dataclass(frozen=True, slots=True)
class Routable:
    """What routing looks at."""

    keys: tuple[str, ...]
    """The routing key, then those of the headers CC and BCC."""
    properties: Properties


class BindingTable(Protocol):
    """The bindings of one exchange."""

    @property
    def by_key_alone(self) -> bool:
        """Whether the routing keys decide."""

    def add(self, binding: AmqpBinding) -> None:
        """Add a binding, whose identity no other one has. ValueError: the type does not allow it."""

    def remove(self, binding: AmqpBinding) -> None:
        """Remove it."""

    def match(self, message: Routable) -> Iterable[Target]:
        """Where a message goes; a target may come several times."""


class DirectTable:
    """Direct: the keys are equal."""

    by_key_alone = True

    def __init__(self) -> None:
        self._targets: dict[str, Counter[Target]] = {}

    def add(self, binding: AmqpBinding) -> None:
        """See `BindingTable`."""
        self._targets.setdefault(binding.routing_key, Counter())[binding.target] += 1

    def remove(self, binding: AmqpBinding) -> None:
        """See `BindingTable`."""
        targets = self._targets[binding.routing_key]
        targets[binding.target] -= 1
        if not targets[binding.target]:
            del targets[binding.target]
        if not targets:
            del self._targets[binding.routing_key]

    def match(self, message: Routable) -> Iterable[Target]:
        """See `BindingTable`."""
        return [target for key in message.keys for target in self._targets.get(key, ())]


class FanoutTable:
    """Fanout: all of them."""

    by_key_alone = True

    def __init__(self) -> None:
        self._targets: Counter[Target] = Counter()

    def add(self, binding: AmqpBinding) -> None:
        """See `BindingTable`."""
        self._targets[binding.target] += 1

    def remove(self, binding: AmqpBinding) -> None:
        """See `BindingTable`."""
        self._targets[binding.target] -= 1
        if not self._targets[binding.target]:
            del self._targets[binding.target]

    def match(self, message: Routable) -> Iterable[Target]:
        """See `BindingTable`."""
        return list(self._targets)


class TopicTable:
    """Topic: the pattern matches a key."""

    by_key_alone = True

    def __init__(self) -> None:
        self._trie: TopicTrie[Target] = TopicTrie()

    def add(self, binding: AmqpBinding) -> None:
        """See `BindingTable`."""
        self._trie.add(binding.routing_key, binding.target)

    def remove(self, binding: AmqpBinding) -> None:
        """See `BindingTable`."""
        self._trie.remove(binding.routing_key, binding.target)

    def match(self, message: Routable) -> Iterable[Target]:
        """See `BindingTable`."""
        return [target for key in message.keys for target in self._trie.match(key)]


class HeadersTable:
    """Headers: all or any of the binding's arguments are headers of the message."""

    by_key_alone = False

    def __init__(self) -> None:
        self._bindings: dict[object, AmqpBinding] = {}

    def add(self, binding: AmqpBinding) -> None:
        """See `BindingTable`."""
        mode = binding.arguments.get("x-match", "all")
        if not isinstance(mode, str):
            raise ValueError(
                f"Invalid x-match field type {type_name(mode)} (value {shown(mode)}); expected longstr"
            )
        if mode not in ("all", "any", "all-with-x", "any-with-x"):
            expected = "expected all, any, all-with-x, or any-with-x"
            raise ValueError(f'Invalid x-match field value <<"{mode}">>; {expected}')
        self._bindings[binding.identity] = binding

    def remove(self, binding: AmqpBinding) -> None:
        """See `BindingTable`."""
        del self._bindings[binding.identity]

    def match(self, message: Routable) -> Iterable[Target]:
        """See `BindingTable`."""
        headers = message.properties.headers or {}
        return [
            binding.target for binding in self._bindings.values() if headers_match(binding.arguments, headers)
        ]


def headers_match(arguments: FieldTable, headers: Mapping[str, Any]) -> bool:
    """Whether the headers of a message are those that a binding asks for. A void argument asks for a header
    of any value; types of values do not count. Names that begin with `x-` are skipped unless `x-match` ends
    with `-with-x`."""
    mode = str(arguments.get("x-match", "all"))
    with_x = mode.endswith("-with-x")
    wanted = (
        (name, value)
        for name, value in arguments.items()
        if name != "x-match" and (with_x or not name.startswith("x-"))
    )
    results = (
        name in headers and (value is None or plain_value(headers[name]) == plain_value(value))
        for name, value in wanted
    )
    return any(results) if mode.startswith("any") else all(results)


def plain_value(value: Any) -> Any:
    """A field value without its type: text as text, numbers as numbers. A flag is no number, and a timestamp
    is one."""
    if isinstance(value, bool):
        return ("flag", bool(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, dict):
        return {name: plain_value(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    return value


class ConsistentHashTable:
    """x-consistent-hash: a binding has as many of the buckets as its routing key says; a hash of the key, or
    of what the exchange's arguments name, chooses a bucket (jump hash, Lamping and Veach 2014)."""

    def __init__(self, arguments: FieldTable) -> None:
        self._header = arguments.get("hash-header")
        self._property = arguments.get("hash-property")
        self._buckets: list[Target] = []

    @property
    def by_key_alone(self) -> bool:
        """See `BindingTable`."""
        return self._header is None and self._property is None

    def add(self, binding: AmqpBinding) -> None:
        """See `BindingTable`."""
        weight = (
            int(binding.routing_key) if binding.routing_key.isascii() and binding.routing_key.isdigit() else 0
        )
        if not 1 <= weight <= WEIGHT_MAX:
            raise ValueError(f'The binding key must be an integer: <<"{binding.routing_key}">>')
        self._buckets += [binding.target] * weight

    def remove(self, binding: AmqpBinding) -> None:
        """See `BindingTable`."""
        for _ in range(int(binding.routing_key)):
            self._buckets.remove(binding.target)

    def match(self, message: Routable) -> Iterable[Target]:
        """See `BindingTable`."""
        if not self._buckets:
            return ()
        return [self._buckets[_jump(self._hashed(message), len(self._buckets))]]

    def _hashed(self, message: Routable) -> str:
        if self._header is not None:
            return str((message.properties.headers or {}).get(str(self._header), ""))
        if self._property is not None:
            value = getattr(message.properties, str(self._property), None)
            return "" if value is None else str(value)
        return message.keys[0]


def _jump(text: str, buckets: int) -> int:
    """The bucket of a text; with one bucket more, 1 of that many texts move, all of them to the new one."""
    data = text.encode("utf-8", "surrogateescape")
    key = zlib.crc32(data) << 32 | zlib.crc32(data, 0x9E3779B9)
    bucket, following = -1, 0
    while following < buckets:
        bucket = following
        key = (key * 2862933555777941757 + 1) & 0xFFFFFFFFFFFFFFFF
        following = int((bucket + 1) * (1 << 31) / ((key >> 33) + 1))
    return bucket


class RandomTable:
    """x-random: one of the bindings, whichever."""

    by_key_alone = False

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._targets: list[Target] = []

    def add(self, binding: AmqpBinding) -> None:
        """See `BindingTable`."""
        self._targets.append(binding.target)

    def remove(self, binding: AmqpBinding) -> None:
        """See `BindingTable`."""
        self._targets.remove(binding.target)

    def match(self, message: Routable) -> Iterable[Target]:
        """See `BindingTable`."""
        return [self._rng.choice(self._targets)] if self._targets else ()


KINDS = ("direct", "fanout", "topic", "headers", "x-consistent-hash", "x-random")
"""The types of exchanges that match; `x-delayed-message` delays what one of them matches."""


def new_table(kind: str, arguments: FieldTable, rng: random.Random) -> BindingTable:
    """An empty table for an exchange of this type, one of KINDS."""
    match kind:
        case "direct":
            return DirectTable()
        case "fanout":
            return FanoutTable()
        case "topic":
            return TopicTable()
        case "headers":
            return HeadersTable()
        case "x-consistent-hash":
            return ConsistentHashTable(arguments)
        case "x-random":
            return RandomTable(rng)
        case _:
            raise AssertionError(f"no type of exchanges: {kind}")


def keys_of(routing_key: str, headers: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The routing key and those of the headers CC and BCC. ValueError: one of these is no list of texts."""
    if not headers or ("CC" not in headers and "BCC" not in headers):
        return (routing_key,)
    keys: list[str] = [routing_key]
    for name in ("CC", "BCC"):
        value = headers.get(name)
        if name in headers and not (isinstance(value, list) and all(isinstance(key, str) for key in value)):
            raise ValueError(f"{name} is no array of long strings")
        keys += value or ()
    return tuple(keys)

"""Counts the values of the fields of events, for facets and comparisons.

Owns: reading the values. Each payload is decoded once, for all fields; if fields are given, only their
outermost names are decoded. Many events are counted by column: the values that a field has in all objects
with the same names are one sequence, which `Counter` counts in C. Only arrays are counted value by value,
because a value that an event has several times in a field counts once. Refuses: to say which values are equal
(`facets.py`): that is decided at the end, once for each different value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from functools import lru_cache
from typing import Any, Self

import msgspec

from mainstem.log.storage.record_batch import Record
from mainstem.search.facets import FIELDS_MAX, VALUE_CHARACTERS_MAX, FieldCounts
from mainstem.search.match.event_view import EventView, QueryFieldReader, is_plain_name
from mainstem.search.query.ast import Term, TermTarget
from mainstem.search.query.errors import QueryError
from mainstem.search.query.format import format_path, format_target
from mainstem.search.query.parser import parse
from mainstem.search.text.numbers import PLAIN_END, SpelledNumber, canonical
from mainstem.search.text.payload import NOT_JSON, json_of, text_of
from mainstem.search.text.tokens import fields, scalar_text

PAYLOADS_MAX, PAYLOAD_BYTES_MAX = 1_000, 1 << 20
"""This number of payloads, or of bytes, is decoded at once: a batch alone may be too small for columns."""
SHAPES_MAX = 8
"""How often a counter prepares for objects with other names. After that, it decodes objects with any
names."""
_Path = tuple[str, ...]
_Columns = Iterable[tuple[str, Set[type], Sequence[Any]]]
_UNKNOWN: Set[Any] = frozenset()
_NUMBERS = frozenset({int, SpelledNumber, type(None)})
_TEXTS = frozenset({str, bool, type(None)})
"""Types of values that one Counter can count together. Of others, different values are equal: 1 and true, 1.5
and "1.5"."""
_TYPES: dict[type, Any] = {int: int | None, str: str | None}
_KINDS: dict[Any, Set[Any]] = {_TYPES[int]: _NUMBERS, _TYPES[str]: _TEXTS}


class _Column:
    """The values of one field, counted as they were decoded."""

    __slots__ = ("numbers", "texts")

    def __init__(self) -> None:
        self.numbers: Counter[Any] = Counter()
        self.texts: Counter[Any] = Counter()

    def counts(self) -> FieldCounts:
        """The counts, with those of equal values added up."""
        counts = FieldCounts({}, {}, {})
        texts, numbers = counts.texts, counts.numbers
        for value, count in self.texts.items():
            text = _text(value)
            texts[text] = texts.get(text, 0) + count
        for value, count in self.numbers.items():
            if type(value) is int and -PLAIN_END < value < PLAIN_END:
                plain = str(value)  # as canonical does, for most of them
                numbers[plain] = numbers.get(plain, 0) + count
                continue
            number = _number(value)
            if number is None:
                text = _text(value)
                texts[text] = texts.get(text, 0) + count
            elif number in numbers:
                numbers[number] += count
            else:
                numbers[number] = count
                spelling = str(value)
                if spelling != number and len(spelling) <= VALUE_CHARACTERS_MAX:
                    counts.spellings[number] = spelling
        counts.prune()
        return counts


def _number(value: Any) -> str | None:
    """The canonical spelling of a number; None for other values, and for numbers too long to be shown."""
    number = None if value is None else canonical(value)
    return None if number is None or len(number) > VALUE_CHARACTERS_MAX else number


def _text(value: Any) -> str:
    text = text_of(value) if isinstance(value, bytes) else scalar_text(value)
    return text[:VALUE_CHARACTERS_MAX]


class StrictFields:
    """Decodes objects with exactly the names of an example, and with integers and strings, or null, where it
    has them: twice as fast as to a dict, and the types of most values need no look at each of them."""

    def __init__(self, names: Sequence[str], types: Sequence[Any]) -> None:
        self._names = names
        self._kinds = [_KINDS.get(value_type, _UNKNOWN) for value_type in types]
        attributes = [f"f{number}" for number in range(len(names))]
        row = msgspec.defstruct(
            "Row",
            list(zip(attributes, types, strict=True)),
            rename=dict(zip(attributes, names, strict=True)),
            forbid_unknown_fields=True,
            gc=False,
        )
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row, float_hook=SpelledNumber)
        self.decode_row = decoder.decode
        """Decodes one payload. Raises NOT_JSON, also if it is no such object."""

    @classmethod
    def like(cls, example: Any) -> Self | None:
        """For objects like this one. None: it is no object, or has names that msgspec cannot decode to
        attributes."""
        if type(example) is not dict or not example or not all(map(is_plain_name, example)):
            return None
        return cls._for_types(
            tuple(example), tuple(_TYPES.get(type(value), Any) for value in example.values())
        )

    @classmethod
    @lru_cache(maxsize=64)
    def _for_types(cls, names: tuple[str, ...], types: tuple[Any, ...]) -> Self:
        return cls(names, types)

    def decode(self, payloads: Sequence[bytes]) -> tuple[list[Any], list[bytes]]:
        """The rows of the payloads, and the payloads that are no such objects."""
        decode = self.decode_row
        rows, others = list[Any](), list[bytes]()
        for value in payloads:
            try:
                rows.append(decode(value))
            except NOT_JSON:
                others.append(value)
        return rows, others

    def column(self, name: str) -> tuple[str, bool] | None:
        """The attribute that rows have for a name, and whether different values of it may be equal, as 1 and
        true; None: the objects have no such name."""
        if name not in self._names:
            return None
        number = self._names.index(name)
        return f"f{number}", self._kinds[number] is _UNKNOWN

    def columns(self, rows: Sequence[Any]) -> _Columns:
        """Each name with the values that the rows have for it."""
        return zip(
            self._names, self._kinds, zip(*map(msgspec.structs.astuple, rows), strict=True), strict=True
        )


class _SelectedFields:
    """Decodes some fields of objects, by their outermost names."""

    def __init__(self, names: Iterable[str]) -> None:
        self._reader = QueryFieldReader(names)

    def decode(self, payloads: Sequence[bytes]) -> tuple[list[Any], list[bytes]]:
        """The rows of the payloads, and the payloads that are no objects."""
        rows, others = list[Any](), list[bytes]()
        for value in payloads:
            view = EventView("", 0, Record(0, 0, None, value))
            row = view.row(self._reader)
            if row is None:
                others.append(value)
            elif view.is_json():
                rows.append(row)
        return rows, others

    def columns(self, rows: Sequence[Any]) -> _Columns:
        """Each name with the values that the rows have for it."""
        columns = zip(*map(msgspec.structs.astuple, rows), strict=True)
        for name, values in zip(self._reader.attributes, columns, strict=True):
            yield name, _UNKNOWN, [value for value in values if value is not msgspec.UNSET]


class FieldValueCounter:
    """Counts the values of the given fields; without any, of the first FIELDS_MAX fields of the events."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._columns = {name: _Column() for name in names}
        self.counts_all_fields = not names
        self._paths: dict[_Path, _Column] = {}
        targets = list(map(_target, names))
        for name, target in zip(names, targets, strict=True):
            if target is not None and target.kind == "field":
                self._paths[target.path] = self._columns[name]
        self._inner_paths = {path[:end] for path in self._paths for end in range(len(path))}
        outermost = [path[0] for path in self._paths]
        self._selected = _SelectedFields(outermost) if names and all(map(is_plain_name, outermost)) else None
        self._strict: StrictFields | None = None
        self._shapes_left = SHAPES_MAX
        self._payloads: list[bytes] = []
        self._payload_bytes = 0
        self._rows: list[Any] = []
        self._rows_strict: StrictFields | None = None
        self._row_bytes = 0

    def counts(self) -> dict[str, FieldCounts]:
        """The counts of each field."""
        self._add_payloads()
        self._add_rows()
        return {name: column.counts() for name, column in self._columns.items()}

    def add(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        """Count the values of events of one partition."""
        self._add_envelopes(topic, partition, records)
        if not self.counts_all_fields and not self._paths:
            return
        payloads = [record.value for record in records if record.value is not None]
        self._payloads += payloads
        self._payload_bytes += sum(map(len, payloads))
        if len(self._payloads) >= PAYLOADS_MAX or self._payload_bytes >= PAYLOAD_BYTES_MAX:
            self._add_payloads()

    def add_rows(
        self,
        topic: str,
        partition: int,
        records: Sequence[Record],
        strict: StrictFields,
        rows: Sequence[Any],
    ) -> None:
        """Count the values of events of one partition, whose payloads are decoded to these rows. The counter
        must count all fields."""
        self._add_envelopes(topic, partition, records)
        if strict is not self._rows_strict:
            self._add_rows()
            self._rows_strict = strict
        self._rows += rows
        self._row_bytes += sum([len(record.value or b"") for record in records])
        if len(self._rows) >= PAYLOADS_MAX or self._row_bytes >= PAYLOAD_BYTES_MAX:
            self._add_rows()

    def _add_envelopes(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        """Count everything but the payloads."""
        if not records:
            return
        for name, value in (("topic", topic), ("partition", str(partition))):
            if (column := self._column(name)) is not None:
                column.texts[value] += len(records)
        keys = [record.key for record in records if record.key is not None]
        if keys and (column := self._column("key")) is not None:
            column.texts.update(keys)
        for record in records:
            if record.headers:
                self._add_headers(record)

    def _add_rows(self) -> None:
        """Count the values of the rows that were collected."""
        rows, self._rows, self._row_bytes = self._rows, [], 0
        if rows:
            assert self._rows_strict is not None, "rows are of strict fields"
            self._add_columns(self._rows_strict.columns(rows))

    def _add_payloads(self) -> None:
        """Decode the payloads that were collected, and count their values."""
        payloads, self._payloads, self._payload_bytes = self._payloads, [], 0
        if payloads and self._selected is None and self._strict is None and self._shapes_left:
            self._shapes_left -= 1
            example = json_of(payloads.pop(0))
            self._add_values((), [] if example is msgspec.UNSET else [example])
            self._strict = StrictFields.like(example)
        known_fields = self._strict if self._selected is None else self._selected
        others: Sequence[bytes] = payloads
        if known_fields is not None:
            rows, others = known_fields.decode(payloads)
            self._add_columns(known_fields.columns(rows) if rows else ())
        self._add_values((), [tree for tree in map(json_of, others) if tree is not msgspec.UNSET])
        if 2 * len(others) > len(payloads):
            self._strict = None  # most objects have other names now

    def _add_columns(self, columns: _Columns) -> None:
        for name, kinds, values in columns:
            self._add_values((name,), values, kinds)

    def _add_headers(self, record: Record) -> None:
        for header, text in {(name, _text(value)) for name, value in record.headers if value is not None}:
            column = self._column(format_target(TermTarget("header", (header,))))
            if column is not None:
                column.texts[text] += 1

    def _add_values(self, path: _Path, values: Sequence[Any], kinds: Set[Any] = _UNKNOWN) -> None:
        """Count the values at a path, each of another event. `kinds`: types of which all values are."""
        pending = [(path, values, kinds)]  # no recursion: a payload may be nested nearly 1,000 deep
        while pending:
            path, values, kinds = pending.pop()
            kinds = kinds or set(map(type, values))
            if kinds <= _NUMBERS or kinds <= _TEXTS:
                self._add_scalars(path, kinds, values)
                continue
            for kind in kinds:
                same = values if len(kinds) == 1 else [value for value in values if type(value) is kind]
                if kind is dict:
                    members = list(self._members(path, same))
                    pending += reversed(members)  # so that they are counted in their order
                elif kind is list:
                    for array in same:
                        self._add_array(path, array)
                else:
                    self._add_scalars(path, {kind}, same)

    def _members(
        self, path: _Path, objects: Sequence[dict[str, Any]]
    ) -> Iterator[tuple[_Path, Sequence[Any], Set[Any]]]:
        """The fields of the objects at a path, each with its values in objects of one shape."""
        if not self.counts_all_fields and path not in self._inner_paths:
            return
        shapes: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for value in objects:
            shapes.setdefault(tuple(value), []).append(value)
        for names, same in shapes.items():
            for name, values in zip(names, zip(*map(dict.values, same), strict=True), strict=True):
                yield (*path, name), values, _UNKNOWN

    def _add_scalars(self, path: _Path, kinds: Set[type], values: Sequence[Any]) -> None:
        """Count scalars of these types, which are all in _NUMBERS or all in _TEXTS."""
        column = self._column_at(path)
        if column is None or not values:
            return
        counter, first = column.texts if kinds <= _TEXTS else column.numbers, values[0]
        if first == values[-1] and values.count(first) == len(values):
            counter[first] += len(values)  # many fields have one value for a long time
        else:
            counter.update(values)

    def _add_array(self, path: _Path, array: list[Any]) -> None:
        """Count the different values of one event."""
        seen: set[tuple[_Path, bool, str]] = set()
        for inner, scalar in fields(array, path):
            column = self._column_at(inner)
            if column is None:
                continue
            number = _number(scalar) if type(scalar) in _NUMBERS else None
            value = (inner, number is None, _text(scalar) if number is None else number)
            if value not in seen:
                seen.add(value)
                (column.texts if number is None else column.numbers)[scalar] += 1

    def _column_at(self, path: _Path) -> _Column | None:
        """The column of a field of the payload; None: it is not counted."""
        column = self._paths.get(path)
        if column is None and self.counts_all_fields and path:
            column = self._column(format_path(path))
            if column is not None:
                self._paths[path] = column
        return column

    def _column(self, name: str) -> _Column | None:
        column = self._columns.get(name)
        if column is None and self.counts_all_fields and len(self._columns) < FIELDS_MAX:
            column = self._columns[name] = _Column()
        return column


def _target(name: str) -> TermTarget | None:
    """What a field's name means; None if no part of an event has this name."""
    try:
        node = parse(f"{name}:x")
    except QueryError:
        return None
    target = node.target if isinstance(node, Term) else None
    return target if target is not None and format_target(target) == name else None

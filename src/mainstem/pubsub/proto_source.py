"""Reads a Protocol Buffers definition: the text of a .proto file, as Pub/Sub's schemas are.

Owns: the grammar of proto2 and proto3 (protobuf.dev, Language Specification) as far as it says what a message
is; names and numbers are checked by the library's pool. Refuses: imports and extensions, for a schema is a
single file; editions; more or fewer than one message that is not inside another. Options but `json_name` mean
nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Any, NoReturn

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from mainstem.pubsub.avro_schema import SchemaInvalid

DEPTH_MAX = 32
"""Maximum nesting of messages."""

_BLANK = r"(?>\s+|//[^\n]*|/\*.*?\*/)*+"
_TOKEN = re.compile(
    _BLANK
    + r"""
    (?: (?P<name>\.?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
      | (?P<number>[-+]?(?:0[xX][0-9A-Fa-f]+|\d[\d.]*(?:[eE][-+]?\d+)?))
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<symbol>[-+{}\[\]()<>;=,:])
      | (?P<end>\Z) )""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_LABELS = {"optional": 1, "required": 2, "repeated": 3}
_TYPES = {
    "double": 1,
    "float": 2,
    "int64": 3,
    "uint64": 4,
    "int32": 5,
    "fixed64": 6,
    "fixed32": 7,
    "bool": 8,
    "string": 9,
    "bytes": 12,
    "uint32": 13,
    "sfixed32": 15,
    "sfixed64": 16,
    "sint32": 17,
    "sint64": 18,
}
"""The numbers of FieldDescriptorProto.Type."""
_FIELD_NUMBER_MAX = (1 << 29) - 1


def parse_proto(definition: str) -> Any:
    """The class of the message that a definition declares. SchemaInvalid."""
    file = _ProtoParser(definition).file()
    if len(file.message_type) != 1:
        raise SchemaInvalid("a Protocol Buffers schema has one message that is not inside another")
    pool = DescriptorPool()
    prefix = f"{file.package}." if file.package else ""
    try:
        pool.Add(file)
        return GetMessageClass(pool.FindMessageTypeByName(prefix + file.message_type[0].name))
    except (TypeError, KeyError, ValueError) as error:
        reason = str(error).removeprefix("Couldn't build proto file into descriptor pool: ")
        raise SchemaInvalid(f"the Protocol Buffers schema is not valid: {reason}") from None


class _ProtoParser:
    """A method for each thing that is declared. `kind` and `token` are those of the next token."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = 0
        self._begin = 0
        self._is_proto3 = False
        self.kind = ""
        self.token = ""
        self.advance()

    def advance(self) -> str:
        token = self.token
        match = _TOKEN.match(self._text, self._end)
        if match is None:
            blank = re.compile(_BLANK, re.DOTALL).match(self._text, self._end)
            self._begin = self._end if blank is None else blank.end()
            self.fail("this is not expected here")
        self.kind = match.lastgroup or ""
        self.token = match.group(self.kind)
        self._begin, self._end = match.start(self.kind), match.end()
        return token

    def fail(self, problem: str) -> NoReturn:
        line = self._text.count("\n", 0, self._begin) + 1
        raise SchemaInvalid(f"line {line} of the Protocol Buffers schema, at {self.token[:40]!r}: {problem}")

    def expect(self, token: str) -> None:
        if self.token != token or self.kind == "string":
            self.fail(f"{token!r} is expected here")
        self.advance()

    def has(self, token: str) -> bool:
        """Pass this token if it is the next."""
        if self.token != token or self.kind == "string":
            return False
        self.advance()
        return True

    def name(self) -> str:
        if self.kind != "name" or "." in self.token:
            self.fail("a name is expected here")
        return self.advance()

    def type_name(self) -> str:
        if self.kind != "name":
            self.fail("a type is expected here")
        return self.advance()

    def number(self) -> int:
        is_negative = self.has("-")
        if self.kind != "number":
            self.fail("a number is expected here")
        try:
            value = int(self.token, 8 if re.fullmatch("0[0-7]+", self.token) else 0)
        except ValueError:
            self.fail("an integer is expected here")
        self.advance()
        return -value if is_negative else value

    def file(self) -> FileDescriptorProto:
        file = FileDescriptorProto(name="schema.proto", syntax="proto2")
        if self.has("syntax"):
            self.expect("=")
            file.syntax = self.advance()[1:-1]
            if file.syntax not in ("proto2", "proto3"):
                self.fail("the syntax is proto2 or proto3")
            self._is_proto3 = file.syntax == "proto3"
            self.expect(";")
        while self.kind != "end":
            match self.advance():
                case "package":
                    file.package = self.type_name()
                    self.expect(";")
                case "option":
                    self.skip_until(";")
                case "message":
                    self.message(file.message_type.add(), 0)
                case "enum":
                    self.enum(file.enum_type.add())
                case ";":
                    pass
                case "import":
                    self.fail("a schema imports nothing")
                case other:
                    self.fail(f"{other[:40]!r} is not part of a schema")
        return file

    def skip_until(self, end: str) -> None:
        """Pass all up to this symbol, with what is in brackets."""
        open_brackets = 0
        while open_brackets or self.token != end or self.kind == "string":
            if self.kind == "end":
                self.fail(f"{end!r} is missing")
            if self.kind == "symbol":
                open_brackets += (self.token in "{[") - (self.token in "}]")
                if open_brackets < 0:
                    self.fail(f"{end!r} is expected here")
            self.advance()
        self.advance()

    def message(self, message: DescriptorProto, depth: int) -> None:
        if depth > DEPTH_MAX:
            self.fail(f"messages nest at most {DEPTH_MAX} deep")
        message.name = self.name()
        self.expect("{")
        while not self.has("}"):
            self.member(message, depth)
        self.check_reserved(message)
        # The oneofs of proto3's optional fields come behind all others.
        for field in message.field:
            if field.proto3_optional:
                field.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field.name}")

    def check_reserved(self, message: DescriptorProto) -> None:
        """Fail if a field has a reserved name or number. Takes no more time than to sort them."""
        names = set(message.reserved_name)
        starts: list[int] = []
        ends: list[int] = []
        """The ends of the ranges with these starts, and of all that begin before."""
        for start, end in sorted((r.start, r.end) for r in message.reserved_range):
            starts.append(start)
            ends.append(max(end, ends[-1] if ends else 0))
        for field in message.field:
            place = bisect_right(starts, field.number)
            if field.name in names or (place and field.number < ends[place - 1]):
                self.fail(f"the name or the number of the field {field.name} is reserved")

    def member(self, message: DescriptorProto, depth: int) -> None:
        match self.token:
            case "message":
                self.advance()
                self.message(message.nested_type.add(), depth + 1)
            case "enum":
                self.advance()
                self.enum(message.enum_type.add())
            case "oneof":
                self.advance()
                self.oneof(message)
            case "option":
                self.skip_until(";")
            case "reserved":
                self.advance()
                self.reserved(message)
            case ";":
                self.advance()
            case "extensions" | "extend" | "group":
                self.fail("a schema has no extensions and no groups")
            case _:
                self.field(message, None)

    def oneof(self, message: DescriptorProto) -> None:
        index = len(message.oneof_decl)
        message.oneof_decl.add(name=self.name())
        self.expect("{")
        while not self.has("}"):
            if self.has("option"):
                self.skip_until(";")
            else:
                self.field(message, index)

    def field(self, message: DescriptorProto, oneof_index: int | None) -> None:
        field = FieldDescriptorProto(label=FieldDescriptorProto.LABEL_OPTIONAL)
        if oneof_index is not None:
            field.oneof_index = oneof_index
        elif self.token in _LABELS:
            field.proto3_optional = self._is_proto3 and self.token == "optional"
            if self._is_proto3 and self.token == "required":
                self.fail("proto3 has no required fields")
            field.label = _LABELS[self.advance()]
        elif not self._is_proto3 and self.token != "map":
            self.fail("a field of proto2 is optional, required or repeated")
        type_name = self.type_name()
        if type_name == "map" and self.has("<"):
            key = self.type_name()
            self.expect(",")
            value = self.type_name()
            self.expect(">")
            field.name = self.name()
            self.map_entry(message, field, key, value)
        else:
            field.name = self.name()
            _set_type(field, type_name)
        self.expect("=")
        field.number = self.field_number()
        if self.has("["):
            self.field_options(field)
        self.expect(";")
        message.field.add().CopyFrom(field)

    def field_number(self) -> int:
        number = self.number()
        if not 1 <= number <= _FIELD_NUMBER_MAX:
            self.fail(f"the number of a field is from 1 to {_FIELD_NUMBER_MAX:,}")
        return number

    def map_entry(self, message: DescriptorProto, field: FieldDescriptorProto, key: str, value: str) -> None:
        """A map is a repeated message of a key and a value."""
        words = "".join(word.capitalize() for word in field.name.split("_"))
        entry = message.nested_type.add(name=f"{words}Entry")
        entry.options.map_entry = True
        for number, (name, type_name) in enumerate((("key", key), ("value", value)), 1):
            _set_type(entry.field.add(name=name, number=number, label=1), type_name)
        field.label = FieldDescriptorProto.LABEL_REPEATED
        field.type_name = entry.name

    def field_options(self, field: FieldDescriptorProto) -> None:
        if self.token == "json_name":
            self.advance()
            self.expect("=")
            if self.kind != "string":
                self.fail("a text is expected here")
            field.json_name = self.token[1:-1]
        self.skip_until("]")

    def reserved(self, message: DescriptorProto) -> None:
        while True:
            if self.kind == "string":
                message.reserved_name.append(self.advance()[1:-1])
            else:
                first = last = self.field_number()
                if self.has("to"):
                    last = _FIELD_NUMBER_MAX if self.has("max") else self.field_number()
                message.reserved_range.add(start=first, end=last + 1)
            if not self.has(","):
                break
        self.expect(";")

    def enum(self, enum: EnumDescriptorProto) -> None:
        enum.name = self.name()
        self.expect("{")
        while not self.has("}"):
            if self.token in ("option", "reserved"):
                self.skip_until(";")
            elif not self.has(";"):
                value = enum.value.add(name=self.name())
                self.expect("=")
                value.number = self.enum_number()
                self.skip_until(";")
        if not enum.value:
            self.fail(f"the enum {enum.name} has no values")
        if self._is_proto3 and enum.value[0].number:
            self.fail(f"the first value of the enum {enum.name} is 0")
        numbers = [value.number for value in enum.value]
        enum.options.allow_alias = len(set(numbers)) < len(numbers)

    def enum_number(self) -> int:
        number = self.number()
        if not -(1 << 31) <= number < 1 << 31:
            self.fail("the number of a value has 32 bits")
        return number


def _set_type(field: FieldDescriptorProto, type_name: str) -> None:
    if type_name in _TYPES:
        field.type = _TYPES[type_name]
    else:
        field.type_name = type_name  # of a message or an enum: the pool looks it up

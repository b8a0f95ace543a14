"""Schemas of messages: Avro and Protocol Buffers, compared with data as JSON or binary.

Owns: which library or module says what a value is. Refuses: names and revisions of schemas.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias

from mainstem.pubsub.avro_schema import AvroType, SchemaInvalid, parse_avro
from mainstem.pubsub.avro_values import ValueInvalid, check_avro_binary, check_avro_json

SchemaKind: TypeAlias = Literal["AVRO", "PROTOCOL_BUFFER"]
SchemaEncoding: TypeAlias = Literal["JSON", "BINARY"]
DEFINITION_BYTES_MAX = 300_000
_DEPTH_MAX = 100


class PayloadSchema(Protocol):
    """A schema that was parsed."""

    def check(self, data: bytes, encoding: SchemaEncoding) -> None:
        """Check that data is a value of the schema. ValueInvalid."""


class _AvroMessages:
    def __init__(self, type_: AvroType) -> None:
        self._type = type_

    def check(self, data: bytes, encoding: SchemaEncoding) -> None:
        (check_avro_json if encoding == "JSON" else check_avro_binary)(self._type, data)


class _ProtoMessages:
    def __init__(self, message: Any) -> None:
        self._message = message

    def check(self, data: bytes, encoding: SchemaEncoding) -> None:
        from google.protobuf import json_format
        from google.protobuf.message import DecodeError

        value = self._message()
        try:
            if encoding == "JSON":
                json_format.Parse(data, value, max_recursion_depth=_DEPTH_MAX)
            else:
                value.ParseFromString(data)
        except (json_format.ParseError, DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueInvalid(str(error)) from None
        if not value.IsInitialized():
            missing = ", ".join(value.FindInitializationErrors())
            raise ValueInvalid(f"required fields are missing: {missing}")


def parse_schema(kind: SchemaKind, definition: str) -> PayloadSchema:
    """The schema of a definition. SchemaInvalid."""
    if not definition.strip():
        raise SchemaInvalid("the definition of the schema is empty")
    if len(definition.encode(errors="replace")) > DEFINITION_BYTES_MAX:
        raise SchemaInvalid(f"the definition of a schema has at most {DEFINITION_BYTES_MAX:,} bytes")
    if kind == "AVRO":
        return _AvroMessages(parse_avro(definition))
    from mainstem.pubsub.proto_source import parse_proto  # the library takes 20 ms, and Avro needs it not

    return _ProtoMessages(parse_proto(definition))

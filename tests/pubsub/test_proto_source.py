"""Definitions of Protocol Buffers: read as protoc reads them, and refused with the line of the mistake."""

from __future__ import annotations

import pytest
from google.protobuf import json_format

from mainstem.pubsub.avro_schema import SchemaInvalid
from mainstem.pubsub.avro_values import ValueInvalid
from mainstem.pubsub.message_schemas import DEFINITION_BYTES_MAX, parse_schema
from mainstem.pubsub.proto_source import parse_proto

FLIGHT = """
syntax = "proto3";  // as in the samples
package nyc.flights;
option java_package = "com.example";

/* A flight. */
message Flight {
  reserved 9, 20 to 30, 1000 to max;
  reserved "gate";
  enum Status { option allow_alias = true; UNKNOWN = 0; LANDED = 1; DONE = 1; LOST = -2 [deprecated = true]; }
  message Delay { optional sint32 minutes = 1; repeated string causes = 2 [packed = false, json_name = "x"]; }
  string carrier = 1;
  int32 flight_number = 2 [json_name = "number"];
  double distance = 0x3;
  Status status = 4;
  .nyc.flights.Flight.Delay delay = 5;
  map<string, Delay> delays_by_airport = 6;
  oneof target { string airport = 7; bytes code = 8; }
  repeated Kind kinds = 11;
};
enum Kind { CARGO = 0; PASSENGERS = 1; }
"""

ORDER = """
message Order {
  required int64 id = 1;
  optional string customer = 2 [default = "none; really"];
  repeated fixed32 items = 3;
}
"""


def test_a_definition_becomes_the_message_it_declares() -> None:
    flight = parse_proto(FLIGHT)
    assert flight.DESCRIPTOR.full_name == "nyc.flights.Flight"
    value = json_format.ParseDict(
        {
            "carrier": "UA",
            "number": 1545,
            "status": "LANDED",
            "delay": {"minutes": -3, "causes": ["x"]},
            "delaysByAirport": {"JFK": {"minutes": 1}},
            "airport": "LGA",
            "kinds": ["PASSENGERS"],
        },
        flight(),
    )
    decoded = flight.FromString(value.SerializeToString())
    assert decoded == value
    assert decoded.flight_number == 1545
    assert decoded.delays_by_airport["JFK"].minutes == 1
    assert decoded.WhichOneof("target") == "airport"
    assert decoded.delay.HasField("minutes")
    assert not flight.Delay().HasField("minutes")
    assert flight.DESCRIPTOR.fields_by_name["distance"].number == 3


@pytest.mark.parametrize(
    ("definition", "line"),
    [
        ('syntax = "proto3"; message A {\n string a = 1;\n', 3),
        ('syntax = "proto4";', 1),
        ('syntax = "proto3"; message A {\n string a = 1\n}', 3),
        ('syntax = "proto3"; message A {\n string a = 0;\n}', 2),
        ("message A {\n string a = 1;\n}", 2),
        ('syntax = "proto3";\nmessage A { required string a = 1; }', 2),
        ('syntax = "proto3";\nmessage A { string = 1; }', 2),
        ('syntax = "proto3";\nmessage A { enum E { X = 1; } }', 2),
        ('syntax = "proto3";\nmessage A { enum E { } }', 2),
        ('import "google/protobuf/timestamp.proto";', 1),
        ("service Flights {}", 1),
        ("message A { extensions 4 to 9; }", 1),
        ("message A {\n\n ? }", 3),
        ("message A { /* never closed", 1),
        ("message A { // a comment ends\n ? }", 2),
        (" " * 100_000 + "?", 1),
    ],
)
def test_a_mistake_names_its_line(definition: str, line: int) -> None:
    with pytest.raises(SchemaInvalid, match=f"^line {line} of"):
        parse_proto(definition)


@pytest.mark.parametrize(
    "definition",
    [
        'syntax = "proto3";',
        'syntax = "proto3"; message A {} message B {}',
        'syntax = "proto3"; message A { string a = 1; string a = 2; }',
        'syntax = "proto3"; message A { string a = 1; string b = 1; }',
        'syntax = "proto3"; message A { B b = 1; }',
        'syntax = "proto3"; message A { map<double, string> m = 1; }',
        'syntax = "proto3"; message A { reserved 1; string a = 1; }',
        'syntax = "proto3"; ' + "message A { " * 60 + "}" * 60,
    ],
)
def test_what_cannot_be_used_is_refused(definition: str) -> None:
    with pytest.raises(SchemaInvalid):
        parse_schema("PROTOCOL_BUFFER", definition)


def test_data_is_compared_with_the_message() -> None:
    order = parse_schema("PROTOCOL_BUFFER", ORDER)
    order.check(b'{"id": "4711", "items": [1, 2]}', "JSON")
    order.check(b"\x08\xe7\x24", "BINARY")
    for data in (b'{"id": "x"}', b'{"id": 1, "price": 2}', b"{", b"", b"\xff", b"[1]", b'{"items": [1]}'):
        with pytest.raises(ValueInvalid):
            order.check(data, "JSON")
    for data in (b"\x08", b"\x0f", b""):
        with pytest.raises(ValueInvalid):
            order.check(data, "BINARY")


def test_an_empty_or_a_huge_definition_is_refused() -> None:
    for definition in ("", " \n", "/" * (DEFINITION_BYTES_MAX + 1)):
        with pytest.raises(SchemaInvalid):
            parse_schema("AVRO", definition)


def test_reserved_numbers_cost_no_more_than_their_text() -> None:
    reserved = ",".join(map(str, range(20_000, 30_000)))
    fields = "".join(f"optional int32 a{number}={number};" for number in range(1, 1_000))
    definition = f"message A {{ reserved {reserved}; %s reserved 3000 to 4000, 3100; {fields} }}"
    parse_schema("PROTOCOL_BUFFER", definition % "optional int32 b=2999; optional int32 c=4001;")
    for number in (3_000, 3_500, 4_000, 20_000, 29_999):
        with pytest.raises(SchemaInvalid, match="the field b is reserved"):
            parse_schema("PROTOCOL_BUFFER", definition % f"optional int32 b={number};")

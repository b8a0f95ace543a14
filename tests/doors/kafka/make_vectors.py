"""Writes vectors.json: requests and replies of every offered key and version, and of share groups, encoded by
another implementation.

The encoder is that of kafka-python 3, and kio's for the keys that it lacks. Both have to be installed:
`pip install kafka-python==3.0.12 kio==0.6.5 && python -m tests.doors.kafka.make_vectors`. The messages are
those of examples.py. A vector is the body of a message, without length and header.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mainstem.doors.kafka.handlers import discover
from mainstem.kafka_protocol.message import NO_UUID, Message
from mainstem.kafka_protocol.schema import Field, api
from tests.doors.kafka import oracle
from tests.doors.kafka.examples import KINDS, example

TARGET = Path(__file__).with_name("vectors.json")
OTHER_NAMES = {
    "topic_authorized_operations": "authorized_operations",
    "cluster_authorized_operations": "authorized_operations",
}
"""Fields that kafka-python names differently from Kafka."""
SHARE_GROUP_KEYS = (76, 77, 78, 79, 90, 91, 92)
"""Keys whose vectors are written with or without a handler, in all versions of the schema."""


def kafka_python_classes() -> dict[tuple[int, str], Any]:
    """(key, direction) -> message class."""
    import kafka.protocol.admin
    import kafka.protocol.consumer
    import kafka.protocol.metadata
    import kafka.protocol.producer
    import kafka.protocol.sasl  # noqa: F401
    from kafka.protocol.api_message import ApiMessage

    classes = {}
    waiting = [ApiMessage]
    while waiting:
        message_class = waiting.pop()
        waiting += message_class.__subclasses__()
        if getattr(message_class, "_json", None) and message_class._class_version is None:
            classes[message_class.API_KEY, message_class.type] = message_class
    return classes


def to_kafka_python(
    entity: Any, struct: Any, fields: tuple[Field, ...], message: Message, version: int
) -> Any:
    theirs = {field.name.removesuffix("_ms"): field for field in struct._fields}
    values = {}
    for field in fields:
        if not field.in_version(version):
            continue
        other = theirs.get(field.name) or theirs[OTHER_NAMES[field.name]]
        value = getattr(message, field.name)
        if field.type == "uuid" and not field.array:
            value = None if value == NO_UUID else value
        if field.type == "struct" and value is not None:
            kind = getattr(entity, other.type_str)
            if field.array:
                value = [to_kafka_python(kind, other, field.fields, item, version) for item in value]
            else:
                value = to_kafka_python(kind, other, field.fields, value, version)
        if other.type_str == "bitfield":
            value = {bit for bit in range(31) if value >> bit & 1}
        values[other.name] = value
    return entity(version=version, **values)


def encode(
    classes: dict[tuple[int, str], Any], key: int, version: int, direction: str, message: Message
) -> tuple[str, bytes]:
    """(name of the encoder, bytes)."""
    entity = classes.get((key, direction))
    if entity is None:
        return "kio", oracle.kio_bytes(key, version, direction, message)
    fields = oracle.shape_of(key, direction).fields
    encodable = to_kafka_python(entity, entity._struct, fields, message, version)
    # Not `encodable.encode()`: its compiled path fails on Metadata replies with two fields of one name.
    flexible = entity.flexible_version_q(version)
    return "kafka-python", bytes(
        encodable._struct.encode(encodable, version=version, compact=flexible, tagged=flexible)
    )


def main() -> None:
    classes = kafka_python_classes()
    lines = []
    versions = {key: api(key).request.versions for key in SHARE_GROUP_KEYS}
    versions |= {key: handler.versions for key, handler in discover().items()}
    for key, (first, last) in sorted(versions.items()):
        for version in range(first, last + 1):
            for direction in ("request", "response"):
                for kind in KINDS:
                    message = example(oracle.shape_of(key, direction).fields, version, kind)
                    encoder, data = encode(classes, key, version, direction, message)
                    lines.append(json.dumps([key, version, direction, kind, encoder, data.hex()]))
    TARGET.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{TARGET}: {len(lines)} vectors, {TARGET.stat().st_size} bytes; {api(0).name} first")


if __name__ == "__main__":
    main()

"""Writes src/mainstem/kafka_protocol/schema.json from kio's dataclasses.

Run it with `python -m tests.doors.kafka.make_schema`. The file has every message once; each field has the
range of versions that have it, as in Apache Kafka's own schema files. The server reads this file instead of
importing kio, whose modules, one for each key and version, would take 60 MB and a second. A test writes the
file again and compares.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import uuid
from pathlib import Path
from typing import Any

from kio.index import load_payload_module, load_request_schema, load_response_schema
from kio.schema.index import api_key_map, schema_name_map
from kio.serial._introspect import classify_field, is_optional
from kio.static.constants import EntityType

TARGET = Path(__file__).parents[3] / "src/mainstem/kafka_protocol/schema.json"
BROKER_INTERNAL = {4, 5, 6, 7, 52, 53, 54, 56, 58, 59, 62, 63, 64, 67, 70, 73, 80, 81, 82, 83, 84, 85, 86, 87}
UNSTABLE = {(22, 6)}
"""(key, version). InitProducerId v6 is KIP-939, which is not released."""

Field = dict[str, Any]


def plain(value: object) -> object:
    """A default of kio as JSON: times in ms, no uuids, enums as numbers."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, datetime.timedelta):
        return round(value.total_seconds() * 1000)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, tuple) and not value:
        return []
    raise TypeError(value)


def describe(field: dataclasses.Field[Any], version: int) -> Field:
    kind = classify_field(field)
    nested = dataclasses.is_dataclass(kind.type_)
    out: Field = {"name": field.name, "type": "struct" if nested else field.metadata["kafka_type"]}
    out["versions"] = [version, version]
    if kind.is_array:
        out["array"] = True
    if "tag" in field.metadata:
        out["tag"] = field.metadata["tag"]
    if is_optional(field) and out["type"] != "uuid":
        out["nullable"] = [version, version]
    if nested:
        out["fields"] = [describe(inner, version) for inner in dataclasses.fields(kind.type_)]
    default = field.default
    if (
        default is not dataclasses.MISSING
        and not nested
        and default != ()
        and not isinstance(default, uuid.UUID)
    ):
        out["default"] = plain(default)
    elif default is None and (nested or kind.is_array):
        out["default"] = None
    return out


def widen(old: list[int], new: list[int]) -> None:
    assert new[0] == old[1] + 1, ("a gap in the versions", old, new)
    old[1] = new[1]


def merge(old: list[Field], new: list[Field], where: str) -> list[Field]:
    """The fields of `old` and of `new`, which is the next version, in the order of both."""
    by_name = {field["name"]: field for field in old}
    for field in new:
        known = by_name.get(field["name"])
        if known is None:
            continue
        for same in ("type", "array", "tag"):
            assert known.get(same) == field.get(same), (where, field, known)
        if known.get("default") != field.get("default"):
            assert "default" not in known or "default" not in field, (where, known, field)
            known["default"] = known.get("default", field.get("default"))
        widen(known["versions"], field["versions"])
        if "nullable" in field:
            if "nullable" in known:
                widen(known["nullable"], field["nullable"])
            else:
                known["nullable"] = field["nullable"]
        if "fields" in field:
            known["fields"] = merge(known["fields"], field["fields"], f"{where}.{field['name']}")
    order = [field["name"] for field in new]
    out: list[Field] = []
    remaining = list(old)
    for name in order:
        if name in by_name:
            while remaining and remaining[0]["name"] not in order:
                out.append(remaining.pop(0))
            known = by_name[name]
            assert remaining[0] is known, ("order changed", where, name)
            out.append(remaining.pop(0))
        else:
            out.append(next(field for field in new if field["name"] == name))
    return out + remaining


def message(key: int, versions: list[int], direction: EntityType) -> Field:
    out: Field = {"versions": [versions[0], versions[-1]], "fields": []}
    for version in versions:
        load_payload_module(key, version, direction)
        load = load_request_schema if direction is EntityType.request else load_response_schema
        entity = load(key, version)
        described = [describe(field, version) for field in dataclasses.fields(entity)]
        out["fields"] = (
            merge(out["fields"], described, f"{key} {direction.name}") if out["fields"] else described
        )
        if entity.__flexible__:
            out.setdefault("flexible", version)
    out.setdefault("flexible", 1000)
    return out


def generate() -> str:
    lines = []
    for key, name in sorted(api_key_map.items()):
        if key in BROKER_INTERNAL:
            continue
        versions = sorted(v for v in schema_name_map[name] if (key, v) not in UNSTABLE)
        assert versions == list(range(versions[0], versions[-1] + 1))
        entry = {
            "name": "".join(word.capitalize() for word in name.split("_")),
            "request": message(key, versions, EntityType.request),
            "response": message(key, versions, EntityType.response),
        }
        lines.append(f'"{key}": {json.dumps(entry, separators=(",", ":"))}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    TARGET.write_text(generate())
    print(f"{TARGET} {TARGET.stat().st_size} bytes")

"""CloudEvents 1.0 over HTTP in all three modes, as events in the form of the Kafka binding's binary mode.

Owns: the mapping of attributes to headers `ce_NAME`, of datacontenttype to the header `content-type`, of data
to the payload, and of the extension `partitionkey` to the key. Refuses: events without the required
attributes, and attribute names that CloudEvents does not allow. Source: cloudevents/spec v1.0.2,
http-protocol-binding.md and kafka-protocol-binding.md.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Meta, Raw

from mainstem.contract import NewEvent
from mainstem.doors.http.problem import Problem

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
INTEGER_MAX = 2**31 - 1
"""The largest integer that CloudEvents allows in an attribute."""
STRING_ATTRIBUTES = (
    *("specversion", "id", "source", "type"),
    *("datacontenttype", "partitionkey", "data_base64"),
)
REQUIRED = ("specversion", "id", "source", "type")

_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
"""A quoted string (RFC 9110, 5.6.4); `_ESCAPED` is a quoted pair in it."""
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_NAME = re.compile(r"[a-z0-9]{1,64}")
_JSON_TYPE = re.compile(r"[^/]+/(?:[^;]*\+)?json(?:\s*;.*)?", re.IGNORECASE)


class CloudEventJson(msgspec.Struct):
    """A CloudEvent in JSON; further attributes are extensions. This type is only for the OpenAPI document:
    the attributes of a request are checked one by one."""

    JSON_SCHEMA: ClassVar[dict[str, Any]] = {
        "examples": [
            {
                "specversion": "1.0",
                "id": "1",
                "source": "/shop",
                "type": "order.paid",
                "data": {"total": 1.10},
            }
        ],
        "propertyNames": {"pattern": "^([a-z0-9]{1,64}|data_base64)$"},
        "additionalProperties": {
            "anyOf": [
                {"type": ["string", "boolean", "null"]},
                {"type": "integer", "minimum": -INTEGER_MAX - 1, "maximum": INTEGER_MAX},
            ]
        },
    }

    specversion: Literal["1.0"]
    id: Annotated[str, Meta(min_length=1)]
    source: Annotated[str, Meta(min_length=1)]
    type: Annotated[str, Meta(min_length=1)]
    datacontenttype: str | None = None
    partitionkey: Annotated[str | None, Meta(description="The key of the event in the topic.")] = None
    data: Any = None
    data_base64: str | None = None


def is_binary(headers: Mapping[str, str], media: str) -> bool:
    """Whether a request is a CloudEvent in binary mode."""
    return "ce-specversion" in headers and not media.startswith("application/cloudevents")


def from_headers(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> NewEvent:
    """The event of a request in binary mode: the headers are attributes, the body is the data. Headers are
    bytes, names in lower case."""
    attributes: dict[str, str] = {}
    content_type = None
    for raw_name, value in headers:
        if raw_name == b"content-type":
            content_type = _utf8(value, "content-type")
        elif raw_name.startswith(b"ce-"):
            name = raw_name[3:].decode("ascii")  # HTTP permits no other characters in a name
            if name in attributes:
                raise Problem("invalid", f"the header ce-{name[:64]} is given twice")
            attributes[name] = _attribute_of_header(name, value)
    return _event(attributes, content_type, body or None)


def _attribute_of_header(name: str, value: bytes) -> str:
    """The text of an attribute: quotes are removed first, then percent-encoding is decoded once, and the
    result must be UTF-8 (http-protocol-binding.md, 3.1.3.2). Bytes that are not encoded are taken as UTF-8,
    too."""
    quoted = _QUOTED.fullmatch(value)
    if quoted is not None:
        value = _ESCAPED.sub(rb"\1", quoted[1])
    return _utf8(unquote_to_bytes(value), f"ce-{name[:64]}")


def _utf8(value: bytes, header: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Problem("invalid", f"the header {header} is not UTF-8") from None


def from_json(members: dict[str, Raw]) -> NewEvent:
    """The event of a CloudEvent in JSON, from a structured request or from an element of a batch."""
    attributes: dict[str, str] = {}
    data: Raw | None = None
    encoded: str | None = None
    for name, raw in members.items():
        if name == "data":
            data = raw
        elif name == "data_base64":
            encoded = _attribute(name, raw)
        else:
            value = _attribute(name, raw)
            if value is not None:
                attributes[name] = value
    if encoded is not None and data is not None and bytes(data) != b"null":
        raise Problem("unfit", "a CloudEvent has data or data_base64, not both")
    content_type = attributes.pop("datacontenttype", None)
    if encoded is not None:
        try:
            return _event(attributes, content_type, base64.b64decode(encoded, validate=True))
        except (binascii.Error, ValueError):
            raise Problem("unfit", "data_base64 is not base64") from None
    if data is None:
        return _event(attributes, content_type, None)
    payload = bytes(data)
    if content_type is not None and not _JSON_TYPE.fullmatch(content_type) and payload.startswith(b'"'):
        return _event(attributes, content_type, msgspec.json.decode(payload, type=str).encode())
    return _event(attributes, content_type or "application/json", payload)


def _attribute(name: str, raw: Raw) -> str | None:
    value = msgspec.json.decode(raw)
    if value is None or isinstance(value, str):
        return value
    if name in STRING_ATTRIBUTES:
        raise Problem("invalid", f"the CloudEvents attribute {name!r} must be a string")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and -INTEGER_MAX - 1 <= value <= INTEGER_MAX:
        return str(value)
    detail = f"the CloudEvents attribute {name[:64]!r} must be a string, a boolean or a 32-bit integer"
    raise Problem("invalid", detail)


def _event(attributes: dict[str, str], content_type: str | None, data: bytes | None) -> NewEvent:
    for name in REQUIRED:
        if not attributes.get(name):
            raise Problem("invalid", f"the CloudEvent has no attribute {name!r}")
    if attributes["specversion"] != "1.0":
        raise Problem("invalid", f"specversion {attributes['specversion'][:20]!r} is not supported; send 1.0")
    for name in attributes:
        if not _NAME.fullmatch(name):
            detail = f"{name[:64]!r} is not a CloudEvents attribute name: use lower-case letters and digits"
            raise Problem("invalid", detail)
    headers = [(f"ce_{name}", value.encode()) for name, value in sorted(attributes.items())]
    if content_type:
        headers.append(("content-type", content_type.encode()))
    key = attributes.get("partitionkey")
    return NewEvent(data, None if key is None else key.encode(), tuple(headers))

"""Support for lines of JSON in Schemathesis, which knows only whole documents. Loaded by
SCHEMATHESIS_HOOKS."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import schemathesis

NDJSON = "application/x-ndjson"


@schemathesis.serializer(NDJSON)  # type: ignore[untyped-decorator]  # not there for `make test`
def one_line(context: Any, value: Any) -> bytes:
    """A body of one line."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@schemathesis.check  # type: ignore[untyped-decorator]
def every_line_conforms(context: Any, response: Any, case: Any) -> None:
    """Each line of a response conforms to the document."""
    if response.headers.get("content-type", [""])[0] != NDJSON:
        return
    document = case.operation.schema.raw_schema
    schema = case.operation.definition.raw["responses"][str(response.status_code)]["content"][NDJSON][
        "schema"
    ]
    validator = jsonschema_rs.validator_for({**schema, "components": document["components"]})
    for line in response.content.splitlines():
        validator.validate(json.loads(line))


@schemathesis.hook  # type: ignore[untyped-decorator]
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Make every replay a dry run: replaying all events into one of the topics that are read would
    double that topic with each request. No pull waits for an event."""
    body = case.body
    is_replay = case.operation.path == "/api/v1/replay" and isinstance(body, dict)
    if is_replay and body.get("dry_run", False) is False:
        body["dry_run"] = True
    if (
        case.operation.path.endswith(":pull")
        and isinstance(body, dict)
        and isinstance(body.get("wait_ms"), int | float)
    ):
        body["wait_ms"] = min(body["wait_ms"], 10)

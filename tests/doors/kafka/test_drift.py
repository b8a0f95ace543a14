"""The report of `make drift`, on small tables."""

from __future__ import annotations

import json
from typing import Any

from tests.doors.kafka import drift, make_schema


def table(versions: list[int], fields: list[dict[str, Any]]) -> str:
    """A schema table with one API key, whose request has these fields."""
    request = {"versions": versions, "fields": fields, "flexible": 1000}
    response = {"versions": versions, "fields": [], "flexible": 1000}
    return json.dumps({"3": {"name": "Metadata", "request": request, "response": response}})


def test_it_names_the_field_that_was_added_or_changed() -> None:
    inner = {"name": "name", "type": "string", "versions": [0, 1]}
    topics = {"name": "topics", "type": "struct", "versions": [0, 1], "fields": [inner]}
    nullable = {**inner, "nullable": [1, 1]}
    added = {"name": "id", "type": "uuid", "versions": [1, 1]}
    ours = table([0, 1], [topics])
    theirs = table([0, 1], [{**topics, "fields": [nullable, added]}])
    assert drift.difference(ours, theirs) == [
        '+ 3 Metadata request.topics.id {"type": "uuid", "versions": [1, 1]}',
        '- 3 Metadata request.topics.name {"type": "string", "versions": [0, 1]}',
        '+ 3 Metadata request.topics.name {"type": "string", "versions": [0, 1], "nullable": [1, 1]}',
    ]


def test_the_table_does_not_differ_from_itself() -> None:
    text = make_schema.TARGET.read_text()
    assert drift.difference(text, text) == []
    assert len(list(drift.lines_of(json.loads(text)))) > 1_000

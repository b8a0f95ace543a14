"""Tokens, decoded payloads and fields of events."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.log.storage.record_batch import Record
from mainstem.search.text.payload import Payload, decode
from mainstem.search.text.tokens import fields, filter_tokens, tokens
from tests.search import reference
from tests.search.strategies import records


@given(st.text())
def test_tokens_are_the_runs_of_letters_and_digits(text: str) -> None:
    assert tokens(text) == reference.words(text)


@pytest.mark.parametrize(
    ("raw", "payload"),
    [
        (None, Payload("null")),
        (b'{"a":1.50}', Payload("json", {"a": 1.5}, '{"a":1.50}')),
        (b" null ", Payload("json", None, " null ")),
        ("é!".encode(), Payload("text", None, "é!")),
        (b"", Payload("text", None, "")),
        (b"\xff\x00", Payload("binary", None, "ff00")),
        (b'{"a":"\xff"}', Payload("binary", None, b'{"a":"\xff"}'.hex())),
        (b"[NaN]", Payload("text", None, "[NaN]")),
        (b'"\\ud800"', Payload("text", None, '"\\ud800"')),
    ],
)
def test_a_payload_is_json_text_binary_or_null(raw: bytes | None, payload: Payload) -> None:
    assert decode(raw) == payload


def test_json_that_is_nested_too_deeply_is_text() -> None:
    assert decode(b"[" * 100_000 + b"]" * 100_000).kind == "text"


def test_paths_of_fields_have_no_array_indexes() -> None:
    value = {"a": [{"b": 1}, {"b": [2, None]}], "c": {}, "d.e": "x"}
    assert list(fields(value)) == [(("a", "b"), 1), (("a", "b"), 2), (("a", "b"), None), (("d.e",), "x")]


@settings(max_examples=300, deadline=None)
@given(records)
def test_a_filter_has_every_token_of_an_event(record: Record) -> None:
    wanted = {word for text in reference.texts(record) for word in reference.words(text)}
    assert wanted <= filter_tokens(record)

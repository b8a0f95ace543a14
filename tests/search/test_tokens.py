"""Tokens, decoded payloads and fields of events."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from mainstem.log.storage.record_batch import Record
from mainstem.search.text.payload import is_binary, json_of, text_of
from mainstem.search.text.tokens import fields, filter_tokens, tokens
from tests.search import reference
from tests.search.strategies import records


@given(st.text())
def test_tokens_are_the_runs_of_letters_and_digits(text: str) -> None:
    assert tokens(text) == reference.words(text)


@pytest.mark.parametrize(
    ("raw", "value", "text"),
    [
        (b'{"a":1.50}', {"a": "1.50"}, '{"a":1.50}'),
        (b" null ", None, " null "),
        ("é!".encode(), UNSET, "é!"),
        (b"", UNSET, ""),
        (b"\xff\x00", UNSET, "ff00"),
        (b'{"a":"\xff"}', UNSET, b'{"a":"\xff"}'.hex()),
        (b"[NaN, -Infinity, 1.50]", ["NaN", "-Infinity", "1.50"], "[NaN, -Infinity, 1.50]"),
        (b"[NaN,]", UNSET, "[NaN,]"),
        (b'[NaN, "\\ud800"]', UNSET, '[NaN, "\\ud800"]'),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}, '\ufeff{"a":1}'),
        (b'\x00\x00\x00\x00\x07{"a":1}', {"a": 1}, '\0\0\0\0\x07{"a":1}'),
        (b"\x00\x00\x00\x00\x07[1", UNSET, "\0\0\0\0\x07[1"),
        (b'"\\ud800"', UNSET, '"\\ud800"'),
        (b"[" * 100_000 + b"]" * 100_000, UNSET, "[" * 100_000 + "]" * 100_000),
    ],
)
def test_a_payload_is_json_text_or_binary(raw: bytes, value: object, text: str) -> None:
    assert json_of(raw) == value
    assert text_of(raw) == text
    assert is_binary(raw) is (text == raw.hex() != "")


def test_paths_of_fields_have_no_array_indexes() -> None:
    value = {"a": [{"b": 1}, {"b": [2, None]}], "c": {}, "d.e": "x"}
    assert list(fields(value)) == [(("a", "b"), 1), (("a", "b"), 2), (("a", "b"), None), (("d.e",), "x")]


@settings(max_examples=300, deadline=None)
@given(records)
def test_a_filter_has_every_token_of_an_event(record: Record) -> None:
    wanted = {word for text in reference.texts(record) for word in reference.words(text)}
    assert wanted <= filter_tokens(record)

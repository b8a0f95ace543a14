"""The tantivy schema of index parts, and how tokens become terms. Builder and reader share it.

One document is one batch of the log, because a batch must be read and decompressed as a whole anyway. Its
field `words` has the terms of all tokens of its events, the same tokens as in token filters
(`token_filter.batch_tokens`). Its field `row` is its number in the part's table. Neither texts nor positions
of words are stored: the batches that a query finds are read from the log and tested by the matcher.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from importlib.metadata import version

import tantivy

TANTIVY_VERSION = version("tantivy")
"""Parts of another version are not used, because its files may differ."""
WORDS, ROW = "words", "row"
TERM_BYTES_MAX = 32
"""Longer tokens are hashed, because long terms need much space and tantivy silently drops those of 64 KB."""

_builder = tantivy.SchemaBuilder()
# Tokens contain no ASCII white space, so this tokenizer splits the joined tokens into the same tokens.
_builder.add_text_field(WORDS, stored=False, tokenizer_name="whitespace", index_option="basic")
_builder.add_unsigned_field(ROW, stored=False, indexed=False, fast=True)
SCHEMA = _builder.build()


def document(row: int, tokens: Iterable[bytes]) -> tantivy.Document:
    """The document of a batch whose events have these tokens."""
    words = b" ".join([token if len(token) <= TERM_BYTES_MAX else _hashed(token) for token in tokens])
    batch_document = tantivy.Document()
    batch_document.add_text(WORDS, words.decode())
    batch_document.add_unsigned(ROW, row)
    return batch_document


def _hashed(token: bytes) -> bytes:
    """The term of a long token. It begins with #, which no token of letters and digits contains. If two
    tokens have the same term, a batch is read in vain."""
    return b"#" + blake2b(token, digest_size=8).hexdigest().encode()


def query(clauses: Iterable[Iterable[str]]) -> tantivy.Query:
    """A query for the batches that have a token of each clause."""
    must = []
    for clause in clauses:
        terms = [_term(token) for token in clause]
        any_term = (
            terms[0]
            if len(terms) == 1
            else tantivy.Query.boolean_query([(tantivy.Occur.Should, term) for term in terms])
        )
        must.append((tantivy.Occur.Must, any_term))
    return tantivy.Query.boolean_query(must)


def _term(token: str) -> tantivy.Query:
    encoded = token.encode()
    term = encoded if len(encoded) <= TERM_BYTES_MAX else _hashed(encoded)
    return tantivy.Query.term_query(SCHEMA, WORDS, term.decode(), index_option="basic")

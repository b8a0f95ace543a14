"""Tokens as terms of a tantivy index: the schema that builder and reader share.

Owns: which term stands for a token, and the fields. One document is one batch of the log, for a batch has to
be read and decompressed as a whole anyway; its `words` are the terms of all tokens of its events, exactly
those of the token filters (`token_filter.batch_tokens`), and its `row` is its number in the part's table.
Texts are not stored, nor positions of words: what the index names is read in the log and compared by the
matcher.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from importlib.metadata import version

import tantivy

TANTIVY_VERSION = version("tantivy")
"""Another version may not read the files, or write others."""
WORDS, ROW = "words", "row"
TERM_BYTES_MAX = 32
"""Longer tokens are hashed: tantivy passes over terms of 64 KB in silence, and long ones take room."""

_builder = tantivy.SchemaBuilder()
# No token has ASCII white space in it, so that the tokenizer gives back what was joined by it.
_builder.add_text_field(WORDS, stored=False, tokenizer_name="whitespace", index_option="basic")
_builder.add_unsigned_field(ROW, stored=False, indexed=False, fast=True)
SCHEMA = _builder.build()


def document(row: int, found: Iterable[bytes]) -> tantivy.Document:
    """A batch whose events have these tokens."""
    made = tantivy.Document()
    words = b" ".join([token if len(token) <= TERM_BYTES_MAX else _hashed(token) for token in found])
    made.add_text(WORDS, words.decode())
    made.add_unsigned(ROW, row)
    return made


def _hashed(token: bytes) -> bytes:
    """Begins with a character that no token of letters and digits has. Two tokens of one term cost time
    only."""
    return b"#" + blake2b(token, digest_size=8).hexdigest().encode()


def query(clauses: Iterable[Iterable[str]]) -> tantivy.Query:
    """The batches that have a token of each clause."""
    must = []
    for clause in clauses:
        terms = [_term(token) for token in clause]
        any_of = (
            terms[0]
            if len(terms) == 1
            else tantivy.Query.boolean_query([(tantivy.Occur.Should, term) for term in terms])
        )
        must.append((tantivy.Occur.Must, any_of))
    return tantivy.Query.boolean_query(must)


def _term(token: str) -> tantivy.Query:
    found = token.encode()
    term = found if len(found) <= TERM_BYTES_MAX else _hashed(found)
    return tantivy.Query.term_query(SCHEMA, WORDS, term.decode(), index_option="basic")

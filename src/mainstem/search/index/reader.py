"""Asking index parts: which batches may match.

Owns: open parts, a few of them, and the way from a query's required tokens to places in the log. Refuses: to
believe a part whose files were touched since they were checked. Used by the search workers. Needs tantivy.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import tantivy

from mainstem.search.index import layout, terms
from mainstem.search.ipc import CandidateBatch, QueryPartsReply, QueryPartsRequest

OPEN_MAX = 256
"""Each is some mapped files; opening takes 0.3 ms."""
CANDIDATES_MAX = 1024
"""A part that names more batches does not narrow: some 2,000 of 64 KB are in one."""


@dataclass(slots=True)
class _OpenPart:
    fingerprint: str
    searcher: tantivy.Searcher
    table: int
    """File descriptor."""


class IndexReader:
    """Open parts. Not for several threads."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, _OpenPart] = OrderedDict()

    def query(self, request: QueryPartsRequest) -> QueryPartsReply:
        """See `QueryPartsRequest`. Never fails: what cannot be asked is `changed`."""
        self._forget()
        query = terms.query(request.clauses)
        named: list[list[CandidateBatch] | None] = []
        touched = []
        for number, (folder, fingerprint) in enumerate(request.parts):
            try:
                named.append(_ask(self._opened(folder, fingerprint), query))
            except BaseException as error:
                if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                    raise
                self._close(folder)
                named.append(None)
                touched.append(number)
        return QueryPartsReply(request.id, named, touched)

    def close(self) -> None:
        """Give all parts back."""
        for folder in list(self._open):
            self._close(folder)

    def _opened(self, folder: str, fingerprint: str) -> _OpenPart:
        """The part. Whatever tantivy raises, OSError, layout.DamagedPart."""
        if layout.fingerprint(folder) != fingerprint:
            raise layout.DamagedPart(f"{folder} was touched")
        part = self._open.get(folder)
        if part is not None and part.fingerprint != fingerprint:
            self._close(folder)
            part = None
        if part is None:
            searcher = tantivy.Index.open(folder).searcher()
            table = os.open(os.path.join(folder, layout.TABLE), os.O_RDONLY | os.O_CLOEXEC)
            part = self._open[folder] = _OpenPart(fingerprint, searcher, table)
            if len(self._open) > OPEN_MAX:
                self._close(next(iter(self._open)))
        self._open.move_to_end(folder)
        return part

    def _forget(self) -> None:
        """Give back what was removed: its room on the disk is free only then."""
        for folder in [folder for folder in self._open if not os.path.exists(folder)]:
            self._close(folder)

    def _close(self, folder: str) -> None:
        part = self._open.pop(folder, None)
        if part is not None:
            os.close(part.table)


INDEX_READER = IndexReader()
"""The process's own."""


def _ask(part: _OpenPart, query: tantivy.Query) -> list[CandidateBatch] | None:
    counted = part.searcher.search(query, limit=1, count=True)
    count: int = counted.count  # type: ignore[attr-defined]  # its stubs lack it
    if count > CANDIDATES_MAX:
        return None
    if not count:
        return []
    found = part.searcher.search(
        query, limit=count, count=False, order_by_field=terms.ROW, order=tantivy.Order.Asc
    )
    return _named(part.table, [row for row, _ in found.hits])


def _named(table: int, rows: Sequence[int]) -> list[CandidateBatch]:
    named = []
    for row in rows:
        data = os.pread(table, 2 * layout.ROW.size, row * layout.ROW.size)
        if len(data) < 2 * layout.ROW.size:
            raise layout.DamagedPart("the table is too short")
        (start, first), (end, after) = layout.ROW.iter_unpack(data)
        named.append(CandidateBatch(start, end, first, after))
    return named

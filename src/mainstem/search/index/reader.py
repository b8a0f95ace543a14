"""Queries index parts: which batches of the log may match. Needs tantivy.

Owns: the open index parts of this process, at most OPEN_MAX. Refuses: to use a part whose files changed since
it was checked, and to read the log.
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
"""Maximum open parts. Each has some mapped files; opening one takes 0.3 ms."""
CANDIDATES_MAX = 1024
"""If more batches of a part may match, its blocks are read in full: the index would save little. A part has
some 2,000 batches of 64 KB."""


@dataclass(slots=True)
class _OpenPart:
    fingerprint: str
    searcher: tantivy.Searcher
    table: int
    """File descriptor of the table of batches."""


class IndexReader:
    """Queries index parts, and keeps those that were used last open. Not thread-safe."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, _OpenPart] = OrderedDict()

    def query(self, request: QueryPartsRequest) -> QueryPartsReply:
        """The batches that may match, of each index part in the request. Never fails: a part that cannot be
        queried has None and is listed in `changed`, so that the server checks it again."""
        self._close_removed()
        query = terms.query(request.clauses)
        candidates: list[list[CandidateBatch] | None] = []
        changed = []
        for number, (folder, fingerprint) in enumerate(request.parts):
            try:
                candidates.append(_query_part(self._open_part(folder, fingerprint), query))
            except BaseException as error:
                # tantivy reports a panic with a PanicException, which is no Exception.
                if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                    raise
                self._close_part(folder)
                candidates.append(None)
                changed.append(number)
        return QueryPartsReply(request.id, candidates, changed)

    def close(self) -> None:
        """Close all parts."""
        for folder in list(self._open):
            self._close_part(folder)

    def _open_part(self, folder: str, fingerprint: str) -> _OpenPart:
        """The open part in this folder, opened if necessary. Raises any error of tantivy, OSError,
        layout.DamagedPart (its files changed)."""
        if layout.fingerprint(folder) != fingerprint:
            raise layout.DamagedPart(f"files of {folder} changed since they were checked")
        part = self._open.get(folder)
        if part is not None and part.fingerprint != fingerprint:
            self._close_part(folder)
            part = None
        if part is None:
            searcher = tantivy.Index.open(folder).searcher()
            table = os.open(os.path.join(folder, layout.TABLE), os.O_RDONLY | os.O_CLOEXEC)
            part = self._open[folder] = _OpenPart(fingerprint, searcher, table)
            if len(self._open) > OPEN_MAX:
                self._close_part(next(iter(self._open)))
        self._open.move_to_end(folder)
        return part

    def _close_removed(self) -> None:
        """Close parts that were removed. Only then is their disk space free."""
        for folder in [folder for folder in self._open if not os.path.exists(folder)]:
            self._close_part(folder)

    def _close_part(self, folder: str) -> None:
        part = self._open.pop(folder, None)
        if part is not None:
            os.close(part.table)


INDEX_READER = IndexReader()
"""The index reader of this process."""


def _query_part(part: _OpenPart, query: tantivy.Query) -> list[CandidateBatch] | None:
    """The batches that may match, by position; None: there are more than CANDIDATES_MAX."""
    counted = part.searcher.search(query, limit=1, count=True)
    count: int = counted.count  # type: ignore[attr-defined]  # missing in tantivy's stubs
    if count > CANDIDATES_MAX:
        return None
    if not count:
        return []
    result = part.searcher.search(
        query, limit=count, count=False, order_by_field=terms.ROW, order=tantivy.Order.Asc
    )
    return _read_candidates(part.table, [row for row, _ in result.hits])


def _read_candidates(table: int, rows: Sequence[int]) -> list[CandidateBatch]:
    candidates = []
    for row in rows:
        data = os.pread(table, 2 * layout.ROW.size, row * layout.ROW.size)
        if len(data) < 2 * layout.ROW.size:
            raise layout.DamagedPart(f"the table ends before row {row}")
        (start, first_offset), (end, next_offset) = layout.ROW.iter_unpack(data)
        candidates.append(CandidateBatch(start, end, first_offset, next_offset))
    return candidates

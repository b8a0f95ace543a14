"""The process that builds, checks and removes index parts: `python -m mainstem.search.index.builder`.

An index part is the piece of the full-text index that covers some closed blocks of one segment.

Owns: how a part is built from its blocks, with no more memory than HEAP_BYTES and two batches. Refuses: to
write to the log, to leave an incomplete part under the name of a complete one, and to decide which part is
built next: `manager.py` does, starts this process at low priority and sends it requests as to any search
worker. The process ends when the server closes the pipe.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from mainstem.log.errors import CorruptBatch
from mainstem.log.paths import parse_segment
from mainstem.log.storage.record_batch import HEADER_BYTES, decode
from mainstem.search import ipc
from mainstem.search.blocks import token_filter
from mainstem.search.blocks.batches import DataDeleted, MappedRange, locate_batches
from mainstem.search.index import layout
from mainstem.search.ipc import IndexPart, Reply, Request, Unit
from mainstem.search.workers.worker import SearchWorker, serve_requests

HEAP_BYTES = 64 << 20
"""Memory that tantivy may use before it writes a segment of its index."""
BATCH_BYTES_MAX = 64 << 20
"""If a batch is larger when decompressed, its block is not indexed. A search reports such a batch as
unreadable."""


class BuildCancelled(Exception):
    """Raised in a build whose request was cancelled; the incomplete part is removed."""


def build_part(root: Path, blocks: Sequence[Unit], is_cancelled: Callable[[], bool]) -> IndexPart:
    """Build the index part of these blocks below `root`. Raises DataDeleted, BuildCancelled, ValueError (an
    error of tantivy) and OSError; then no part is left."""
    segment = Path(blocks[0].path)
    target = root / segment.parent.name / layout.part_name(parse_segment(segment.name) or 0, blocks[0].start)
    partial = target.with_name(target.name + layout.PARTIAL)
    layout.remove_parts([str(partial), str(target)])
    partial.mkdir(mode=0o700, parents=True)
    try:
        unindexed = _write_files(partial, blocks, is_cancelled)
        os.rename(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    fingerprint = layout.fingerprint(str(target))
    return IndexPart(str(target), str(segment), blocks[0].start, blocks[-1].end, unindexed, fingerprint)


def _write_files(
    folder: Path, blocks: Sequence[Unit], is_cancelled: Callable[[], bool]
) -> list[tuple[int, int]]:
    """Write all files of a part. Returns start and end of the blocks that are not indexed, because a batch in
    them cannot be decoded."""
    import tantivy

    from mainstem.search.index import terms

    writer = tantivy.Index(terms.SCHEMA, path=str(folder)).writer(HEAP_BYTES, 1)
    unindexed: list[tuple[int, int]] = []
    row, last_position, last_header = 0, 0, b""
    with (folder / layout.TABLE).open("wb") as table:
        for block in blocks:
            is_indexed = True
            with MappedRange(block.path, block.start, block.end) as file:
                for batch in locate_batches(file.view, end_offset=block.high):
                    if is_cancelled():
                        raise BuildCancelled
                    if batch.position == batch.end:  # No batch has the offsets before the next block.
                        is_indexed = False
                        continue
                    table.write(layout.ROW.pack(block.start + batch.position, batch.offset))
                    tokens = _tokens(file.view[batch.position : batch.end]) if batch.header else None
                    if tokens:
                        writer.add_document(terms.document(row, tokens))
                    is_indexed = is_indexed and tokens is not None
                    row += 1
                    last_position = block.start + batch.position
                    last_header = bytes(file.view[batch.position : batch.position + HEADER_BYTES])
            if not is_indexed:
                unindexed.append((block.start, block.end))
        table.write(layout.ROW.pack(blocks[-1].end, blocks[-1].high))
    writer.commit()
    writer.wait_merging_threads()
    base = parse_segment(Path(blocks[0].path).name) or 0
    layout.write_manifest(
        folder,
        layout.PartManifest(
            terms.TANTIVY_VERSION, base, blocks[0].start, blocks[-1].end, unindexed, last_position,
            last_header, layout.file_checksums(folder),
        ),
    )  # fmt: skip
    return unindexed


def _tokens(batch: memoryview) -> set[bytes] | None:
    """All tokens of a batch; None: it cannot be decoded."""
    try:
        return token_filter.batch_tokens(decode(batch, cap_bytes=BATCH_BYTES_MAX))
    except CorruptBatch:
        return None


class IndexWorker(SearchWorker):
    """The worker that handles the server's requests to find, check, build and remove index parts."""

    def run(self) -> None:
        """Handle requests until the pipe closes."""
        while (request := self._pipes.next()) is not None:
            try:
                reply: Reply = ipc.PartsReply(request.id, self._parts(request))
            except DataDeleted:
                reply = ipc.FailureReply(request.id, "the data was deleted", data_deleted=True)
            except BuildCancelled:
                reply = ipc.FailureReply(request.id, "the build was cancelled")
            except BaseException as error:
                # tantivy reports a panic with a PanicException, which is no Exception.
                if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                    raise
                reply = ipc.FailureReply(request.id, str(error) or type(error).__name__)
            self._pipes.send(reply)

    def _parts(self, request: Request) -> list[IndexPart]:
        match request:
            case ipc.BuildPartRequest(id, root, blocks):
                return [build_part(Path(root), blocks, lambda: self._pipes.is_cancelled(id))]
            case ipc.CheckPartRequest(_, part):
                return self._check(part)
            case ipc.FindPartsRequest(_, root, partitions):
                return layout.find_parts(Path(root), Path(partitions))
            case ipc.RemovePartsRequest(_, folders):
                layout.remove_parts(folders)
                return []
        raise ValueError(f"not a request for the index builder: {request}")

    @staticmethod
    def _check(part: IndexPart) -> list[IndexPart]:
        from mainstem.search.index.terms import TANTIVY_VERSION

        try:
            return [layout.check_part(Path(part.folder), Path(part.path).parent, TANTIVY_VERSION)]
        except layout.DamagedPart:
            layout.remove_parts([part.folder])
            return []


if __name__ == "__main__":
    serve_requests(IndexWorker)

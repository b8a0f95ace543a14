"""The process that makes index parts: `python -m mainstem.search.index.builder`.

Owns: reading closed blocks of the log, writing a part of them, reading parts to see whether they are whole,
removing parts. Refuses: to write to the log, to take more memory than HEAP_BYTES and a batch or two, and to
leave half a part where a whole one is looked for. Started by `manager.py` through the pool, in the
background, with a worker's pipes and messages; it ends when the server's end of them closes.
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
"""What tantivy may gather in memory before it writes a piece of a part."""
BATCH_BYTES_MAX = 64 << 20
"""A batch that is larger when decompressed makes its block a hole, as it makes a search report it."""


class BuildCancelled(Exception):
    """Nobody wants the part any more."""


def build_part(root: Path, blocks: Sequence[Unit], cancelled: Callable[[], bool]) -> IndexPart:
    """Make a part. DataDeleted, BuildCancelled, ValueError (tantivy), OSError."""
    segment = Path(blocks[0].path)
    target = root / segment.parent.name / layout.part_name(parse_segment(segment.name) or 0, blocks[0].start)
    partial = target.with_name(target.name + layout.PARTIAL)
    layout.remove_parts([str(partial), str(target)])
    partial.mkdir(mode=0o700, parents=True)
    try:
        holes = _fill(partial, blocks, cancelled)
        os.rename(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    mark = layout.fingerprint(str(target))
    return IndexPart(str(target), str(segment), blocks[0].start, blocks[-1].end, holes, mark)


def _fill(folder: Path, blocks: Sequence[Unit], cancelled: Callable[[], bool]) -> list[tuple[int, int]]:
    """Everything in the part's folder. The holes."""
    import tantivy

    from mainstem.search.index import terms

    writer = tantivy.Index(terms.SCHEMA, path=str(folder)).writer(HEAP_BYTES, 1)
    holes: list[tuple[int, int]] = []
    row, last, last_header = 0, 0, b""
    with (folder / layout.TABLE).open("wb") as table:
        for block in blocks:
            whole = True
            with MappedRange(block.path, block.start, block.end) as file:
                for batch in locate_batches(file.view, end_offset=block.high):
                    if cancelled():
                        raise BuildCancelled
                    if batch.position == batch.end:  # no batch has the offsets before the next block
                        whole = False
                        continue
                    table.write(layout.ROW.pack(block.start + batch.position, batch.offset))
                    found = _tokens(file.view[batch.position : batch.end]) if batch.header else None
                    if found:
                        writer.add_document(terms.document(row, found))
                    whole = whole and found is not None
                    row += 1
                    last = block.start + batch.position
                    last_header = bytes(file.view[batch.position : batch.position + HEADER_BYTES])
            if not whole:
                holes.append((block.start, block.end))
        table.write(layout.ROW.pack(blocks[-1].end, blocks[-1].high))
    writer.commit()
    writer.wait_merging_threads()
    base = parse_segment(Path(blocks[0].path).name) or 0
    layout.write_manifest(
        folder,
        layout.PartManifest(
            terms.TANTIVY_VERSION, base, blocks[0].start, blocks[-1].end, holes, last, last_header,
            layout.file_checksums(folder),
        ),
    )  # fmt: skip
    return holes


def _tokens(batch: memoryview) -> set[bytes] | None:
    """All of a batch's tokens; None: it cannot be decoded."""
    try:
        return token_filter.batch_tokens(decode(batch, cap_bytes=BATCH_BYTES_MAX))
    except CorruptBatch:
        return None


class IndexWorker(SearchWorker):
    """Does requests."""

    def run(self) -> None:
        """Until the pipe closes."""
        while (request := self._pipes.next()) is not None:
            try:
                reply: Reply = ipc.PartsReply(request.id, self._made(request))
            except DataDeleted:
                reply = ipc.RequestFailed(request.id, "its data was deleted", data_deleted=True)
            except BuildCancelled:
                reply = ipc.RequestFailed(request.id, "it is not wanted any more")
            except BaseException as error:
                if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                    raise
                reply = ipc.RequestFailed(request.id, str(error) or type(error).__name__)
            self._pipes.send(reply)

    def _made(self, request: Request) -> list[IndexPart]:
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
        raise ValueError(f"no request for the builder: {request}")

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

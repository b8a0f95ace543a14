"""The lines that `produce` reads: compressed or not, from files and from standard input."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import cramjam
import pytest

from mainstem.cli.input_lines import InputError, InputLines

TEXT = b'{"n":1}\n{"n":2}\n'
LINES = [(1, b'{"n":1}'), (2, b'{"n":2}')]
MARK = b"\xef\xbb\xbf"


def lines_of(path: str) -> list[tuple[int, bytes | None]]:
    return list(InputLines([path]).read(path))


@pytest.mark.parametrize("name", ["a.GZ", "a", "a.gz", "a.zst", "a.ZST", "a.jsonl"])
def test_compression_is_recognized_by_the_first_bytes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for stored in (
        gzip.compress(TEXT),
        gzip.compress(TEXT[:8]) + gzip.compress(TEXT[8:]),
        bytes(cramjam.zstd.compress(TEXT)),
        TEXT,
        gzip.compress(MARK + TEXT),
        bytes(cramjam.zstd.compress(MARK + TEXT)),
        MARK + TEXT,
    ):
        path.write_bytes(stored)
        assert lines_of(str(path)) == LINES


def test_a_byte_order_mark_is_removed_at_the_start_only(tmp_path: Path) -> None:
    path = tmp_path / "marks"
    for stored, values in (
        (MARK, []),
        (MARK + b"\n", [b""]),
        (MARK[:2], [MARK[:2]]),
        (MARK + MARK + b"x\n" + MARK + b"y", [MARK + b"x", MARK + b"y"]),
        (b"x\n" + MARK + b"y\n", [b"x", MARK + b"y"]),
    ):
        path.write_bytes(stored)
        assert [line for _, line in lines_of(str(path))] == values


@pytest.mark.parametrize(
    ("stored", "what"),
    [
        (lzma.compress(TEXT), "is compressed with xz; make lines of it: xz -dc FILE"),
        (bz2.compress(TEXT), "is compressed with bzip2; make lines of it: bzip2 -dc FILE"),
        (TEXT.decode().encode("utf-16"), "is UTF-16; make lines of it: iconv -f UTF-16 -t UTF-8 FILE"),
    ],
    ids=["xz", "bzip2", "utf-16"],
)
def test_what_is_not_lines_is_an_error_that_names_the_command(
    tmp_path: Path, stored: bytes, what: str
) -> None:
    path = tmp_path / "stored.jsonl"
    path.write_bytes(stored)
    with pytest.raises(InputError) as caught:
        lines_of(str(path))
    assert str(caught.value) == f"{path} {what} | mainstem produce TOPIC"


def lines_of_pipe(monkeypatch: pytest.MonkeyPatch, pieces: list[bytes]) -> list[tuple[int, bytes | None]]:
    """The lines of standard input, into which the pieces are written one by one."""
    read_end, write_end = os.pipe()

    def write() -> None:
        for piece in pieces:
            os.write(write_end, piece)
        os.close(write_end)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with open(read_end, "rb") as source:
            monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=source))
            return lines_of("-")
    finally:
        writer.join()


def test_standard_input_is_recognized_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for stored in (TEXT, MARK + TEXT, gzip.compress(TEXT), gzip.compress(MARK + TEXT)):
        assert lines_of_pipe(monkeypatch, [stored]) == LINES
    assert lines_of_pipe(monkeypatch, [MARK[:1], MARK[1:] + TEXT[:3], TEXT[3:]]) == LINES
    with pytest.raises(InputError, match="standard input is compressed with zstd; name a file"):
        lines_of_pipe(monkeypatch, [bytes(cramjam.zstd.compress(TEXT))])

"""What others chose (names, keys, values, headers, texts of errors) cannot control the terminal that shows
it."""

from __future__ import annotations

import os
import pty
import re
import sys
import tty
from collections.abc import Iterator

import pytest

from mainstem.cli import run
from tests.support.hostile import FORGED, HOSTILE, MARK, RawClient, join
from tests.support.raw_batches import batch_with_names, produce_batch
from tests.support.server import Server

OURS = re.compile(r"\x1b\[[\d;]*m|\r\x1b\[2K")
"""Colours, and what clears the line of progress."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with an event in the topic `t`, and a group with a member; all their texts are hostile."""
    with Server(tmp_path_factory.mktemp("hostile") / "data") as server:
        assert run(["topics", "create", "t", "--at", server.address]) == 0
        evil = HOSTILE.encode()
        headers: list[tuple[bytes, bytes | None]] = [(evil, evil)]
        produce_batch(server.address, "t", batch_with_names([(evil, evil, headers, 1_796_000_000_000)]))
        with RawClient(server.address) as client:
            join(client)
            yield server.address


class Screen:
    """A terminal that takes standard output and standard error of this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ours, theirs = pty.openpty()
        tty.setraw(theirs)  # line ends arrive as they were written
        self._terminal = os.fdopen(theirs, "w", encoding="utf-8")
        monkeypatch.setattr(sys, "stdout", self._terminal)
        monkeypatch.setattr(sys, "stderr", self._terminal)

    def text(self) -> str:
        """What was written; the terminal is closed."""
        self._terminal.close()
        shown = b""
        while True:
            try:
                more = os.read(self._ours, 1 << 16)
            except OSError:
                break
            if not more:
                break
            shown += more
        os.close(self._ours)
        return shown.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ("groups", "list"),
        ("groups", "describe", HOSTILE),
        ("groups", "describe", HOSTILE + "2"),
        ("groups", "reset", HOSTILE, "--to", "earliest"),
        ("topics", "describe", HOSTILE),
        ("topics", "create", HOSTILE),
        ("topics", "alter", "t", f"{MARK}={HOSTILE}"),
        ("topics", "alter", "t", f"retention.ms={HOSTILE}"),
        ("tail", "t", "--from", "earliest", "-n", "1"),
        ("tail", HOSTILE),
        pytest.param(("search", MARK, "--topic", "t"), marks=pytest.mark.slow),
        ("search", f'"{HOSTILE}'),
        pytest.param(
            ("search", MARK, "--topic", "t", "--facet", "header." + HOSTILE), marks=pytest.mark.slow
        ),
        ("inspect", "/" + HOSTILE.replace("/", "")),
        (HOSTILE,),
    ],
    ids=lambda arguments: " ".join(arguments)[:25].replace(HOSTILE[:10], MARK),
)
def test_only_printable_text_reaches_a_terminal(
    arguments: tuple[str, ...], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINSTEM_AT", address)
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = Screen(monkeypatch)
    run(list(arguments))
    text = screen.text()
    assert MARK in text, "the command shows something of it"
    for line in OURS.sub("", text).split("\n"):
        assert line.isprintable(), repr(line)
        assert not line.startswith(FORGED), line

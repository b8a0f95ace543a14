"""The server notifies systemd when it is ready, and runs without systemd."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mainstem.serve.systemd import notify
from tests.support.server import Server


def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    for path in ("", "nonsense", str(tmp_path / "absent")):
        notify({"NOTIFY_SOCKET": path})
    notify({})
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_serves_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = os.path.relpath(tmp_path / "s")  # a socket's path may have 107 bytes only
        listener.bind(path)
        listener.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", os.path.abspath(path))
        with Server(tmp_path / "data"):
            assert listener.recv(100) == b"READY=1"

"""The audit in a file: lines of JSON, for its owner only, also after a rotation and on a full disk."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from mainstem.audit.events import AuditEvent
from mainstem.audit.file_sink import AuditFile
from mainstem.audit.trail import AuditSinkError


def event(number: int) -> AuditEvent:
    return AuditEvent(
        time="2013-01-01T00:00:00.000Z",
        principal=f"User:u{number}",
        host="::1",
        action="read",
        outcome="denied",
    )


def principals(path: Path) -> list[Any]:
    return [json.loads(line)["principal"] for line in path.read_text().splitlines()]


def test_lines_are_appended_and_only_the_owner_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for number in range(2):
        sink = AuditFile(str(path))
        sink.open()
        asyncio.run(sink.write([event(number)]))
        sink.close()
    assert principals(path) == ["User:u0", "User:u1"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.touch(mode=0o644)
    path.chmod(0o644)
    with pytest.raises(PermissionError, match=r"others may read it: chmod 600 .*audit\.jsonl"):
        AuditFile(str(path)).open()


def test_after_a_rotation_lines_go_into_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    sink = AuditFile(str(path))
    sink.open()
    asyncio.run(sink.write([event(1)]))
    path.rename(tmp_path / "audit.jsonl.1")
    asyncio.run(sink.write([event(2)]))
    sink.close()
    assert principals(tmp_path / "audit.jsonl.1") == ["User:u1"]
    assert principals(path) == ["User:u2"]


def test_a_part_of_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.jsonl"
    sink = AuditFile(str(path))
    sink.open()
    asyncio.run(sink.write([event(1)]))
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
        with pytest.raises(AuditSinkError):
            asyncio.run(sink.write([event(2)]))
    asyncio.run(sink.write([event(2)]))
    sink.close()
    assert principals(path) == ["User:u1", "User:u2"]

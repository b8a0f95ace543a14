"""Kafka's Java clients and its command-line tools against a fresh server give what the report card says, and
Kafka's dump tool finds no mismatch in the segment files that they leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compat import suites
from tests.support.server import Server

SEGMENT_BYTES = 1 << 20
"""Small, so that the load of the tools leaves segments that were rolled, with their indexes."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_java_clients_pass_the_cases_of_the_report_card(tmp_path: Path) -> None:
    suites.against_mainstem("java_clients", tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_java_share_consumers_pass_the_cases_of_the_report_card(tmp_path: Path) -> None:
    suites.against_mainstem("java_shares", tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kafkas_tools_pass_and_its_dump_tool_reads_our_segments(tmp_path: Path) -> None:
    suites.need("java_tools")
    with Server(tmp_path / "data", log_segment_bytes=SEGMENT_BYTES).start() as server:
        tools = suites.run("java_tools", server.address)
        assert server.stop() == 0, server.logs()
    segments = {path.parent for path in (tmp_path / "data").rglob("*.log") if int(path.stem) > 0}
    assert segments, "no partition was rolled"
    dump = suites.run("java_dump_log", str(tmp_path / "data"))
    suites.check("java_tools", tools)
    suites.check("java_dump_log", dump)

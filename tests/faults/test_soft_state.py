"""Clients that make a real server remember things for them: joins without end, subscriptions of a megabyte, a
request for tens of thousands of topics. Its memory is bounded, and a client that was there before is
served."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.attacks import (
    MB,
    LongNamedClient,
    SocketClient,
    ask_for_topics,
    join,
    served_member,
    status,
)
from tests.support.server import Server


@pytest.mark.slow
def test_joins_and_subscriptions_without_end_cost_bounded_memory(tmp_path: Path) -> None:
    with Server(tmp_path / "data", group_memory_max_bytes=16 * MB) as server:
        before = status(server, "VmHWM")
        with served_member(server) as codes:
            hostile = LongNamedClient(server)
            pending = [hostile.call(11, 4, join("g")).error_code for _ in range(12_000)]
            large = [hostile.call(11, 3, join(f"g{number}", bytes(MB))).error_code for number in range(60)]
            time.sleep(0.5)
        hostile.close()
        assert set(pending) == {79, 14}, "an id is required, or: the coordinator is loading"
        assert set(large) <= {0, 14}
        assert large[-1] == 14
        assert len(codes) > 10
        assert set(codes) == {0}
        assert status(server, "VmHWM") - before < 60 * MB
        assert server.logs().count("group_memory_max_bytes") < 10, "a line in ten seconds"
        assert "Traceback" not in server.logs(), server.logs()


@pytest.mark.slow
def test_a_request_for_tens_of_thousands_of_topics_creates_some_and_costs_little(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        before = status(server, "VmHWM")
        with served_member(server) as codes:
            hostile = SocketClient(server)
            hostile.sock.settimeout(60)
            began = time.monotonic()
            created = len(ask_for_topics(hostile, [f"t{number}" for number in range(60_000)]))
            seconds = time.monotonic() - began
            hostile.close()
        assert 50 <= created <= 50 + 50 * seconds + 1
        assert set(codes) == {0}
        assert status(server, "VmHWM") - before < 100 * MB
        assert "Traceback" not in server.logs(), server.logs()

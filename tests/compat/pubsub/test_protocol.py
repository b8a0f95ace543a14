"""HTTP/2 and gRPC of the Pub/Sub door, asked by others: h2spec, and the interop client of Go's gRPC."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.pubsub.mainstem_server import pubsub_address, pubsub_server
from tests.compat.suites import BUILT

H2SPEC = BUILT / "bin" / "h2spec"
INTEROP = BUILT / "bin" / "grpc_interop"
H2SPEC_CASES = 146
"""With the strict ones."""
INTEROP_CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "pick_first_unary",
    "rpc_soak",
    "channel_soak",
)
"""All of the client's but those that log in to Google's cloud, and those of load reports (ORCA)."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = pubsub_server(tmp_path_factory.mktemp("protocol"))
    server.module = "tests.compat.pubsub.interop_server"
    with server.start():
        yield pubsub_address(server)


def need(program: Path) -> None:
    """Skip, naming what to run; in CI nothing may be missing."""
    if not program.exists() and os.environ.get("CI"):
        pytest.fail(f"{program.name} is missing: make deps-all")
    if not program.exists():
        pytest.skip(f"{program.name} is missing: make deps-all")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_every_case_of_h2spec_passes(address: str) -> None:
    need(H2SPEC)
    host, _, port = address.rpartition(":")
    done = run(
        str(H2SPEC), "-h", host, "-p", port, "-S", "-o", "10", "-P", "/grpc.testing.TestService/EmptyCall"
    )
    counts = re.search(r"(\d+) tests, (\d+) passed", done.stdout)
    assert counts, done.stdout[-2000:]
    assert counts.groups() == (str(H2SPEC_CASES), str(H2SPEC_CASES)), done.stdout[-6000:]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", INTEROP_CASES)
def test_the_interop_client_of_grpc_passes(address: str, case: str) -> None:
    need(INTEROP)
    host, _, port = address.rpartition(":")
    # The soaks fail at calls that take longer than their limit, which a busy machine exceeds.
    patience = ("--soak_per_iteration_max_acceptable_latency_ms=20000", "--soak_overall_timeout_seconds=60")
    done = run(
        str(INTEROP), f"--server_host={host}", f"--server_port={port}", f"--test_case={case}", *patience
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]

"""RabbitMQ's own stream clients for Java, Go and Python against a fresh server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from mainstem.serve.server import Running
from tests.compat.suites import BUILT, LINE
from tests.doors.rabbitmq_stream import raw_client

HERE = Path(__file__).parent
JARS = HERE / "java" / "target"
PYTHON = BUILT / "rstream" / "bin" / "python"
CASES = {
    "java": {
        "roundtrip", "compressed", "named", "tracked", "super_stream", "single_active", "filtered", "refused",
        "deleted",
    },
    "go": {"compressed", "super_stream"},
    "rstream": {"roundtrip", "offsets", "super_stream"},
}  # fmt: skip


def command(client: str) -> list[str]:
    """What runs the client's cases; skips, or fails in CI, if it is not there."""
    program = {
        "java": JARS / "stream-compat-1.jar",
        "go": BUILT / "bin" / "rabbitmq_stream",
        "rstream": PYTHON,
    }[client]
    if not program.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{client}: run `make deps-all`")
    if client == "java":
        return ["java", "-XX:+UseSerialGC", "-cp", f"{program}:{JARS}/lib/*", "StreamCases"]
    return [str(program)] if client == "go" else [str(program), str(HERE / "rstream_cases.py")]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("client", sorted(CASES))
def test_the_client_passes_its_cases(tmp_path: Path, client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_client, "TIMEOUT_S", 240)
    words = command(client)

    async def scenario(running: Running) -> None:
        (address,) = running.addresses["rabbitmq_stream"]
        process = await asyncio.create_subprocess_exec(
            *words, str(address.port), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output = (await process.communicate())[0].decode(errors="replace")
        lines = [match for match in map(LINE.fullmatch, output.splitlines()) if match]
        assert {match[2] for match in lines if match[1] == "PASS"} == CASES[client], output[-4_000:]

    raw_client.run(tmp_path / "data", scenario)

"""What servers of Pub/Sub get wrong, asked of Google's emulator, of pstest and of mainstem.

`TRAPS` has the verdicts, which docs/PUBSUB.md shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.compat.pubsub.mainstem_server import mainstem_with_pubsub
from tests.compat.pubsub.references import REFERENCES, missing
from tests.compat.pubsub.suites import CLIENT_SUITES, HERE, trap_names

SERVERS = (*REFERENCES, "mainstem")


def verdicts() -> dict[str, dict[str, str]]:
    """Case -> server -> `pass` or `fail`."""
    lines = (HERE / "TRAPS").read_text().splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    return {case: dict(zip(SERVERS, words, strict=True)) for case, *words in rows}


def test_every_trap_has_its_verdicts() -> None:
    table = verdicts()
    assert sorted(table) == sorted(trap_names())
    assert {verdict for row in table.values() for verdict in row.values()} <= {"pass", "fail"}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("server", SERVERS)
def test_servers_answer_as_the_table_says(server: str, tmp_path: Path) -> None:
    lacking = CLIENT_SUITES["traps"].missing() or (missing(server) if server in REFERENCES else None)
    if lacking and server != "emulator" and os.environ.get("CI"):
        pytest.fail(f"{server} needs {lacking}")
    if lacking:
        pytest.skip(f"{server} needs {lacking}")
    running = REFERENCES[server]() if server in REFERENCES else mainstem_with_pubsub(tmp_path)
    with running as address:
        result = CLIENT_SUITES["traps"].run(address)
        failing = {case for case, row in verdicts().items() if row[server] == "fail"}
        failed, passed = set(result.failed), result.passed
        late = failed - failing
        if late and server in REFERENCES:  # a JVM, or a fake, on a busy machine: these once more
            again = CLIENT_SUITES["traps"].run(address, *sorted(late))
            failed, passed = failed - again.passed, passed | again.passed
    assert failed == failing, result.output[-6000:]
    assert passed | failing == set(verdicts())

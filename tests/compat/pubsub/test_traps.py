"""What servers of Pub/Sub get wrong, asked of Google's emulator and of pstest; `TRAPS` has the verdicts."""

from __future__ import annotations

import os

import pytest

from tests.compat.pubsub.references import REFERENCES, missing
from tests.compat.pubsub.suites import CLIENT_SUITES, HERE, trap_names

SERVERS = tuple(REFERENCES)


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
@pytest.mark.parametrize("server", REFERENCES)
def test_references_answer_as_the_table_says(server: str) -> None:
    lacking = missing(server) or CLIENT_SUITES["traps"].missing()
    if lacking and server == "pstest" and os.environ.get("CI"):
        pytest.fail(f"{server} needs {lacking}")
    if lacking:
        pytest.skip(f"{server} needs {lacking}")
    with REFERENCES[server]() as address:
        result = CLIENT_SUITES["traps"].run(address)
    failing = {case for case, row in verdicts().items() if row[server] == "fail"}
    assert set(result.failed) == failing, result.output[-6000:]
    assert result.passed | failing == set(verdicts())

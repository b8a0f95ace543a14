"""Pub/Sub's clients, unchanged, with mainstem: every case of their suites passes.

Those of traps_suite.py are test_traps.py's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.compat.pubsub.mainstem_server import mainstem_with_pubsub
from tests.compat.pubsub.suites import CLIENT_SUITES

CLIENTS = [name for name in CLIENT_SUITES if name != "traps"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("client", CLIENTS)
def test_every_case_passes_with_mainstem(client: str, tmp_path: Path) -> None:
    lacking = CLIENT_SUITES[client].missing()
    if lacking and os.environ.get("CI"):
        pytest.fail(f"{client} needs {lacking}")
    if lacking:
        pytest.skip(f"{client} needs {lacking}")
    with mainstem_with_pubsub(tmp_path) as address:
        result = CLIENT_SUITES[client].run(address)
    assert result.failed == {}, result.output[-6000:]
    assert result.passed

"""Google's client by TLS, with a password and with a token of an issuer."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.compat.pubsub.suites import PYTHON
from tests.compat.suites import Suite, run_suite
from tests.compat.test_logins import serving

SUITE = Suite("pubsub_secure", (str(PYTHON), "-m", "tests.compat.pubsub.clients.secure_suite"), PYTHON)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_googles_client_logs_in_by_tls(tmp_path: Path) -> None:
    lacking = SUITE.missing()
    if lacking:
        assert not os.environ.get("CI"), lacking
        pytest.skip(lacking)
    with serving(tmp_path, pubsub="SASL_SSL://127.0.0.1:0", doors="kafka,pubsub") as rig:
        address = re.search(r"  pubsub=(?:\S+//)?(\S+)", rig.server.ready_line)
        assert address, rig.server.ready_line
        for mechanism in ("PLAIN", "OAUTHBEARER"):
            result = run_suite(SUITE, address[1], environ=rig.environ(mechanism))
            assert result.passed == {"publish-and-stream", "refused-without-a-login"}, result.output[-4_000:]

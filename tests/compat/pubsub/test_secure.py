"""Google's clients by TLS: Python's with a password and with a token of an issuer, Java's with a token."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.compat.pubsub.suites import CLIENT_SUITES, JAVA, PYTHON
from tests.compat.suites import Suite, run_suite
from tests.compat.test_logins import Rig, serving

SUITE = Suite("pubsub_secure", (str(PYTHON), "-m", "tests.compat.pubsub.clients.secure_suite"), PYTHON)


def need(lacking: str | None) -> None:
    """Skip, naming what to install; in CI nothing may be missing."""
    if lacking:
        assert not os.environ.get("CI"), lacking
        pytest.skip(lacking)


def pubsub_address(rig: Rig) -> str:
    """HOST:PORT of the door."""
    address = re.search(r"  pubsub=(?:\S+//)?(\S+)", rig.server.ready_line)
    assert address, rig.server.ready_line
    return address[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_googles_client_logs_in_by_tls(tmp_path: Path) -> None:
    need(SUITE.missing())
    with serving(tmp_path, pubsub="SASL_SSL://127.0.0.1:0", doors="kafka,pubsub") as rig:
        address = pubsub_address(rig)
        for mechanism in ("PLAIN", "OAUTHBEARER"):
            result = run_suite(SUITE, address, environ=rig.environ(mechanism))
            assert result.passed == {"publish-and-stream", "refused-without-a-login"}, result.output[-4_000:]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_googles_java_client_logs_in_by_tls_of_its_own(tmp_path: Path) -> None:
    need(CLIENT_SUITES["java"].missing() or (None if shutil.which("keytool") else "keytool"))
    with serving(tmp_path, pubsub="SASL_SSL://127.0.0.1:0", doors="kafka,pubsub") as rig:
        store, password = tmp_path / "trusted.p12", "changeit"
        keytool = ["keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", str(rig.ca), "-keystore"]
        keytool += [str(store), "-storetype", "PKCS12", "-storepass", password]
        subprocess.run(keytool, check=True, capture_output=True, timeout=60)
        trust = f"-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword={password}"
        environ = {"COMPAT_TLS": "1", "JAVA_TOOL_OPTIONS": trust}
        result = run_suite(JAVA, pubsub_address(rig), environ={**environ, "COMPAT_TOKEN": rig.token()})
        assert result.failed == {}, result.output[-4_000:]
        assert result.passed
        refused = run_suite(JAVA, pubsub_address(rig), environ={**environ, "COMPAT_TOKEN": "wrong"})
        assert refused.passed == frozenset()
        assert "UNAUTHENTICATED" in refused.output

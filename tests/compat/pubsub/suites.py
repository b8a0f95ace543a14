"""Which suites of Pub/Sub's clients there are, what each needs on the machine, and how each is run.

    python -m tests.compat.pubsub.suites NAME HOST:PORT [CASE…]     # one suite against any server of Pub/Sub

Owns: the table of suites, the environment of Google's clients. Called by the tests beside it and by people.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.compat.suites import (
    BUILT,
    ROOT,
    SUITE_SECONDS_MAX,
    Result,
    Suite,
    go_result,
    print_and_exit,
    run_suite,
)

HERE = Path(__file__).parent
PYTHON = BUILT / "pubsub" / "bin" / "python"
JARS = HERE / "java" / "target"
GO_INTEGRATION = BUILT / "bin" / "pubsub_integration.test"
GO_LEFT_OUT = {"TestIntegration_PublicTopic": "needs a topic of Google's project pubsub-public-data"}
"""Tests of the Go client that are not run, and why. TestIntegration_DetectProjectID skips itself."""
TRAPS_AT_A_TIME = 6
CREDENTIALS = {"type": "authorized_user", "client_id": "x", "client_secret": "x", "refresh_token": "x"}
"""What Google's clients look for before they see that they talk to an emulator."""


@dataclass(frozen=True, slots=True)
class PubsubSuite:
    """A suite: what it needs on the machine, and how it is run against HOST:PORT."""

    missing: Callable[[], str | None]
    run: Callable[..., Result]


def environment(address: str, folder: Path) -> dict[str, str]:
    """What makes Google's clients connect to the address; their files are in the folder."""
    login = folder / "login.json"
    login.write_text(json.dumps(CREDENTIALS))
    return {
        "PUBSUB_EMULATOR_HOST": address,
        "GOOGLE_CLOUD_PROJECT": "compat",
        "GOOGLE_APPLICATION_CREDENTIALS": str(login),
        "GCLOUD_TESTS_GOLANG_PROJECT_ID": "compat",
    }


def _suite(suite: Suite) -> PubsubSuite:
    def run(address: str, *cases: str) -> Result:
        with tempfile.TemporaryDirectory(prefix="pubsub-client-") as folder:
            return run_suite(suite, address, *cases, environ=environment(address, Path(folder)))

    return PubsubSuite(suite.missing, run)


def _python(name: str) -> PubsubSuite:
    return _suite(Suite(name, (str(PYTHON), "-m", f"tests.compat.pubsub.clients.{name}_suite"), PYTHON))


def trap_names() -> list[str]:
    """The names of the cases of the traps, whose modules this process cannot import."""
    modules = sorted((HERE / "clients").glob("*traps*.py"))
    return [
        name for path in modules for name in re.findall(r'^@case\("(.+)"\)$', path.read_text(), re.MULTILINE)
    ]


def _traps(address: str, *cases: str) -> Result:
    """Several processes, for most of the cases wait most of the time."""
    names = list(cases) or trap_names()
    suite = _python("traps")
    with ThreadPoolExecutor(TRAPS_AT_A_TIME) as pool:
        parts = [names[i::TRAPS_AT_A_TIME] for i in range(TRAPS_AT_A_TIME)]
        results = list(pool.map(lambda part: suite.run(address, *part), filter(None, parts)))
    passed = frozenset[str]().union(*(result.passed for result in results))
    failed = {case: reason for result in results for case, reason in result.failed.items()}
    return Result(passed, failed, "".join(result.output for result in results))


def _go_integration(address: str, *cases: str) -> Result:
    command = [
        str(GO_INTEGRATION),
        "-test.v",
        f"-test.run=^({'|'.join(cases)})$" if cases else "-test.run=TestIntegration_",
    ]
    with tempfile.TemporaryDirectory(prefix="pubsub-client-") as folder:
        done = subprocess.run(
            [*command, f"-test.skip={'|'.join(GO_LEFT_OUT)}"],
            cwd=f"{GO_INTEGRATION}.files",
            env={**os.environ, **environment(address, Path(folder))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SUITE_SECONDS_MAX,
            check=False,
        )
    return go_result(done)


JAVA = Suite(
    "java",
    ("java", "-XX:+UseSerialGC", "-Xmx256m", "-cp", f"{JARS}/classes:{JARS}/lib/*", "PubsubCases"),
    JARS / "pubsub-compat-1.jar",
)
CLIENT_SUITES: Mapping[str, PubsubSuite] = {
    "traps": PubsubSuite(_python("traps").missing, _traps),
    "python": _python("python"),
    "kombu": _python("kombu"),
    "celery": _python("celery"),
    "gcloud_aio": _python("gcloud_aio"),
    "curl": _suite(Suite("curl", (sys.executable, "-m", "tests.compat.pubsub.clients.curl_suite"), "curl")),
    "node": _suite(Suite("node", ("node", str(HERE / "node" / "suite.mjs")), HERE / "node" / "node_modules")),
    "java": _suite(JAVA),
    "go_integration": PubsubSuite(
        lambda: None if GO_INTEGRATION.exists() else f"{GO_INTEGRATION.name}: run `make deps-all`",
        _go_integration,
    ),
}


def main() -> None:
    """Run one suite; print what failed, and how many passed."""
    name, address, *cases = sys.argv[1:]
    os.chdir(ROOT)
    print_and_exit(name, CLIENT_SUITES[name].run(address, *cases))


if __name__ == "__main__":
    main()

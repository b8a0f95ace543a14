"""Which suites of RabbitMQ's clients there are, and which of amqp091-go's own tests are left out.

    python -m tests.compat.rabbitmq.suites NAME HOST:PORT      # one suite against any server of AMQP 0-9-1

Owns: the table of suites. Called by test_clients.py and by people.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.compat.suites import BUILT, ROOT, SUITE_SECONDS_MAX, Result, Suite, run_suite

HERE = Path(__file__).parent
PYTHON = BUILT / "rabbitmq" / "bin" / "python"
GO_LEFT_OUT = {
    "TestConnectionRecovery": "closes connections by the management API on port 15672 of the machine",
    "TestChannelCounterShouldNotPanicIssue136": "opens and closes channels for two minutes",
    "TestConnection_Close_WhenMemoryAlarmIsActive": "sets an alarm by rabbitmqctl",
}
"""amqp091-go's tests that are not run, by the beginning of their names, and why."""
GO_VERDICT = re.compile(r"^--- (PASS|FAIL|SKIP): (\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ClientSuite:
    """A suite: what it needs on the machine, and how it is run against HOST:PORT."""

    missing: Callable[[], str | None]
    run: Callable[[str], Result]


def _python(name: str, program: str | None = None) -> ClientSuite:
    command = (str(PYTHON), "-m", f"tests.compat.rabbitmq.clients.{name}_suite")
    suite = Suite(name, command, PYTHON)

    def missing() -> str | None:
        if program and not shutil.which(program):
            return f"{program}: apt-get install amqp-tools"
        return suite.missing()

    return ClientSuite(missing, lambda address: run_suite(suite, address))


def _go_tests(address: str) -> Result:
    command = ["go", "test", "-count=1", "-v", "-tags", "integration", "-skip", "|".join(GO_LEFT_OUT)]
    done = subprocess.run(
        [*command, "github.com/rabbitmq/amqp091-go"],
        cwd=HERE / "go",
        env={**os.environ, "AMQP_URL": f"amqp://guest:guest@{address}/"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SUITE_SECONDS_MAX,
        check=False,
    )
    verdicts = GO_VERDICT.findall(done.stdout)
    assert verdicts, f"no test ran:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    passed = frozenset(name for verdict, name in verdicts if verdict == "PASS")
    return Result(passed, {name: "" for verdict, name in verdicts if verdict == "FAIL"}, done.stdout)


CLIENT_SUITES: Mapping[str, ClientSuite] = {
    "pika": _python("pika"),
    "kombu": _python("kombu"),
    "celery": _python("celery"),
    "aio_pika": _python("aio_pika"),
    "amqp_tools": _python("tools", "amqp-publish"),
    "amqp091_go": ClientSuite(
        lambda: None if shutil.which("go") else "go: apt-get install golang", _go_tests
    ),
}


def main() -> None:
    """Run one suite; print what failed, and how many passed."""
    name, address = sys.argv[1:]
    os.chdir(ROOT)
    result = CLIENT_SUITES[name].run(address)
    for case, reason in result.failed.items():
        print(f"FAIL {case}: {reason}")
    print(f"{name}: {len(result.passed)} pass, {len(result.failed)} fail")
    sys.exit(bool(result.failed))


if __name__ == "__main__":
    main()

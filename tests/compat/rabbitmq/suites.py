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

from tests.compat.cases import CASE_SECONDS_MAX
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
PYTHON = BUILT / "rabbitmq" / "bin" / "python"
GO_LEFT_OUT = {
    "TestConnectionRecovery": "closes connections by the management API on port 15672 of the machine",
    "TestChannelCounterShouldNotPanicIssue136": "opens and closes channels for two minutes",
    "TestConnection_Close_WhenMemoryAlarmIsActive": "sets an alarm by rabbitmqctl",
}
"""amqp091-go's tests that are not run, by the beginning of their names, and why."""

PERF_TEST_LOADS = {
    "confirmed": "-C 5000 -D 5000 -x 1 -y 1 -s 100 -c 500 -q 500 --flag persistent",
    "multiple-acks": "-C 5000 -D 5000 -x 1 -y 1 -s 100 -q 500 --multi-ack-every 100",
    "many": "-z 3 -x 5 -y 5 -s 1000 -c 100 -q 100",
    "automatic": "-z 3 -x 1 -y 2 -s 100 --autoack -r 2000",
    "quorum": "-z 3 -x 1 -y 1 -s 1000 -c 100 -q 100 --quorum-queue",
}
"""What perf-test sends and receives: it ends by itself after these counts, or seconds (-z)."""


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


GEMS = Path("/usr/share/rubygems-integration/all/gems")
JAVA = HERE / "java" / "target"
JAVA_COMMAND = ("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JAVA}/classes:{JAVA}/lib/*")


def _program(name: str, *command: str, needs: Path | str) -> ClientSuite:
    suite = Suite(name, command, needs)
    return ClientSuite(suite.missing, lambda address: run_suite(suite, address))


def _java(name: str, main: str) -> ClientSuite:
    command = (*JAVA_COMMAND, f"mainstem.compat.rabbitmq.{main}")
    return _program(name, *command, needs=JAVA / "rabbitmq-compat-1.jar")


def _perf_test(address: str) -> Result:
    """RabbitMQ's load generator, some thousand messages for each kind of load: a case is a load that ends
    with all messages received."""
    passed, failed, output = set(), {}, ""
    for name, load in PERF_TEST_LOADS.items():
        command = [*JAVA_COMMAND, "com.rabbitmq.perf.PerfTest", "--uri", f"amqp://guest:guest@{address}/%2f"]
        done = subprocess.run(
            [*command, "--id", name, "--queue", f"perf-{name}", *load.split()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CASE_SECONDS_MAX,
            check=False,
        )
        output += f"{name}: {done.returncode}\n{done.stdout}\n{done.stderr}\n"
        received = re.search(r"receiving rate avg: (\d+) msg/s", done.stdout)
        if done.returncode == 0 and received and int(received[1]):
            passed.add(name)
        else:
            failed[name] = f"ended with {done.returncode}: {done.stderr[-300:]}"
    return Result(frozenset(passed), failed, output)


def _go_tests(address: str) -> Result:
    """What fails is asked once more, alone: several of the tests wait for 200 ms and no longer, which a busy
    machine exceeds."""
    first = _go_run(address, "-skip", "|".join(GO_LEFT_OUT))
    if not first.failed:
        return first
    second = _go_run(address, "-run", f"^({'|'.join(first.failed)})$")
    return Result(first.passed | second.passed, second.failed, first.output + second.output)


def _go_run(address: str, *choice: str) -> Result:
    command = ["go", "test", "-count=1", "-v", "-tags", "integration", *choice]
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
    return go_result(done)


CLIENT_SUITES: Mapping[str, ClientSuite] = {
    "pika": _python("pika"),
    "kombu": _python("kombu"),
    "celery": _python("celery"),
    "aio_pika": _python("aio_pika"),
    "amqp_tools": _python("tools", "amqp-publish"),
    "java": _java("java", "Amqp"),
    "spring": _java("spring", "Spring"),
    "perf_test": ClientSuite(_java("perf_test", "Amqp").missing, _perf_test),
    "amqplib": _program(
        "amqplib", "node", str(HERE / "node" / "suite.mjs"), needs=HERE / "node" / "node_modules"
    ),
    "bunny": ClientSuite(
        lambda: None if any(GEMS.glob("bunny-*")) else "bunny: apt-get install ruby-bunny",
        _program("bunny", "ruby", str(HERE / "ruby" / "suite.rb"), needs="ruby").run,
    ),
    "amqp091_go": ClientSuite(
        lambda: None if shutil.which("go") else "go: apt-get install golang", _go_tests
    ),
}


def main() -> None:
    """Run one suite; print what failed, and how many passed."""
    name, address = sys.argv[1:]
    os.chdir(ROOT)
    print_and_exit(name, CLIENT_SUITES[name].run(address))


if __name__ == "__main__":
    main()

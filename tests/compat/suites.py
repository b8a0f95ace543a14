"""Which suites there are, how each is started, what each needs on the machine, and the report card.

    python -m tests.compat.suites NAME ADDRESS [CASE…]      # one suite against any server, also Apache Kafka

Owns: the table of suites and the reading of REPORT. Called by the test of each client and by people.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.server import Server

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
BUILT = ROOT / ".cache" / "compat"
JAVA = HERE / "java" / "target"
REPORT = HERE / "REPORT"
SUITE_SECONDS_MAX = 600
LINE = re.compile(r"(PASS|FAIL) ([\w-]+)(?:: (.*))?")
GO_VERDICT = re.compile(r"^--- (PASS|FAIL|SKIP): (\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Suite:
    """One client: the command to which the address is appended; the file or program it cannot do without."""

    name: str
    command: tuple[str, ...]
    needs: Path | str

    def missing(self) -> str | None:
        """What to install, or None when all is there."""
        if isinstance(self.needs, Path):
            return None if self.needs.exists() else f"{self.needs.relative_to(ROOT)}: run `make deps-all`"
        return None if shutil.which(self.needs) else f"{self.needs}: apt-get install {self.needs}"


def _python(name: str, environment: str = "python") -> Suite:
    interpreter = BUILT / environment / "bin" / "python"
    return Suite(name, (str(interpreter), "-m", f"tests.compat.{name}.suite"), interpreter)


def _java(name: str, main: str, *class_path: str) -> Suite:
    jars = ":".join(str(JAVA / entry) for entry in class_path)
    quiet = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
    return Suite(name, ("java", *quiet, "-cp", jars, f"mainstem.compat.{main}"), JAVA / "compat-1.jar")


def _go(name: str) -> Suite:
    return Suite(name, (str(BUILT / "bin" / name),), BUILT / "bin" / name)


SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        _python("confluent_kafka"),
        _python("kafka_python"),
        _python("aiokafka"),
        _python("faststream"),
        _python("quixstreams", "quix"),
        Suite("kcat", (sys.executable, "-m", "tests.compat.kcat.suite"), "kcat"),
        _java("java_clients", "Clients", "classes", "lib/*"),
        _java("java_shares", "Shares", "classes", "lib/*"),
        _java("java_tools", "Tools", "classes", "lib/*"),
        _java("java_dump_log", "Tools", "classes", "lib/*"),
        _go("franz"),
        _go("sarama"),
        _go("kafka_go"),
        Suite("kafkajs", ("node", str(HERE / "node" / "suite.mjs")), HERE / "node" / "node_modules"),
    )
}


@dataclass(frozen=True, slots=True)
class Result:
    """What a suite printed: the cases that passed, those that failed with the reason, all of its output."""

    passed: frozenset[str]
    failed: Mapping[str, str]
    output: str


def run(name: str, *arguments: str, environ: Mapping[str, str] | None = None) -> Result:
    """As `run_suite`, for a suite of SUITES."""
    return run_suite(SUITES[name], *arguments, environ=environ)


def run_suite(suite: Suite, *arguments: str, environ: Mapping[str, str] | None = None) -> Result:
    """Run a suite to its end, with these variables beside those of this process. AssertionError when it takes
    too long or prints no case at all."""
    command = [*suite.command, *arguments]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environ or {})},
    ) as process:
        try:
            output = process.communicate(timeout=SUITE_SECONDS_MAX)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"{suite.name} still ran after {SUITE_SECONDS_MAX} s") from None
    lines = [match for match in map(LINE.fullmatch, output.splitlines()) if match]
    assert lines, f"{suite.name} printed no case:\n{output[-4000:]}"
    passed = frozenset(match[2] for match in lines if match[1] == "PASS")
    return Result(passed, {m[2]: m[3] or "" for m in lines if m[1] == "FAIL"}, output)


def go_result(done: subprocess.CompletedProcess[str]) -> Result:
    """What Go's tests printed, with -v. AssertionError when none ran."""
    verdicts = GO_VERDICT.findall(done.stdout)
    assert verdicts, f"no test ran:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    passed = frozenset(name for verdict, name in verdicts if verdict == "PASS")
    return Result(passed, {name: "" for verdict, name in verdicts if verdict == "FAIL"}, done.stdout)


def print_and_exit(name: str, result: Result) -> NoReturn:
    """Print for people what failed, and how many passed. The exit code is 1 if something failed."""
    for case, reason in result.failed.items():
        print(f"FAIL {case}: {reason}")
    print(f"{name}: {len(result.passed)} pass, {len(result.failed)} fail")
    sys.exit(bool(result.failed))


def report(text: str | None = None) -> dict[str, dict[str, str]]:
    """The report card: suite -> case -> `pass` or `fail: reason`."""
    card: dict[str, dict[str, str]] = {}
    for line in (REPORT.read_text() if text is None else text).splitlines():
        if line and not line.startswith("#"):
            suite, case, verdict = line.split(maxsplit=2)
            assert case not in card.setdefault(suite, {}), f"twice in REPORT: {suite} {case}"
            card[suite][case] = verdict
    return card


def check(name: str, result: Result) -> None:
    """The suite's cases went exactly as the report card says: no less, and nothing new that it lacks."""
    card = report().get(name, {})
    expected = {case for case, verdict in card.items() if verdict == "pass"}
    worse = {case: result.failed.get(case, "was not run") for case in expected - result.passed}
    unlisted = sorted((result.passed | set(result.failed)) - set(card))
    better = sorted(result.passed & {case for case in card if case not in expected})
    print(f"{name}: {len(result.passed)} cases pass, {len(result.failed)} fail")
    assert not worse, f"{worse}\n{result.output[-6000:]}"
    assert not better, f"pass now, say so in tests/compat/REPORT: {better}"
    assert not unlisted, f"not in tests/compat/REPORT: {unlisted}"


def need(name: str) -> None:
    """Skip, saying what to install; in CI nothing may be missing."""
    missing = SUITES[name].missing()
    if missing and os.environ.get("CI"):
        pytest.fail(f"{name} needs {missing}")
    if missing:
        pytest.skip(f"{name} needs {missing}")


def against_mainstem(name: str, folder: Path) -> None:
    """The whole of one client's test: the suite against a fresh server gives what the report card says."""
    need(name)
    with Server(folder / "data").start() as server:
        result = run(name, server.address)
    check(name, result)


def main() -> None:
    """Run one suite against the address given; the lines as they come."""
    name, *arguments = sys.argv[1:]
    missing = SUITES[name].missing()
    if missing:
        sys.exit(f"{name} needs {missing}")
    sys.exit(subprocess.run([*SUITES[name].command, *arguments], cwd=ROOT, check=False).returncode)


if __name__ == "__main__":
    main()

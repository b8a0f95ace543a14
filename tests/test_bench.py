"""The benchmark says what it measured, and does not rot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench import grpc_calls, limits, outbox, tls
from bench.bars import BARS, verdicts
from bench.contestants import CONTESTANTS, KAFKA, MAINSTEM, present
from bench.figures import Figures, markdown, number
from bench.folders import data_folder

from tests.compat.pubsub.suites import PYTHON as GRPC_PYTHON


def test_a_bar_is_held_or_missed_by_the_figures_of_its_own_promise() -> None:
    figures = Figures()
    figures.add("page cache", MAINSTEM, "in, 1 KB events", "MB/s", "more", 160)
    figures.add("page cache", KAFKA, "in, 1 KB events", "MB/s", "more", 100)
    figures.add("on disk", MAINSTEM, "in, 1 KB events", "MB/s", "more", 199)
    figures.add("on disk", KAFKA, "in, 1 KB events", "MB/s", "more", 100)
    rows = {(row[0], row[1], row[3]): row for row in verdicts(figures, {})}
    assert rows["in, 1 KB events", "page cache", KAFKA][-1] == "held"
    assert rows["in, 1 KB events", "on disk", KAFKA][-1] == "MISSED"
    assert rows["in, 1 KB events", "page cache", "Tansu"][-1] == "not measured"
    assert rows["in, 1 KB events", "page cache", KAFKA][5] == "1.60"


def test_a_bar_beside_a_limit_of_the_machine_takes_a_surcharge() -> None:
    for ours, verdict in ((0.24, "held"), (0.26, "MISSED")):
        figures = Figures()
        figures.add("on disk", MAINSTEM, "one event acknowledged, p50", "ms", "less", ours)
        machine = {limits.OVERWRITE: (0.1, "ms")}
        (row,) = [row for row in verdicts(figures, machine) if row[3] == limits.OVERWRITE]
        assert row[-1] == verdict


def test_a_folder_gives_back_its_space_but_no_inode_while_the_run_lasts() -> None:
    with data_folder() as folder:
        file = folder / "a" / "b"
        file.parent.mkdir()
        file.write_bytes(b"x" * 5000)
        inode = file.stat().st_ino
    assert (file.stat().st_ino, file.stat().st_size) == (inode, 0)


def test_runs_are_kept_and_the_median_is_shown() -> None:
    figures = Figures()
    for value in (3.0, 1.0, 2.0):
        figures.add("on disk", MAINSTEM, "what", "ms", "less", value)
    assert figures.median("on disk", "what", MAINSTEM) == 2.0
    assert figures.median("page cache", "what", MAINSTEM) is None
    assert present(figures, "on disk") == [MAINSTEM]
    text = markdown(figures.table("on disk", [MAINSTEM]))
    assert "| what | ms | 2 | 1..3 |" in text


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (0.04567, "0.0457"), (12.34, "12.3"), (1234.5, "1,234")]
)
def test_numbers_have_three_digits_that_count(value: float | None, text: str) -> None:
    assert number(value) == text


def test_each_bar_is_of_a_contestant_with_that_promise_or_a_limit() -> None:
    machine = {limits.APPEND, limits.OVERWRITE, limits.COPY, limits.SENDFILE}
    known = {(contestant.name, contestant.promise) for contestant in CONTESTANTS}
    for bar in BARS:
        assert (bar.peer, bar.promise) in known or bar.peer in machine


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_of_it_runs_on_a_hundredth_of_the_work() -> None:
    command = [sys.executable, "-m", "bench", "--only", "mainstem", "--full", "--scale", "0.01"]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "\n! " not in done.stdout, done.stdout
    for bar in BARS:
        assert bar.what in done.stdout


@pytest.mark.slow
def test_tls_and_logins_are_measured_on_a_thousandth_of_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    tls.main(["--scale", "0.001"])
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[:2] for row in rows[1:]] == [
        ["mainstem", "PLAINTEXT"],
        ["mainstem", "SSL"],
        ["mainstem", "SASL_SSL"],
    ]


@pytest.mark.slow
def test_the_relay_of_an_outbox_is_measured() -> None:
    cpu_rate, wall_rate = outbox.measured(rows=300, runs=1)
    assert cpu_rate > 0
    assert wall_rate > 0


@pytest.mark.slow
def test_calls_of_grpc_are_measured() -> None:
    if not GRPC_PYTHON.exists():
        assert not os.environ.get("CI"), "grpcio is missing: make deps-all"
        pytest.skip("grpcio is missing: make deps-all")
    figures = grpc_calls.measure(calls=500)
    assert {what for what, _ in figures} == {"mainstem", "grpcio.aio", "Publish of 1", "Publish of 100"}
    assert all(median_us > 0 for rounds in figures.values() for _, median_us in rounds)

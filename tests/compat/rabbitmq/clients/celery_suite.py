"""Celery with workers of its own: results by messages, retries, chords, remote control, a killed worker.

python -m tests.compat.rabbitmq.clients.celery_suite HOST:PORT [CASE…]
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.compat.cases import case, eventually, main, same

FOLDER = tempfile.mkdtemp(prefix="celery-")
os.environ["COMPAT_BROKER"] = next(argument for argument in sys.argv[1:] if ":" in argument)
os.environ.setdefault("COMPAT_RESULTS", "rpc://")
APP = "tests.compat.rabbitmq.clients.celery_app"


@contextlib.contextmanager
def worker(name: str, results: str = "rpc://") -> Iterator[subprocess.Popen[bytes]]:
    """A worker process with one slot."""
    command = [sys.executable, "-m", "celery", "-A", APP, "worker", "-c", "1", "-n", name, "-l", "warning"]
    environ = {**os.environ, "COMPAT_RESULTS": results}
    with Path(FOLDER, f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def tasks() -> Any:
    from tests.compat.rabbitmq.clients import celery_app

    return celery_app


@case("results-retries-and-control")
def results_retries_and_control() -> None:
    app = tasks()
    with worker("first"):
        same(app.price.delay(10).get(timeout=30), 12.0)
        results = [app.price.apply_async((i,), priority=i % 5) for i in range(20)]
        same([result.get(timeout=30) for result in results], [i * 1.2 for i in range(20)])
        same(app.flaky.delay(3).get(timeout=30), 3)
        same(app.price.apply_async((5,), countdown=0.5).get(timeout=30), 6.0)
        answers = app.app.control.ping(timeout=5)
        same([list(answer) for answer in answers], [["celery@first"]] if "@" in str(answers) else [["first"]])
        same(len(app.app.control.inspect(timeout=5).stats() or {}), 1)


@case("group-and-chain")
def group_and_chain() -> None:
    app = tasks()
    from celery import chain, group

    with worker("groups"):
        same(group(app.price.s(i) for i in range(5))().get(timeout=30), [i * 1.2 for i in range(5)])
        same(chain(app.price.s(10), app.price.s())().get(timeout=30), 14.399999999999999)


@case("chord")
def chord_of_results_in_files() -> None:
    """Chords need results that can be read again; they are in files here."""
    results = f"file://{FOLDER}/results"
    os.makedirs(f"{FOLDER}/results", exist_ok=True)
    code = (
        f"from {APP} import *; from celery import chord;"
        "print(chord(price.s(i * 10) for i in range(4))(total.s()).get(timeout=30))"
    )
    with worker("chords", results):
        environ = {**os.environ, "COMPAT_RESULTS": results}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False
        )
    same(done.stdout.strip(), "72.0", done.stderr[-300:])


@case("worker-killed")
def worker_killed() -> None:
    app, log = tasks(), Path(FOLDER, "slow")
    log.touch()
    with worker("killed") as process:
        result = app.slow.delay(5.0, str(log))
        eventually(lambda: "start" in log.read_text(), "the task begins", 30)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with worker("heir"):
        same(result.get(timeout=40), "done")
    starts = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("start")]
    same(starts, ["False", "True"])


if __name__ == "__main__":
    main()

"""Celery on kombu's transport for Pub/Sub, with a worker of its own; results are in files.

python -m tests.compat.pubsub.clients.celery_suite HOST:PORT [CASE…]
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

from tests.compat.cases import case, fresh, main, same

FOLDER = tempfile.mkdtemp(prefix="celery-")
os.environ["COMPAT_RESULTS"] = FOLDER
os.environ["COMPAT_QUEUE"] = fresh("celery-orders")
APP = "tests.compat.pubsub.clients.celery_app"


@contextlib.contextmanager
def worker() -> Iterator[None]:
    """A worker process with one thread: a forked process cannot use grpc's."""
    command = [sys.executable, "-m", "celery", "-A", APP, "worker", "-P", "solo", "-l", "warning"]
    with Path(FOLDER, "worker.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@case("tasks-with-results-and-retries")
def tasks() -> None:
    from tests.compat.pubsub.clients import celery_app

    with worker():
        results = [celery_app.price.delay(i) for i in range(10)]
        same([result.get(timeout=40) for result in results], [i * 1.2 for i in range(10)])
        same(celery_app.flaky.delay(3).get(timeout=30), 3)


if __name__ == "__main__":
    main()

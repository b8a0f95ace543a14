"""The tasks of celery_suite.py; worker and client import them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

app = Celery(
    "shop",
    broker=f"amqp://guest:guest@{os.environ['COMPAT_BROKER']}//",
    backend=os.environ["COMPAT_RESULTS"],
)
app.conf.update(
    task_default_queue="celery-orders",
    task_queue_max_priority=5,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    result_chord_retry_interval=0.2,
)


@app.task  # type: ignore[untyped-decorator]
def price(amount: float) -> float:
    """Price with tax."""
    return amount * 1.2


@app.task  # type: ignore[untyped-decorator]
def total(amounts: list[float]) -> float:
    return sum(amounts)


@app.task(bind=True, max_retries=5)  # type: ignore[untyped-decorator]
def flaky(self: Any, failures: int) -> int:
    """Fails so often, then answers how often."""
    if self.request.retries < failures:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task(bind=True)  # type: ignore[untyped-decorator]
def slow(self: Any, seconds: float, log: str) -> str:
    """Note the start and, unless the worker is killed, the end."""
    with Path(log).open("a") as file:
        print("start", self.request.delivery_info["redelivered"], os.getpid(), file=file, flush=True)
        time.sleep(seconds)
        print("end", file=file, flush=True)
    return "done"

"""The tasks of celery_suite.py; worker and client import them."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

app = Celery("shop", broker="gcpubsub://projects/compat", backend=f"file://{os.environ['COMPAT_RESULTS']}")
app.conf.update(
    task_default_queue=os.environ["COMPAT_QUEUE"],
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)


@app.task  # type: ignore[untyped-decorator]
def price(amount: float) -> float:
    """Price with tax."""
    return amount * 1.2


@app.task(bind=True, max_retries=5)  # type: ignore[untyped-decorator]
def flaky(self: Any, failures: int) -> int:
    """Fails so often, then answers how often."""
    if self.request.retries < failures:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)

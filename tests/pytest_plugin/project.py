"""A small project of a user, and running its tests with the plugin."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

# pytester forgets what was imported while it runs a project's tests: these would be imported anew each time.
import mainstem.doors.kafka.server
import mainstem.engines.embedded.engine
import mainstem.pytest_plugin.broker
import mainstem.search.local.search
import mainstem.search.workers.loop_pool

PLUGIN = "mainstem.pytest_plugin"
IS_INSTALLED = any(entry.value == PLUGIN for entry in entry_points(group="pytest11"))
"""Whether pytest loads it by its entry point: an installation for development may be older than that."""
ARGUMENTS = ("-p", "no:randomly", "-p", "no:cacheprovider")
NO_ASYNCIO = ("-p", "no:asyncio")

APP = """
from dataclasses import dataclass
import mainstem
from mainstem import DeadLetter, Event, Retry

stream = mainstem.connect("127.0.0.1:1")  # nothing listens there, and nothing is to

@dataclass
class Order:
    id: int
    customer: str
    total: float

@dataclass
class Payment:
    order: int
    state: str

orders = stream.topic("orders", Order, key=lambda order: order.customer)
payments = stream.topic("payments", Payment)

@orders.subscriber(group="billing", retry=Retry(max_attempts=3, initial_delay=60))
async def bill(event: Event[Order]) -> None:
    if event.value.total < 0:
        raise DeadLetter("a negative total")
    if event.value.total > 100 and event.attempt == 1:
        raise ValueError("the bank does not answer")
    await payments.publish(Payment(event.value.id, "paid"))
"""


def run_tests(pytester: pytest.Pytester, code: str, *arguments: str) -> pytest.RunResult:
    """Run `code` as a test module beside the application, in this process."""
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    pytester.makepyfile(app=APP, test_app=f"from datetime import timedelta\nfrom app import *\n{code}")
    plugins = [] if IS_INSTALLED else [mainstem.pytest_plugin]
    return pytester.runpytest_inprocess(*ARGUMENTS, *NO_ASYNCIO, *arguments, plugins=plugins)

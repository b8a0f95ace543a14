"""What tests of several folders share."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from tests.compat.apache_kafka import JARS, apache_kafka

pytest_plugins = ["pytester"]

# A busy machine makes any single example slow, and the tests assert no times.
hypothesis.settings.register_profile("mainstem", deadline=None)
hypothesis.settings.load_profile("mainstem")


@pytest.fixture(scope="session")
def real_kafka() -> Iterator[str]:
    """HOST:PORT of a real Apache Kafka, one for all tests; skips loudly where its jars are not there, except
    in CI, where nothing may be missing."""
    if not list(JARS.glob("kafka_2.13-*.jar")):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no Apache Kafka in {JARS}: make deps-all")
    with apache_kafka() as address:
        yield address


def pytest_configure() -> None:
    """A shell that runs the tests in the background has SIGINT ignored, and what they start would inherit
    that: Ctrl-C could not be tested."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What collecting has made lives as long as the process: no later collection of garbage looks at it. A
    tenth of the tests' processor time went there."""
    gc.collect()
    gc.freeze()

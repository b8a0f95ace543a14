"""What tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compat.apache_kafka import JARS, apache_kafka


@pytest.fixture(scope="session")
def real_kafka() -> Iterator[str]:
    """HOST:PORT of a real Apache Kafka, one for all tests; skips loudly where its jars are not there."""
    if not list(JARS.glob("kafka_2.13-*.jar")):
        pytest.skip(f"no Apache Kafka in {JARS}: make deps-all")
    with apache_kafka() as address:
        yield address

"""Raw requests of share groups get the same answers from mainstem as from Apache Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compat import apache_kafka
from tests.compat.share_probes import PROBES, transcript
from tests.support.server import Server


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_share_groups_answer_like_apache_kafka(tmp_path: Path) -> None:
    if not list(apache_kafka.JARS.glob("kafka_2.13-*.jar")):
        pytest.skip("no Apache Kafka: run `make deps-all`")
    with Server(tmp_path / "data").start() as server:
        ours = transcript(server.address)
    with apache_kafka.apache_kafka() as address:
        theirs = transcript(address)
    for name in PROBES:
        assert ours[name] == theirs[name], PROBES[name].__doc__

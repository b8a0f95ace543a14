"""The franz-go, sarama and kafka-go suites against a fresh server give what the report card says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compat import suites


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("client", ["franz", "sarama", "kafka_go"])
def test_the_go_clients_pass_the_cases_of_the_report_card(client: str, tmp_path: Path) -> None:
    suites.against_mainstem(client, tmp_path)

"""mainstem answers each probe as RabbitMQ 3.10 does, but for the differences listed with their reasons."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compat.rabbitmq.compare_with_rabbitmq import RECORDED, difference, play, read
from tests.compat.rabbitmq.differences import DIFFERENCES, comparable
from tests.compat.rabbitmq.mainstem_server import mainstem_with_amqp
from tests.compat.rabbitmq.probing import PROBES


def test_the_listed_differences_are_of_probes_that_exist() -> None:
    assert set(read(RECORDED.read_text())) == set(PROBES)
    assert set(DIFFERENCES) <= set(PROBES)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_answers_are_those_of_rabbitmq_but_for_what_is_listed(tmp_path: Path) -> None:
    recorded = {name: comparable(lines) for name, lines in read(RECORDED.read_text()).items()}
    with mainstem_with_amqp(tmp_path) as address:
        played = {name: comparable(lines) for name, lines in play(address).items()}
    differences = {name: difference(recorded[name], lines) for name, lines in played.items()}
    assert {n: lines for n, lines in differences.items() if lines and n not in DIFFERENCES} == {}
    assert {name for name in DIFFERENCES if not differences[name]} == set(), "no difference any more"

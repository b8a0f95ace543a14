"""mainstem answers each probe as RabbitMQ 3.10 does, but for the differences listed with their reasons."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compat.rabbitmq.compare_with_rabbitmq import RECORDED, difference, play, play_until_alike, read
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

    def is_alike(name: str, lines: list[str]) -> bool:
        return not difference(recorded[name], comparable(lines))

    with mainstem_with_amqp(tmp_path) as address:
        differ = {name for name, lines in play(address).items() if not is_alike(name, lines)}
        play_until_alike(address, differ - DIFFERENCES.keys(), is_alike)
    assert DIFFERENCES.keys() <= differ, "a listed difference is no difference any more"

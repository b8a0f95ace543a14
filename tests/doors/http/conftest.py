"""One door for the tests of a module; topics are told apart by their names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doors.http.door_kit import Running, running


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("http") / "data") as found:
        yield found

"""One door for all tests of a module; each test uses topics of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doors.http.door_kit import RunningHttpDoor, running_door


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    with running_door(tmp_path_factory.mktemp("http") / "data") as running:
        yield running

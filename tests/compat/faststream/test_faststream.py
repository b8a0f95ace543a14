"""The faststream suite against a fresh server gives what the report card says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compat import suites


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_faststream_passes_the_cases_of_the_report_card(tmp_path: Path) -> None:
    suites.against_mainstem("faststream", tmp_path)

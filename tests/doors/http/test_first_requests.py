"""The first request of each route is as good as the second, also where no file can be opened for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from mainstem.doors.http.endpoints import ENDPOINTS
from tests.doors.http.first_requests import OTHERS, requests

OPTIONAL = ("pyarrow",)


def test_no_first_request_of_any_route_imports_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.doors.http.first_requests", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert len(list(requests())) == len(result["replies"]) == len(ENDPOINTS) + len(OTHERS)
    refused = {request: status for request, status in result["replies"].items() if status >= 300}
    assert refused == {"GET /nothing": 404, "BREW /livez": 405}, "all others were really answered"
    assert [name for name in result["imported"] if not name.startswith(OPTIONAL)] == []

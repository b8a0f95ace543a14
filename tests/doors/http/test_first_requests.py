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
    # The listener asks for no login, so it offers none.
    expected = {"GET /nothing": 404, "BREW /livez": 405, "POST /api/v1/session": 404}
    expected |= {"GET /api/v1/session/oidc": 404, "GET /api/v1/session/oidc/callback": 404}
    expected |= {"POST /api/v1/tokens": 422, "DELETE /api/v1/tokens/t": 404}  # no such user, no such token
    assert refused == expected, "all others were really answered"
    assert [name for name in result["imported"] if not name.startswith(OPTIONAL)] == []

"""`mainstem work` over kills of the server: what is finished is not done again, and its counts are true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.support.server import Server

EVENTS = 100
KILLS = 2
REJECTED = 7
WORKER = """
printf '%s/%s\\n' "$MAINSTEM_PARTITION" "$MAINSTEM_OFFSET" >> "$LEDGER"
sleep 0.0$((MAINSTEM_OFFSET % 9))
[ "$MAINSTEM_OFFSET" = 7 ] && exit 65
exit 0
"""


@pytest.mark.slow
@pytest.mark.parametrize("accepts_late_acks", [True, False])
def test_no_job_is_run_twice_over_kills_of_the_server(tmp_path: Path, accepts_late_acks: bool) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()

    def runs() -> list[str]:
        return ledger.read_text().splitlines()

    with Server(tmp_path / "data", http="127.0.0.1:0") as server:
        server.settings["http"] = server.http  # the same port after each restart
        with httpx.Client(base_url=f"http://{server.http}/api/v1", trust_env=False, timeout=30) as client:
            for path, body in (
                ("topics", {"topic": "t", "partitions": 2}),
                ("topics/t/events", [{"value": number} for number in range(EVENTS)]),
                (
                    "subscriptions",
                    {
                        "subscription": "s",
                        "topics": ["t"],
                        "settings": {"accepts_late_acks": accepts_late_acks},
                    },
                ),
            ):
                client.post(f"/{path}", json=body).raise_for_status()
        arguments = ("work", "s", "--jobs", "4", "--until-empty", "--", "sh", "-c", WORKER)
        worker = subprocess.Popen(
            [sys.executable, "-m", "mainstem", *arguments],
            env=os.environ | {"MAINSTEM_AT": server.address, "LEDGER": str(ledger)},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            for number in range(KILLS):
                limit = time.monotonic() + 60
                while len(runs()) < (number + 1) * EVENTS // (KILLS + 1):
                    assert time.monotonic() < limit
                    assert worker.poll() is None
                    time.sleep(0.005)
                server.restart(kill=True)
            _, errors = worker.communicate(timeout=120)
        finally:
            if worker.poll() is None:
                worker.kill()
        assert worker.returncode == 0, errors
        with httpx.Client(base_url=f"http://{server.http}/api/v1", trust_env=False, timeout=30) as client:
            shown = client.get("/subscriptions/s").json()
        assert set(shown["depth"].values()) == {0}, errors
        counts = re.findall(r"(\d+) events: (\d+) acknowledged, (\d+) failed, (\d+) rejected", errors)
        rejected = sum(position.endswith(f"/{REJECTED}") for position in set(runs()))
        assert counts == [(str(EVENTS), str(EVENTS - rejected), "0", str(rejected))], errors
        assert Counter(runs()).most_common(1)[0][1] == 1, errors
        assert len(runs()) == EVENTS

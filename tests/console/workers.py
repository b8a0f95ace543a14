"""Subscriptions of flights and their workers, for browser tests and screenshots.

Owns: which events fail, which are rejected, and which are never answered, so that every state has some.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx

DEAD = "flights-dead"


class Workers:
    """Subscriptions at `http` (HOST:PORT): fees, whose events are in all states; rebooking, in key order;
    archive, without a worker."""

    def __init__(self, http: str) -> None:
        self._address = f"http://{http}/api/v1"

    def post(self, path: str, **body: Any) -> Any:
        """The JSON of the reply, which must succeed."""
        reply = httpx.post(f"{self._address}/{path}", json=body, timeout=30, trust_env=False)
        assert reply.status_code < 300, reply.text
        return reply.json()

    def create(self) -> None:
        """Create the subscriptions, and the topic of dead letters."""
        self.post("topics", topic=DEAD)
        fees = {"failures_max": 3, "dead_letter_topic": DEAD, "lock_ms": 600_000}
        self.post("subscriptions", subscription="fees", topics=["flights"], settings=fees)
        rebooking = {"filter": "dep_time:null", "in_key_order": True, "lock_ms": 600_000}
        self.post("subscriptions", subscription="rebooking", topics=["flights"], settings=rebooking)
        self.post("subscriptions", subscription="archive", topics=["flights"])

    def work(self, consumer: str, count: int) -> None:
        """Pull and answer: cancelled flights are rejected, one airline's come again later."""
        pulled = self.post("subscriptions/fees:pull", consumer=consumer, max_events=count)["deliveries"]
        acked, later, rejected = [], [], []
        for delivery in pulled:
            flight = delivery["event"]["value"]
            if flight["dep_time"] is None:
                rejected.append(delivery["token"])
            elif flight["carrier"] == "US":
                later.append(delivery["token"])
            else:
                acked.append(delivery["token"])
        if acked:
            self.post("subscriptions/fees:ack", tokens=acked)
        if later:
            self.post(
                "subscriptions/fees:nack",
                tokens=later,
                delay_ms=1_800_000,
                reason="no tariff for US",
            )
        if rejected:
            reason = "the flight was cancelled: it has no departure time"
            self.post("subscriptions/fees:reject", tokens=rejected, reason=reason)

    def leave(self) -> None:
        """Leave some events without an answer."""
        for consumer, count in (("fees-1", 12), ("fees-2", 5)):
            self.post("subscriptions/fees:pull", consumer=consumer, max_events=count)
        for consumer in ("desk-1", "desk-2"):
            self.post("subscriptions/rebooking:pull", consumer=consumer, max_events=20, wait_ms=5_000)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set."""
        self.create()
        self.work("fees-1", 200)
        self.leave()
        while not stop.wait(1.0):
            self.work(f"fees-{1 + int(time.time()) % 3}", 15)

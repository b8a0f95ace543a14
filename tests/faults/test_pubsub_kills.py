"""Sudden deaths of the server while clients of Pub/Sub publish, pull and acknowledge, by its REST API."""

from __future__ import annotations

import base64
import random
import re
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.server import Server

KILLS = 6
MESSAGES_OF_LIFE = 200
PULLED_MAX = 20
GATES = ("A 12", "B 22", "C 4")
"""The ordering keys."""
PROJECT = "/v1/projects/airline"
SUBSCRIPTIONS: dict[str, dict[str, Any]] = {
    "boards": {"ackDeadlineSeconds": 10},
    "billing": {"ackDeadlineSeconds": 10, "enableExactlyOnceDelivery": True, "enableMessageOrdering": True},
}
SILENT_PULLS = 2
"""A subscription is empty if this number of pulls get nothing; each waits for 9 s, and a lock is 10 s."""


class PubsubApi:
    """Calls of the server as it runs now: after a start it may have another port."""

    def __init__(self, server: Server) -> None:
        match = re.search(r"pubsub=(\S+)", server.ready_line)
        assert match is not None, server.ready_line
        self._http = httpx.Client(base_url=f"http://{match[1]}{PROJECT}", trust_env=False, timeout=60)

    def close(self) -> None:
        self._http.close()

    def create(self) -> None:
        """Make the topic and its subscriptions, unless they are there."""
        made = [self._http.put("/topics/flights", json={})]
        for name, fields in SUBSCRIPTIONS.items():
            subscription = {"topic": "projects/airline/topics/flights", **fields}
            made.append(self._http.put(f"/subscriptions/{name}", json=subscription))
        assert {reply.status_code for reply in made} <= {200, 409}, [reply.text for reply in made]

    def publish(self, number: int) -> bool:
        """Publish the message of this number. Whether that is confirmed."""
        message = {
            "data": base64.b64encode(b"%d" % number).decode(),
            "orderingKey": GATES[number % len(GATES)],
        }
        return self._done("/topics/flights:publish", {"messages": [message]})

    def pull(self, subscription: str) -> list[tuple[int, str]] | None:
        """The number and the ack id of each message; None: the server is dead."""
        try:
            reply = self._http.post(f"/subscriptions/{subscription}:pull", json={"maxMessages": PULLED_MAX})
        except httpx.HTTPError:
            return None
        if reply.status_code == 504:  # nothing came within the time of a call
            return []
        assert reply.status_code == 200, reply.text
        return [
            (int(base64.b64decode(received["message"]["data"])), received["ackId"])
            for received in reply.json().get("receivedMessages", ())
        ]

    def acknowledge(self, subscription: str, ack_ids: list[str]) -> bool:
        """Whether the answers are confirmed."""
        return self._done(f"/subscriptions/{subscription}:acknowledge", {"ackIds": ack_ids})

    def _done(self, path: str, body: dict[str, Any]) -> bool:
        try:
            reply = self._http.post(path, json=body)
        except httpx.HTTPError:
            return False
        return reply.status_code == 200


class FlightPublisher(threading.Thread):
    """Publishes messages, numbered, each after the one before is confirmed, until the server is killed."""

    def __init__(self, server: Server, first: int) -> None:
        super().__init__()
        self._api = PubsubApi(server)
        self.next = first
        """All below are confirmed, and this one may have been stored."""

    def run(self) -> None:
        while self._api.publish(self.next):
            self.next += 1
        self._api.close()


class FlightJudge:
    """Pulls from a subscription, and judges what comes."""

    def __init__(self, subscription: str) -> None:
        self.subscription = subscription
        self.seen: set[int] = set()
        self.confirmed: set[int] = set()
        """Acknowledged, and the server said so."""
        self._highest: defaultdict[int, int] = defaultdict(lambda: -1)
        """Of each ordering key, among those that came."""

    @property
    def is_exact(self) -> bool:
        return "enableExactlyOnceDelivery" in SUBSCRIPTIONS[self.subscription]

    def work(self, server: Server, enough: threading.Barrier | None = None) -> None:
        """Acknowledge until the server is dead or no further messages come. `enough`: where to wait, once,
        when MESSAGES_OF_LIFE have come."""
        api = PubsubApi(server)
        silent = 0
        count = 0
        while silent < SILENT_PULLS:
            received = api.pull(self.subscription)
            if received is None:
                break
            silent = 0 if received else silent + 1
            for number, _ in received:
                self._judge(number)
            count += len(received)
            if enough is not None and count >= MESSAGES_OF_LIFE:
                enough.wait(60)
                enough = None
            if received and api.acknowledge(self.subscription, [ack_id for _, ack_id in received]):
                self.confirmed.update(number for number, _ in received)
        api.close()

    def _judge(self, number: int) -> None:
        if self.is_exact:
            assert number not in self.confirmed, f"message {number} comes again after a confirmed answer"
            gate = number % len(GATES)
            if number not in self.seen:
                assert number > self._highest[gate], f"message {number} comes after {self._highest[gate]}"
                self._highest[gate] = number
        self.seen.add(number)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sudden_deaths_lose_no_message_and_none_comes_again_after_a_confirmed_answer(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", doors="kafka,pubsub", pubsub="127.0.0.1:0")
    judges = [FlightJudge(name) for name in SUBSCRIPTIONS]
    chance = random.Random(7)
    first = 0
    unconfirmed: set[int] = set()
    for _ in range(KILLS):
        server.start()
        api = PubsubApi(server)
        api.create()
        api.close()
        publisher = FlightPublisher(server, first)
        publisher.start()
        enough = threading.Barrier(len(judges) + 1)
        with ThreadPoolExecutor() as threads:
            working = [threads.submit(judge.work, server, enough) for judge in judges]
            enough.wait(120)
            time.sleep(chance.uniform(0, 0.1))
            server.kill()
        for judge_ended in working:
            judge_ended.result()
        publisher.join(30)
        assert not publisher.is_alive()
        assert publisher.next > first, "something was confirmed"
        unconfirmed.add(publisher.next)
        first = publisher.next + 1
    with server:
        for judge in judges:
            judge.work(server)
    for judge in judges:
        assert judge.seen >= set(range(first)) - unconfirmed, judge.subscription
        assert judge.seen <= set(range(first)), judge.subscription
        assert len(judge.confirmed) > len(judge.seen) / 2, judge.subscription  # others: a kill's answers

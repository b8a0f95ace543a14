"""The kill -9 loop of queues: a real server, many workers, sudden death at random moments, one history.

Owns: the publishers, the workers and the loop; the rules are those of `queue_history`. Two subscriptions work
on the same events: one in key order, one that gives up what fails too often. `run` raises AssertionError with
the seed and every violation. `python -m tests.faults.queue_kills --kills 200` is the long run.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from tests.faults.queue_history import AnswerVerb, QueueEvent, WorkHistory
from tests.support.server import Server

TOPIC, PARTITIONS = "orders", 3
PUBLISHERS, WORKERS = 2, 4
KEYS = 20
"""Of each publisher."""
LOCK_MS = 8_000
DRAIN_S = 60.0
"""Without progress."""
PROGRESS_KILLS = 20
VERBS: tuple[AnswerVerb, ...] = ("ack", "nack", "reject")
BACKLOG_MAX = 3_000
"""Events that are not done, beyond which publishers wait."""
SUBSCRIPTIONS: dict[str, dict[str, Any]] = {
    "ordered": {"in_key_order": True, "dead_letter_topic": "ordered-dead"},
    "plain": {"failures_max": 6, "dead_letter_topic": "plain-dead"},
}
WAITS = {"lock_ms": LOCK_MS, "backoff_min_ms": 20, "backoff_max_ms": 500}
"""Settings of all subscriptions."""


@dataclass(frozen=True)
class KillRig:
    """What is killed: a server, and subscriptions that work on the same events."""

    subscriptions: Mapping[str, Mapping[str, Any]]
    """Name -> settings."""
    create: Callable[[QueueApi], None]
    publisher: Callable[[str, str, int, Sequence[WorkHistory]], QueuePublisher]
    module: str = "mainstem"
    settings: Mapping[str, object] = field(default_factory=dict)
    """Of the server."""


class Unanswered(Exception):
    """The server did not answer: it is not known what it did."""


def subscription_path(name: str) -> str:
    """The address of a subscription."""
    return f"/subscriptions/{quote(name, safe='')}"


class QueueApi:
    """Calls of the HTTP door. One for each thread."""

    def __init__(self, address: str) -> None:
        self._http = httpx.Client(base_url=f"http://{address}/api/v1", trust_env=False, timeout=60)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def call(self, path: str, body: object) -> Any:
        """The JSON of the reply. Unanswered, also while the server starts."""
        try:
            reply = self._http.post(path, json=body)
        except httpx.HTTPError as error:
            raise Unanswered(str(error)) from None
        if reply.status_code >= 500:
            raise Unanswered(reply.text)
        assert reply.status_code < 300, reply.text
        return reply.json()

    def depth(self, name: str) -> Counter[str]:
        """How many events are in each state."""
        try:
            reply = self._http.get(subscription_path(name))
        except httpx.HTTPError as error:
            raise Unanswered(str(error)) from None
        if reply.status_code >= 500:
            raise Unanswered(reply.text)
        return Counter(reply.json()["depth"])

    def browse(self, name: str) -> list[dict[str, Any]]:
        """The first events that are not done, without their payloads."""
        rows = self._http.get(f"{subscription_path(name)}:browse", params={"limit": 20}).json()["events"]
        return [row | {"event": (row["event"]["partition"], row["event"]["offset"])} for row in rows]

    def letters(self, topic: str) -> Counter[QueueEvent]:
        """How many dead letters each event has."""
        letters: Counter[QueueEvent] = Counter()
        offset = 0
        while True:
            reply = self._http.get(f"/topics/{topic}/partitions/0/events", params={"offset": offset})
            events = reply.json()["events"]
            if not events:
                return letters
            letters.update(QueueEvent.of(event["value"]) for event in events)
            offset = events[-1]["offset"] + 1


class LoadThread(threading.Thread):
    """A client that works until `ended` is set; what it raises is kept in `error`."""

    def __init__(self, name: str, address: str, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.api = QueueApi(address)
        self.rng = random.Random(seed)
        self.ended = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.ended.is_set():
                try:
                    self.step()
                except Unanswered:
                    time.sleep(0.2)
        except BaseException as error:
            self.error = error
        finally:
            self.api.close()

    def step(self) -> None:
        """One call, or a few."""
        raise NotImplementedError


class QueuePublisher(LoadThread):
    """Publishes events with keys of its own, numbered by key. It never repeats one."""

    def __init__(self, name: str, address: str, seed: int, histories: Sequence[WorkHistory]) -> None:
        super().__init__(name, address, seed)
        self._histories = histories
        self._numbers: Counter[str] = Counter()

    def step(self) -> None:
        events = []
        for _ in range(self.rng.choice((1, 1, 5, 40))):
            key = f"{self.name}-{self.rng.randrange(KEYS)}"
            events.append(QueueEvent(key, self._numbers[key]))
            self._numbers[key] += 1
        for history in self._histories:
            history.publishing(events)
        self.send(events)
        for history in self._histories:
            history.published(events)
        time.sleep(self.rng.expovariate(50))
        while self.api.depth(self._histories[0].name).total() > BACKLOG_MAX and not self.ended.is_set():
            time.sleep(0.1)

    def send(self, events: Sequence[QueueEvent]) -> None:
        """Publish events in this order. Unanswered."""
        rows = [{"key": event.key, "value": event.text, "value_encoding": "text"} for event in events]
        self.api.call(f"/topics/{TOPIC}/events", rows)


class QueueWorker(LoadThread):
    """Pulls, and answers in every way. In the drain it acknowledges everything."""

    def __init__(self, name: str, address: str, seed: int, history: WorkHistory) -> None:
        super().__init__(name, address, seed)
        self._history = history
        self.drains = threading.Event()

    def step(self) -> None:
        start = self._history.pulling(time.monotonic())
        body = {"consumer": self.name, "max_events": self.rng.choice((1, 5, 50)), "wait_ms": 300}
        pulled = self.api.call(f"{subscription_path(self._history.name)}:pull", body)["deliveries"]
        now_s = time.monotonic()
        deliveries = [(QueueEvent.of(row["event"]["value"]), row["token"]) for row in pulled]
        for (event, _), row in zip(deliveries, pulled, strict=True):
            self._history.delivered(event, self.name, row["attempt"], now_s, start)
        if self.drains.is_set():
            self._answer("ack", deliveries)
            return
        if self.rng.random() < 0.01:
            return  # as a worker that was killed
        if self.rng.random() < 0.3:
            self.rng.shuffle(deliveries)
        while deliveries:
            count = self.rng.randint(1, len(deliveries))
            part, deliveries = deliveries[:count], deliveries[count:]
            choice = self.rng.random()
            if choice < 0.05:
                self._call("extend", part, lock_ms=LOCK_MS)
                deliveries = part + deliveries
            elif choice < 0.98:  # the others are forgotten
                self._answer(self.rng.choices(VERBS, (40, 5, 1))[0], part)
            time.sleep(self.rng.expovariate(200))

    def _answer(self, verb: AnswerVerb, part: Sequence[tuple[QueueEvent, str]]) -> None:
        if not part:
            return
        numbers = [self._history.answering(event, verb, self.name, time.monotonic()) for event, _ in part]
        more: dict[str, object] = {}
        if verb == "nack":
            more = {"delay_ms": self.rng.choice((None, 0, 20, 300))}
        for number, verdict in zip(numbers, self._call(verb, part, **more), strict=True):
            self._history.answered(number, verdict, time.monotonic())

    def _call(self, verb: str, part: Sequence[tuple[QueueEvent, str]], **more: object) -> list[str]:
        body = {"tokens": [token for _, token in part], **more}
        path = f"{subscription_path(self._history.name)}:{verb}"
        verdicts: list[str] = self.api.call(path, body)["verdicts"]
        return verdicts


def create(api: QueueApi) -> None:
    """The topics and subscriptions."""
    api.call("/topics", {"topic": TOPIC, "partitions": PARTITIONS})
    for name, settings in SUBSCRIPTIONS.items():
        api.call("/topics", {"topic": settings["dead_letter_topic"], "partitions": 1})
        body = {"subscription": name, "topics": [TOPIC], "settings": WAITS | settings}
        api.call("/subscriptions", body)


def wait_until_served(api: QueueApi, name: str) -> None:
    """Wait until the HTTP door answers: its code is loaded by its first connection."""
    limit = time.monotonic() + DRAIN_S
    while True:
        try:
            api.depth(name)
            return
        except Unanswered:
            assert time.monotonic() < limit
            time.sleep(0.02)


def drain(api: QueueApi, histories: Sequence[WorkHistory], workers: Sequence[QueueWorker]) -> None:
    """Wait until nothing is outstanding, or nothing was done for some time."""
    for history in histories:
        done, limit = -1, 0.0
        while (depth := api.depth(history.name)).total():
            for worker in workers:
                if worker.error is not None:
                    raise worker.error
            now_s = time.monotonic()
            if history.counts["done"] > done:
                done, limit = history.counts["done"], now_s + DRAIN_S
            if now_s >= limit:
                shown = api.browse(history.name)
                raise AssertionError(f"{history.name} is not drained: {dict(depth)}; {shown}")
            time.sleep(0.2)


def stop_all(threads: Sequence[LoadThread]) -> None:
    """End threads, and raise what one of them has raised."""
    for thread in threads:
        thread.ended.set()
    for thread in threads:
        thread.join(90)
        if thread.error is not None:
            raise thread.error


def run(
    folder: Path,
    *,
    kills: int,
    seed: int,
    on_kill: Callable[[int], None] = lambda number: None,
    rig: KillRig | None = None,
) -> list[WorkHistory]:
    """Kill the server `kills` times under load, drain, and judge. AssertionError: what is violated. `on_kill`
    gets the number of each kill."""
    rng = random.Random(seed)
    rig = KillRig(SUBSCRIPTIONS, create, QueuePublisher) if rig is None else rig
    histories = [
        WorkHistory(name, lock_s=LOCK_MS / 1000, in_key_order=settings.get("in_key_order", False))
        for name, settings in rig.subscriptions.items()
    ]
    started = Server(folder / "data", http="127.0.0.1:0", log_level="warning", **rig.settings)
    started.module = rig.module
    with started as server, contextlib.closing(QueueApi(server.http)) as api:
        server.settings["http"] = server.http
        rig.create(api)
        publishers = [
            rig.publisher(f"p{number}", server.http, rng.randrange(1 << 32), histories)
            for number in range(PUBLISHERS)
        ]
        workers = [
            QueueWorker(f"w{number}", server.http, rng.randrange(1 << 32), history)
            for history in histories
            for number in range(WORKERS)
        ]
        for thread in (*publishers, *workers):
            thread.start()
        try:
            for number in range(kills):
                on_kill(number)
                wait_until_served(api, histories[0].name)
                time.sleep(rng.uniform(0.1, 1.5))
                for history in histories:
                    history.dying()
                server.kill()
                for history in histories:
                    history.dead()
                server.start(same_port=True)
        finally:
            stop_all(publishers)
            for worker in workers:
                worker.drains.set()
        drain(api, histories, workers)
        stop_all(workers)
        violations = [
            line
            for history in histories
            for line in history.judge(api.letters(rig.subscriptions[history.name]["dead_letter_topic"]))
        ]
    assert not violations, "\n".join([f"seed {seed}, {len(violations)} violations:", *violations[:30]])
    return histories


def show_progress(number: int) -> None:
    """A line now and then."""
    if number and not number % PROGRESS_KILLS:
        print(f"{number} kills", flush=True)


def main(rig: KillRig | None = None) -> None:
    """The long run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        histories = run(Path(folder), kills=options.kills, seed=options.seed, on_kill=show_progress, rig=rig)
        for history in histories:
            print(f"{history.name}: {history.deaths} kills, {dict(history.counts)}, no violation")


if __name__ == "__main__":
    main()

"""Availability of a real server under full load while the disk has a hiccup every few seconds.

    python -m tests.faults.hiccups [--minutes M] [--every S] [--hiccup S] [--seed N]

Of the topic's 32 partitions, syncs of the segments of 4 fail for half a second every ten seconds; meanwhile
topics are created and deleted, and retention removes segments. A second counts as available if every one of
the other 28 partitions acknowledged an event and returned one in it. Owns: the load, the probes, the figures.
Judged: nothing acknowledged is lost, also after kill -9; the others are never refused; the 4 accept events
again without a restart. Exit code 1 if not, or if fewer than 99 % of the seconds are available, or if the 4
need more than 10 s after the last hiccup.

Full load is 70 % of what the same clients reach in the first half minute, when nothing limits them. With more
than that the disk writes back in bursts and the clients wait for the processor, so that seconds are missing
without any fault. `--hiccup 0` is the run to compare with: the same load, no fault.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.faults.sync_faults import SyncFaults
from tests.support.server import Server

TOPIC = "flights"
PARTITIONS = 32
FAILING = 4
"""The first ones."""
VALUE_BYTES = 10_000
PROBE_INTERVAL_S = 0.1
RETENTION_BYTES = 64 << 20
REMEMBERED = 3000
"""Newest acknowledged events of each partition that the last judgement looks for."""
UNREAD_MAX = 5000
LOAD = 0.7
"""Full load, as a part of what an unlimited flood reaches."""
CATCH_UP_S = 0.2
"""What the flood was late by is sent later up to this much; the rest is not sent."""
WAIT_S = 60.0
QUIET = {"log_level": 0, "reconnect.backoff.max.ms": 250}


@dataclass(slots=True)
class HiccupLedger:
    """What was acknowledged and read, by partition, and when. Used by several threads, each of which has
    partitions or fields of its own."""

    started_s: float = 0.0
    acknowledged_in: list[set[int]] = field(default_factory=lambda: [set() for _ in range(PARTITIONS)])
    """Seconds in which an event was acknowledged."""
    read_in: list[set[int]] = field(default_factory=lambda: [set() for _ in range(PARTITIONS)])
    acknowledged: list[dict[int, bytes]] = field(default_factory=lambda: [{} for _ in range(PARTITIONS)])
    """Offset -> head of each event that was acknowledged and not read yet."""
    read: list[dict[int, bytes]] = field(default_factory=lambda: [{} for _ in range(PARTITIONS)])
    """Offset -> head of each event that was read and not acknowledged yet."""
    newest: list[deque[tuple[int, bytes]]] = field(
        default_factory=lambda: [deque(maxlen=REMEMBERED) for _ in range(PARTITIONS)]
    )
    lock: threading.Lock = field(default_factory=threading.Lock)
    count: int = 0
    lost: list[str] = field(default_factory=list)
    refusals: Counter[tuple[int, str]] = field(default_factory=Counter)
    """(partition, error) of probes."""
    late_s: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    """Second -> by how much probes were sent later than intended, at most: this process did not run."""
    last_refusal_s: list[float] = field(default_factory=lambda: [0.0] * PARTITIONS)
    last_acknowledgement_s: list[float] = field(default_factory=lambda: [0.0] * PARTITIONS)

    def second(self) -> int:
        """The present second of the run."""
        return int(time.monotonic() - self.started_s)

    def unread(self) -> int:
        """Events that were acknowledged and not read yet."""
        return sum(map(len, self.acknowledged))

    def on_late(self, late_s: float) -> None:
        """Probes are sent later than intended by `late_s`."""
        second = self.second()
        self.late_s[second] = max(self.late_s[second], late_s)

    def on_acknowledged(self, partition: int, offset: int, head: bytes) -> None:
        """An event was acknowledged."""
        with self.lock:
            self.count += 1
            self.acknowledged_in[partition].add(self.second())
            self.last_acknowledgement_s[partition] = time.monotonic()
            self.newest[partition].append((offset, head))
            self._match(self.acknowledged[partition], self.read[partition], partition, offset, head)

    def on_read(self, partition: int, offset: int, head: bytes) -> None:
        """An event was read."""
        with self.lock:
            self.read_in[partition].add(self.second())
            self._match(self.read[partition], self.acknowledged[partition], partition, offset, head)

    def _match(
        self, mine: dict[int, bytes], others: dict[int, bytes], partition: int, offset: int, head: bytes
    ) -> None:
        other = others.pop(offset, None)
        if other is None:
            mine[offset] = head
        elif other != head:
            self.lost.append(f"partition {partition}, offset {offset}: {other!r} and {head!r}")

    def missing(self, seconds: int) -> dict[int, str]:
        """The seconds, of the first ones, in which a healthy partition did not acknowledge an event or did
        not return one -> what was missing."""
        missing = {}
        for second in range(seconds):
            silent = [n for n in range(FAILING, PARTITIONS) if second not in self.acknowledged_in[n]]
            unread = [n for n in range(FAILING, PARTITIONS) if second not in self.read_in[n]]
            if silent or unread:
                missing[second] = (
                    f"{len(silent)} partitions acknowledged nothing, {len(unread)} returned nothing;"
                    f" probes were sent up to {self.late_s[second]:.2f} s late"
                )
        return missing


def head_of(value: bytes) -> bytes:
    """What identifies an event."""
    return value.split(b" ", 1)[0]


class Load:
    """Threads that produce, probe, read and delete until `end`."""

    def __init__(self, address: str, ledger: HiccupLedger, seed: int) -> None:
        self._address = address
        self._ledger = ledger
        self._rng = random.Random(seed)
        self._ending = threading.Event()
        self._reading = threading.Event()
        self.bytes_per_s = math.inf
        """What the flood sends at most, over all partitions together."""
        self.churned = 0
        healthy, failing = range(FAILING, PARTITIONS), range(FAILING)
        works = (
            partial(self._produce, healthy, 64_000), partial(self._produce, failing, 16_000),
            self._probe, self._read, self._churn,
        )  # fmt: skip
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._reading.set()
        self._ending.set()
        for thread in self._threads:
            thread.join(WAIT_S)

    def end_writing(self) -> None:
        """Stop all but the reader, once every event has its answer."""
        self._ending.set()
        for thread in self._threads:
            if thread is not self._threads[3]:
                thread.join(WAIT_S)
                assert not thread.is_alive(), "an event has no answer"

    def _answered(self, head: bytes, error: KafkaError | None, message: Message) -> None:
        if error is None:
            offset, partition = message.offset(), message.partition()
            assert offset is not None
            assert partition is not None
            self._ledger.on_acknowledged(partition, offset, head)

    def _probed(self, head: bytes, error: KafkaError | None, message: Message) -> None:
        partition = message.partition()
        assert partition is not None
        if error is not None:
            self._ledger.refusals[partition, error.name()] += 1
            self._ledger.last_refusal_s[partition] = time.monotonic()
        self._answered(head, error, message)

    def _producer(self, **settings: object) -> Producer:
        return Producer({"bootstrap.servers": self._address, **QUIET, "acks": "all", **settings})

    def _produce(self, partitions: range, queue_kb: int) -> None:
        """As fast as events are accepted and read, up to `bytes_per_s`; now and then a large batch, which is
        synced directly."""
        producer = self._producer(
            **{"queue.buffering.max.kbytes": queue_kb, "message.timeout.ms": 120_000, "linger.ms": 5}
        )
        filling = random.Random(partitions.start).randbytes(VALUE_BYTES)
        number = 0
        due_s = time.monotonic()
        while not self._ending.is_set():
            before = number
            for target in partitions:
                for _ in range(40 if number % 113 == 0 else 4):
                    number += 1
                    head = f"load-{target}-{number}".encode()
                    callback = partial(self._answered, head)
                    try:
                        producer.produce(TOPIC, head + b" " + filling, partition=target, on_delivery=callback)
                    except BufferError:
                        producer.poll(0.01)
            producer.poll(0)
            sent_bytes = (number - before) * VALUE_BYTES
            due_s = max(due_s, time.monotonic() - CATCH_UP_S)
            due_s += sent_bytes / (self.bytes_per_s * len(partitions) / PARTITIONS)
            while due_s > time.monotonic() and not self._ending.is_set():
                producer.poll(0.005)
            while self._ledger.unread() > UNREAD_MAX and not self._ending.is_set():
                producer.poll(0.01)
        producer.flush(WAIT_S)

    def _probe(self) -> None:
        """Small events to every partition, without a second try."""
        producer = self._producer(**{"retries": 0, "linger.ms": 0, "message.timeout.ms": 20_000})
        number = 0
        due_s = time.monotonic()
        while not self._ending.is_set():
            number += 1
            due_s += PROBE_INTERVAL_S
            self._ending.wait(max(0.0, due_s - time.monotonic()))
            self._ledger.on_late(time.monotonic() - due_s)
            due_s = max(due_s, time.monotonic() - PROBE_INTERVAL_S)
            for target in range(PARTITIONS):
                head = f"probe-{target}-{number}".encode()
                callback = partial(self._probed, head)
                producer.produce(TOPIC, head + b" ", partition=target, on_delivery=callback)
            producer.poll(0)
        producer.flush(WAIT_S)

    def _read(self) -> None:
        consumer = Consumer(
            {"bootstrap.servers": self._address, **QUIET, "group.id": "reader", "enable.auto.commit": False}
        )
        consumer.assign([TopicPartition(TOPIC, number, 0) for number in range(PARTITIONS)])
        while not self._reading.is_set():
            take(self._ledger, consumer.consume(500, timeout=0.1))
        consumer.close()

    def _churn(self) -> None:
        """Topics come and go."""
        admin = AdminClient({"bootstrap.servers": self._address, **QUIET})
        producer = self._producer()
        while not self._ending.wait(0.2):
            self.churned += 1
            name = f"churn-{self.churned}"
            with contextlib.suppress(KafkaException):
                admin.create_topics([NewTopic(name, 1, 1)])[name].result(WAIT_S)
                producer.produce(name, b"a few bytes")
                producer.flush(WAIT_S)
                admin.delete_topics([name])[name].result(WAIT_S)


def take(ledger: HiccupLedger, messages: list[Message]) -> None:
    """Note what was read."""
    for message in messages:
        value, partition, offset = message.value(), message.partition(), message.offset()
        if message.error() is None and value is not None and partition is not None and offset is not None:
            ledger.on_read(partition, offset, head_of(value))


@dataclass(slots=True)
class HiccupResult:
    """What a run showed."""

    seconds: int
    missing: dict[int, str]
    """Seconds that are not available -> why."""
    flood_bytes_per_s: float
    events: int
    hiccups: int
    topics: int
    recovery_s: float
    """From the end of the last hiccup until each failing partition accepted events again."""
    refusals: int
    """Probes of failing partitions that were refused."""
    faults: list[str]
    """What must not be: lost events, refusals of healthy partitions, a stop of all writes."""

    @property
    def available_percent(self) -> float:
        """Part of the seconds that are available."""
        return 100 * (1 - len(self.missing) / self.seconds)

    def __str__(self) -> str:
        return (
            f"{self.seconds} s, {self.hiccups} hiccups, {self.topics} topics created and deleted,"
            f" {self.events:,} events acknowledged, {self.flood_bytes_per_s / 1e6:.0f} MB/s at most:"
            f" {self.available_percent:.2f} % of the seconds available;"
            f" {self.refusals} probes refused by the {FAILING} failing partitions, which accepted events"
            f" again {self.recovery_s:.1f} s after the last hiccup; {len(self.faults)} faults"
        )


def folders_of(data: Path) -> list[str]:
    """Parts of the paths of the failing partitions' segments: `/<topic id>-<partition>/`."""
    by_topic: dict[str, int] = defaultdict(int)
    for folder in (data / "partitions").iterdir():
        by_topic[folder.name.partition("-")[0]] += 1
    topic = max(by_topic, key=lambda name: by_topic[name])
    return [f"/{topic}-{number}/" for number in range(FAILING)]


def run(
    folder: Path, *, seconds: float, every_s: float, hiccup_s: float, seed: int, warm_up_s: float
) -> HiccupResult:
    """One run on an empty folder. `hiccup_s` 0: without hiccups."""
    ledger = HiccupLedger()
    sync_faults = SyncFaults(folder / "rules")
    server = Server(folder / "data", log_level="warning", log_retention_check_interval_ms=2000)
    server.environ = sync_faults.environ
    with server:
        admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
        config = {"segment.bytes": str(8 << 20), "retention.bytes": str(RETENTION_BYTES)}
        admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1, config=config)])[TOPIC].result(WAIT_S)
        with Load(server.address, ledger, seed) as load:
            limit_flood(load, ledger, warm_up_s)
            folders = folders_of(server.data)
            ledger.started_s = time.monotonic()
            for partition in range(PARTITIONS):
                ledger.acknowledged_in[partition].clear()
                ledger.read_in[partition].clear()
            hiccups = 0
            while ledger.second() + every_s <= seconds:
                time.sleep(every_s - hiccup_s)
                if hiccup_s:
                    sync_faults.hiccup(hiccup_s, *folders)
                    hiccups += 1
            healed_s = time.monotonic()
            recovery_s = wait_for_recovery(ledger, healed_s)
            whole_seconds = ledger.second()
            load.end_writing()
            wait_until_read(ledger)
        missing = ledger.missing(whole_seconds)
        server.restart(kill=True)
        ledger.lost += lost_after_restart(server.address, ledger)
    faults = list(ledger.lost)
    # The client's own errors, such as a time-out, begin with `_`: they cost available seconds.
    refused = {
        (partition, error): count
        for (partition, error), count in ledger.refusals.items()
        if partition >= FAILING and not error.startswith("_")
    }
    faults += [f"partition {key[0]} refused {count} events: {key[1]}" for key, count in refused.items()]
    faults += [line for line in server.logs().splitlines() if "the whole log is read-only" in line]
    faults += [line for line in server.logs().splitlines() if "Traceback" in line]
    failing_refusals = sum(count for (target, _), count in ledger.refusals.items() if target < FAILING)
    return HiccupResult(
        whole_seconds, missing, load.bytes_per_s, ledger.count, hiccups, load.churned, recovery_s,
        failing_refusals, faults,
    )  # fmt: skip


def limit_flood(load: Load, ledger: HiccupLedger, warm_up_s: float) -> None:
    """Limit the flood to a part of what is acknowledged without a limit in `warm_up_s`."""
    time.sleep(3)  # the folders, and the journal's files
    before = ledger.count
    time.sleep(warm_up_s)
    load.bytes_per_s = LOAD * (ledger.count - before) * VALUE_BYTES / warm_up_s
    time.sleep(2)  # what the unlimited flood has queued


def wait_for_recovery(ledger: HiccupLedger, healed_s: float) -> float:
    """Wait until every failing partition accepts events for two seconds. Returns the seconds from `healed_s`
    until each has acknowledged one after the last refusal, to 0.1 s."""
    deadline = healed_s + WAIT_S
    accepted_s = healed_s
    while True:
        time.sleep(0.1)
        now_s = time.monotonic()
        if now_s > deadline:
            ledger.lost.append("a partition refuses events long after the last hiccup")
            return WAIT_S
        quiet_since_s = max(healed_s, *ledger.last_refusal_s[:FAILING])
        acknowledged_s = min(ledger.last_acknowledgement_s[:FAILING])
        if accepted_s <= quiet_since_s < acknowledged_s:
            accepted_s = acknowledged_s
        if now_s > quiet_since_s + 2 and accepted_s > quiet_since_s:
            return accepted_s - healed_s


def wait_until_read(ledger: HiccupLedger) -> None:
    """Wait until everything that was acknowledged was read."""
    deadline = time.monotonic() + WAIT_S
    while any(ledger.acknowledged) and time.monotonic() < deadline:
        time.sleep(0.1)
    for partition, events in enumerate(ledger.acknowledged):
        ledger.lost += [f"partition {partition}, offset {offset}: never read" for offset in list(events)[:5]]


def lost_after_restart(address: str, ledger: HiccupLedger) -> Iterator[str]:
    """Acknowledged events that are not there any more, above the log start."""
    settings = {"bootstrap.servers": address, **QUIET, "group.id": "judge", "enable.partition.eof": True}
    consumer = Consumer({**settings, "enable.auto.commit": False})
    expected: dict[int, dict[int, bytes]] = {}
    for partition, newest in enumerate(ledger.newest):
        low, _ = consumer.get_watermark_offsets(TopicPartition(TOPIC, partition), WAIT_S)
        expected[partition] = {offset: head for offset, head in newest if offset >= low}
    reading = {partition for partition, events in expected.items() if events}
    consumer.assign([TopicPartition(TOPIC, partition, min(expected[partition])) for partition in reading])
    deadline = time.monotonic() + WAIT_S
    while reading:
        assert time.monotonic() < deadline, "reading everything does not come to its end"
        for message in consumer.consume(500, timeout=0.05):
            value, partition, offset = message.value(), message.partition(), message.offset()
            assert partition is not None
            if message.error() is not None:
                reading.discard(partition)
            elif value is not None and offset is not None:
                head = expected[partition].pop(offset, None)
                if head is not None and head != head_of(value):
                    yield f"partition {partition}, offset {offset}: another event after the restart"
    consumer.close()
    for partition, events in expected.items():
        for offset in events:
            yield f"partition {partition}, offset {offset}: not there after the restart"


def main() -> None:
    """One run, and its judgement."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.hiccups", description="A disk with hiccups."
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", type=float, default=10, help="seconds from hiccup to hiccup")
    parser.add_argument("--hiccup", type=float, default=0.5, help="seconds; 0: none")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="hiccups-") as folder:
        result = run(
            Path(folder), seconds=options.minutes * 60, every_s=options.every, hiccup_s=options.hiccup,
            seed=options.seed, warm_up_s=30,
        )  # fmt: skip
    print(result)
    for second, what in result.missing.items():
        print(f"second {second}: {what}")
    for fault in result.faults[:20]:
        print(f"FAULT {fault}")
    sys.exit(0 if not result.faults and result.available_percent >= 99 and result.recovery_s <= 10 else 1)


if __name__ == "__main__":
    main()

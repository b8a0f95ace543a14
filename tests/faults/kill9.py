"""The kill -9 loop: a real server, real clients at work, sudden death at random moments, and a judgement each
time.

Owns: the writers, the reader and the loop; the rules are the ack checker's. `run` raises AssertionError with
the seed and every broken promise. Used by test_kill9.py and soak.py.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.faults.ack_checker import Ledger, LedgerEvent, Partition
from tests.support.server import Server

TOPIC = "flights"
PARTITIONS = 3
GROUP = "board"
SEGMENT_BYTES = 1 << 20  # the least that Kafka takes: segments roll while we look
SETTLE_S = 60.0
ACCEPTS_AGAIN_S = 20.0

CLIENT = {"log_level": 0, "reconnect.backoff.max.ms": 250}  # connection errors are what we are here for
IDEMPOTENT = {"enable.idempotence": True, "acks": "all", "message.timeout.ms": 120_000}
PLAIN = {"enable.idempotence": False, "acks": "all", "retries": 0, "message.timeout.ms": 120_000}
BULK = {"linger.ms": 50, "batch.size": 900_000}  # batches beyond 256 KB: these go straight to their segment


def payload(source: str, number: int, size: int) -> bytes:
    """A value that says who sent it, as its how-manieth, and cannot be compressed away."""
    head = f"{source} {number} ".encode()
    return head + random.Random(number).randbytes(size)


def event_of(value: bytes) -> LedgerEvent:
    """The event whose payload this is."""
    source, number, _ = value.split(b" ", 2)
    return LedgerEvent.of(source.decode(), int(number), value)


class LoadWriter(threading.Thread):
    """One producer. It sends while `gate` is open, also over deaths of the server, and reports to the
    ledger."""

    def __init__(
        self,
        name: str,
        address: str,
        ledger: Ledger,
        config: dict[str, object],
        size: int,
        pause_s: float,
        seed: int,
    ) -> None:
        super().__init__(name=name, daemon=True)
        settings = {"bootstrap.servers": address, **CLIENT, **config}
        self._producer = Producer(settings)
        self._ledger = ledger
        self._size = size
        self._pause_s = pause_s
        self._rng = random.Random(seed)
        self._numbers = [0] * PARTITIONS
        self._lock = threading.Lock()
        self.gate = threading.Event()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            if not self.gate.wait(0.1):
                continue
            with self._lock:
                self._send(self._rng.randrange(PARTITIONS))
            self._producer.poll(0)
            time.sleep(
                self._rng.expovariate(1 / self._pause_s)
            )  # as services do: now and then, and in bursts

    def _send(self, partition: int) -> None:
        for _ in range(self._rng.choice((1, 1, 1, 4, 30))):
            number = self._numbers[partition]
            value = payload(self.name, number, self._rng.randint(1, self._size))
            event = event_of(value)

            def answered(error: KafkaError | None, message: Message, event: LedgerEvent = event) -> None:
                if error is None:
                    offset = message.offset()
                    assert offset is not None
                    self._ledger.acknowledged((TOPIC, partition), offset, event)

            self._ledger.sent((TOPIC, partition), event)
            with contextlib.suppress(BufferError):  # its queue is full: this number is never sent
                self._producer.produce(TOPIC, value, partition=partition, on_delivery=answered)
            self._numbers[partition] = number + 1

    def settle(self) -> None:
        """Close the gate and wait until every event that was sent has its answer, good or bad."""
        self.gate.clear()
        with self._lock:
            left = self._producer.flush(SETTLE_S)
        assert left == 0, f"{self.name}: {left} events without an answer after {SETTLE_S} s"


class LoadReader(threading.Thread):
    """One consumer of a group: remembers what it was shown, and commits its place now and then."""

    def __init__(self, address: str, ledger: Ledger, seed: int) -> None:
        super().__init__(name="reader", daemon=True)
        self._consumer = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": GROUP,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 6000,
                **CLIENT,
            },
        )
        self._ledger = ledger
        self._rng = random.Random(seed)
        self._places: dict[int, int] = {}
        self.ended = threading.Event()
        self.paused = threading.Event()
        self.resting = threading.Event()
        self.commits = 0

    def run(self) -> None:
        self._consumer.subscribe([TOPIC])
        while not self.ended.is_set():
            if self.paused.is_set():
                self.resting.set()
                time.sleep(0.02)
                continue
            self.resting.clear()
            for message in self._consumer.consume(200, timeout=0.1):
                self._take(message)
            if self._places and self._rng.random() < 0.5:
                self._commit()
        self._consumer.close()

    def _take(self, message: Message) -> None:
        value, partition, offset = message.value(), message.partition(), message.offset()
        if message.error() is not None or value is None or partition is None or offset is None:
            return
        self._ledger.shown((TOPIC, partition), offset, event_of(value))
        # After a rebalance the group starts again at its committed place: a place only ever grows.
        self._places[partition] = max(self._places.get(partition, 0), offset + 1)

    def _commit(self) -> None:
        places = dict(self._places)
        self._places.clear()
        for partition, offset in places.items():
            self._ledger.committing(GROUP, (TOPIC, partition), offset)
        with contextlib.suppress(KafkaException):
            answers = self._consumer.commit(
                offsets=[TopicPartition(TOPIC, partition, offset) for partition, offset in places.items()],
                asynchronous=False,
            )
            for answer in answers or ():
                if answer.error is None:
                    self._ledger.committed(GROUP, (TOPIC, answer.partition), answer.offset)
                    self.commits += 1


def read_all_events(address: str) -> dict[Partition, list[tuple[int, LedgerEvent]]]:
    """Every event that is there, by one read from the start to the end."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            **CLIENT,
            "group.id": "judge",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        },
    )
    events: dict[Partition, list[tuple[int, LedgerEvent]]] = {
        (TOPIC, number): [] for number in range(PARTITIONS)
    }
    consumer.assign([TopicPartition(topic, number, 0) for topic, number in events])
    ends = 0
    deadline = time.monotonic() + SETTLE_S
    while ends < PARTITIONS:
        assert time.monotonic() < deadline, "reading everything does not come to its end"
        for message in consumer.consume(5000, timeout=0.05):
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                ends += 1
                continue
            value, partition, offset = message.value(), message.partition(), message.offset()
            assert value is not None
            assert partition is not None
            assert offset is not None
            events[TOPIC, partition].append((offset, event_of(value)))
    consumer.close()
    return events


def committed_positions(address: str) -> dict[tuple[str, Partition], int]:
    """The group's committed offsets."""
    consumer = Consumer({"bootstrap.servers": address, **CLIENT, "group.id": GROUP})
    asked = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
    committed = consumer.committed(asked, timeout=SETTLE_S)
    consumer.close()
    return {(GROUP, (place.topic, place.partition)): place.offset for place in committed if place.offset >= 0}


@contextlib.contextmanager
def under_load(
    address: str, ledger: Ledger, rng: random.Random
) -> Iterator[tuple[list[LoadWriter], LoadReader]]:
    """All writers and the reader, running; the gates are closed."""
    kinds = {
        "idempotent": (IDEMPOTENT, 300, 0.006),
        "plain": (PLAIN, 300, 0.006),
        "bulk": ({**IDEMPOTENT, **BULK}, 60_000, 0.05),
        "plain-bulk": ({**PLAIN, **BULK}, 60_000, 0.05),
    }
    writers = [
        LoadWriter(name, address, ledger, config, size, pause_s, rng.randrange(1 << 32))
        for name, (config, size, pause_s) in kinds.items()
    ]
    reader = LoadReader(address, ledger, rng.randrange(1 << 32))
    workers: list[LoadWriter | LoadReader] = [*writers, reader]
    for worker in workers:
        worker.start()
    try:
        yield writers, reader
    finally:
        for worker in workers:
            worker.ended.set()
        for worker in workers:
            worker.join(20)


def accepts_again(server: Server) -> None:
    """AssertionError unless a topic can be created and written to within a while. That the other topic's
    partitions accept events again, the writers show: they try again until each event has its answer."""
    client = {"bootstrap.servers": server.address, **CLIENT}
    admin, producer = AdminClient(client), Producer({**client, "retries": 0, "message.timeout.ms": 5000})
    deadline = time.monotonic() + ACCEPTS_AGAIN_S
    results: list[str] = []
    while "" not in results:
        assert time.monotonic() < deadline, f"no event is accepted {ACCEPTS_AGAIN_S} s later: {results}"
        name = f"again-{server.deaths}-{time.monotonic_ns()}"
        try:
            admin.create_topics([NewTopic(name, 1, 1)])[name].result(5)
        except KafkaException as error:
            results.append(str(error))
            continue
        producer.produce(name, b"again", on_delivery=lambda error, _: results.append(str(error or "")))
        producer.flush(10)


def kill_and_restart(server: Server, rng: random.Random) -> None:
    """kill -9, sometimes once more in the middle of the recovery, then a start that is allowed to finish. Now
    and then a clean stop under load instead, which has to be clean."""
    if rng.random() < 0.15:
        assert server.stop() == 0, server.logs()
        server.start(same_port=True)
        return
    server.kill()
    if rng.random() < 0.3:
        with contextlib.suppress(AssertionError):  # not ready in time: it was killed while it recovered
            server.start(timeout_s=rng.uniform(0.05, 0.5), same_port=True)
            server.kill()
    server.start(same_port=True)


def kill_sync_process(server: Server, rng: random.Random) -> None:
    """kill -9 for the sync process: the requests in flight fail, and the server continues."""
    assert server.process is not None
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert children, "there is no sync process"
    os.kill(int(rng.choice(children)), signal.SIGKILL)


@contextlib.contextmanager
def _with_logs(server: Server) -> Iterator[None]:
    """Add the server's last log lines to a failure."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{error}\nThe server's last lines:\n{server.logs()[-2000:]}") from error


def run(
    folder: Path,
    *,
    durability: str,
    kills: int,
    seed: int,
    blow: Callable[[Server, random.Random], None] = kill_and_restart,
    environ: dict[str, str] | None = None,
    settings: Mapping[str, object] | None = None,
) -> Ledger:
    """Strike the server `kills` times; AssertionError with seed, round and every broken promise. `environ`:
    variables of the server's environment. `settings`: its settings beside those of the loop."""
    rng = random.Random(seed)
    ledger = Ledger()
    server = Server(folder / "data", **{"durability": durability, "log_level": "warning", **(settings or {})})
    server.environ = environ or {}
    with server:
        admin = AdminClient({"bootstrap.servers": server.address, **CLIENT})
        topic = NewTopic(TOPIC, PARTITIONS, 1, config={"segment.bytes": str(SEGMENT_BYTES)})
        admin.create_topics([topic])[TOPIC].result(SETTLE_S)
        with under_load(server.address, ledger, rng) as (writers, reader), _with_logs(server):
            for death in range(kills):
                for writer in writers:
                    writer.gate.set()
                time.sleep(rng.uniform(0.2, 1.5))
                blow(server, rng)
                for writer in writers:
                    writer.settle()
                reader.paused.set()
                assert reader.resting.wait(SETTLE_S), "the reader hangs"
                broken = ledger.judge(read_all_events(server.address), committed_positions(server.address))
                assert not broken, "\n".join([f"seed {seed}, death {death + 1}:", *map(str, broken[:20])])
                reader.paused.clear()
        assert reader.commits, "the group never committed: nothing was tested"
    assert ledger.promises > 100 * kills, "too few events: nothing was tested"
    return ledger

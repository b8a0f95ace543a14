"""Each recipe runs as it is against a server: it charges every order, also after a stop by SIGTERM.

They run in an environment of their own (dependency group `examples`), for their dependencies exclude some of
ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.ports import free_port
from tests.support.server import Server

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".cache" / "compat" / "examples" / "bin" / "python"
RECIPES = ROOT / "examples" / "recipes"
PATIENCE_S = 60.0
QUIET = {"log_level": 0}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PYTHON.exists(), reason="run `make deps-all`"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("recipes") / "data"
    with Server(folder, durability="os", http="127.0.0.1:0") as running:
        yield running


@pytest.fixture(autouse=True)
def topics(server: Server) -> Iterator[None]:
    admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
    made = admin.create_topics([NewTopic(name, 4) for name in ("orders", "payments")])
    for future in made.values():
        future.result()
    yield
    names = [name for name in admin.list_topics(timeout=10).topics if not name.startswith("__")]
    for future in admin.delete_topics(names).values():
        future.result()
    groups = [group.group_id for group in admin.list_consumer_groups().result().valid]
    for future in admin.delete_consumer_groups(groups).values() if groups else ():
        with contextlib.suppress(Exception):  # a member is leaving still
            future.result()


@contextlib.contextmanager
def running(folder: Path, recipe: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The recipe as a process; stopped by SIGTERM, to which it has to end by itself."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "ignore"}
    log_path = folder / f"{recipe}.log"
    with open(log_path, "ab") as log:
        process = subprocess.Popen(
            [str(PYTHON), str(RECIPES / f"{recipe}.py"), *arguments],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
        assert process.poll() is None, log_path.read_text()[-3000:]
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    except BaseException:
        print(log_path.read_text()[-3000:])
        raise
    finally:
        process.kill()
        process.wait()


def publish_orders(server: Server, numbers: range, *, total: float = 9.5) -> None:
    producer = Producer({"bootstrap.servers": server.address, **QUIET})
    for number in numbers:
        order = {"id": number, "customer": f"customer-{number % 3}", "total": total}
        producer.produce("orders", json.dumps(order), key=order["customer"])
    assert producer.flush(10) == 0


def read(
    server: Server, topic: str, count: int, *, key: str
) -> list[tuple[dict[str, object], dict[str, bytes]]]:
    """The events of a topic, (value, headers), as soon as their `key` has `count` different values."""
    consumer = Consumer(
        {
            "bootstrap.servers": server.address,
            "group.id": "test",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "topic.metadata.refresh.interval.ms": 500,
            **QUIET,
        }
    )
    consumer.subscribe([topic])
    events: list[tuple[dict[str, object], dict[str, bytes]]] = []
    deadline = time.monotonic() + PATIENCE_S
    try:
        while len({value[key] for value, _ in events}) < count:
            assert time.monotonic() < deadline, f"{topic} has {len(events)} of {count} events: {events}"
            arrived = [event for event in consumer.consume(100, timeout=0.2) if event.error() is None]
            events += [(json.loads(event.value() or b""), dict(event.headers() or [])) for event in arrived]
    finally:
        consumer.close()
    return events


def orders_paid(server: Server, count: int) -> list[int]:
    """The orders that are paid, as soon as `count` different ones are: a stop may repeat some."""
    payments = read(server, "payments", count, key="order")
    return sorted({int(str(payment["order"])) for payment, _ in payments})


@pytest.mark.parametrize(
    "recipe",
    ["aiokafka_service", "confluent_service", "faststream_service", "quix_service", "faust_service"],
)
def test_a_service_charges_every_order_and_goes_on_after_a_stop(
    recipe: str, server: Server, tmp_path: Path
) -> None:
    publish_orders(server, range(5))
    with running(tmp_path, recipe, server.address):
        assert orders_paid(server, 5) == list(range(5))
    publish_orders(server, range(5, 10))
    with running(tmp_path, recipe, server.address):
        assert orders_paid(server, 10) == list(range(10))


def test_what_fails_in_faststream_is_a_dead_letter_that_the_group_gets_again(
    server: Server, tmp_path: Path
) -> None:
    publish_orders(server, range(1), total=-1.0)
    publish_orders(server, range(1, 3))
    with running(tmp_path, "faststream_service", server.address):
        assert orders_paid(server, 2) == [1, 2]
        ((order, headers),) = read(server, "orders.billing.dead", 1, key="id")
    assert order["id"] == 0
    assert headers["mainstem-dead-letter-subscription"] == b"orders.billing"
    assert headers["mainstem-dead-letter-from"].startswith(b"orders/")
    assert headers["mainstem-dead-letter-attempts"] == b"3"
    assert headers["mainstem-dead-letter-detail"] == b"ValueError: order 0 has a total of -1.0"
    order["total"] = 1.0
    producer = Producer({"bootstrap.servers": server.address, **QUIET})
    producer.produce("orders.billing.retry", json.dumps(order), key="customer-0")
    assert producer.flush(10) == 0
    with running(tmp_path, "faststream_service", server.address):
        assert orders_paid(server, 3) == [0, 1, 2]


def test_taskiq_runs_its_tasks(server: Server, tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONWARNINGS": "ignore"}
    # Worker and sender make the topic if they see none: of two that start together, either may fail.
    admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
    admin.create_topics([NewTopic("billing-tasks", 1)])["billing-tasks"].result(30)
    with running(tmp_path, "taskiq_service", "worker", server.address):
        for number in range(3):
            command = [str(PYTHON), str(RECIPES / "taskiq_service.py"), "send", str(number), server.address]
            sent = subprocess.run(command, env=environ, timeout=60, capture_output=True, text=True)
            assert sent.returncode == 0, sent.stderr
        assert orders_paid(server, 3) == [0, 1, 2]


def test_a_fastapi_application_runs_its_subscribers(server: Server, tmp_path: Path) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    order = {"id": 7, "customer": "ann", "total": 9.5}
    with running(tmp_path, "fastapi_service", server.address, str(port)):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(httpx.ConnectError):
                assert httpx.post(f"{base}/orders", json=order, timeout=30).json() == {"offset": 0}
                break
            assert time.monotonic() < deadline, "the application does not start"
            time.sleep(0.1)
        assert httpx.post(f"{base}/orders", json={"id": "x"}).status_code == 422
        assert orders_paid(server, 1) == [7]
        assert httpx.get(f"{base}/payments").json() == [{"order": 7, "state": "paid"}]

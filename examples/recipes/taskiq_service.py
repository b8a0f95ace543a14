"""Taskiq against a mainstem server: tasks in the topic `billing-tasks` publish to `payments`.

pip install taskiq taskiq-aio-kafka; mainstem topics create billing-tasks
python examples/recipes/taskiq_service.py worker [HOST:PORT]
python examples/recipes/taskiq_service.py send ORDER [HOST:PORT]

Each of them makes the topic if it sees none: without the second command, either may fail if both start at
once.

Kafka's brokers for Taskiq commit by time, so a task may be lost when its worker is killed: tasks that must
not be lost belong to a subscriber, not to a task queue over Kafka's groups.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys

from aiokafka import AIOKafkaProducer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.partitioner import DefaultPartitioner
from taskiq.api import run_receiver_task
from taskiq_aio_kafka import AioKafkaBroker

server = sys.argv[3 if sys.argv[1] == "send" else 2]
broker = AioKafkaBroker(bootstrap_servers=server, kafka_topic="billing-tasks")
# By default, taskiq-aio-kafka 1.0.0 gives aiokafka an assignor and a partitioner of kafka-python, whose
# classes of version 3 aiokafka cannot use.
broker.configure_consumer(
    group_id="billing",
    auto_offset_reset="earliest",
    partition_assignment_strategy=(RoundRobinPartitionAssignor,),
)
broker.configure_producer(acks="all", partitioner=DefaultPartitioner())


@broker.task
async def charge(order: int) -> None:
    """Charge an order."""
    async with AIOKafkaProducer(bootstrap_servers=server, acks="all") as producer:
        await producer.send_and_wait("payments", json.dumps({"order": order, "state": "paid"}).encode())


async def work() -> None:
    """Run tasks until SIGTERM or Ctrl-C."""
    receiver = asyncio.ensure_future(run_receiver_task(broker, run_startup=True))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, receiver.cancel)
    await asyncio.wait({receiver})
    await broker.shutdown()


async def send(order: int) -> None:
    """Add a task."""
    await broker.startup()
    await charge.kiq(order)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(work() if sys.argv[1] == "worker" else send(int(sys.argv[2])))

"""A test door for routed queues on a node: publishes events to queues by name, and reads what each queue has.

It has direct and fanout bindings, as an AMQP door will have, kept as the data of bindings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mainstem.contract import NewEvent
from mainstem.coordinator.queues.routed_sequence import RoutedSequence
from mainstem.coordinator.queues.topology import Namespace
from mainstem.engines.embedded.publish import PublishResult
from mainstem.engines.embedded.queues.routed_publish import RoutedPublish, RoutedPublisher
from mainstem.log.storage.record_batch import Record, decode, iter_batches
from mainstem.node import Node
from mainstem.promise import Promise
from mainstem.queues.routes import queue_set
from tests.test_node import NodeRig

SPACE = "shop"


def namespace_of(node: Node, name: str = SPACE) -> Namespace:
    namespace = node.subscriptions.topology.by_name(name)
    assert namespace is not None, "the namespace exists"
    return namespace


def sequence_of(node: Node, name: str = SPACE) -> RoutedSequence:
    return node.routed.of(namespace_of(node, name))


def create_queue(node: Node, name: str, space: str = SPACE, **settings: Any) -> Promise[Any]:
    return node.subscriptions.routing.create_queue(
        space, name, settings, lambda namespace: node.routed.of(namespace).order.next
    )


def bind(node: Node, queue: str, exchange: str, key: str = "") -> Promise[Any]:
    """Bind a queue: with a key to a direct exchange, without one to a fanout exchange."""
    return node.subscriptions.routing.bind(SPACE, queue, f"{exchange}\n{key}".encode())


def matching(node: Node, exchange: str, key: str, space: str = SPACE) -> tuple[int, ...]:
    """The queues whose bindings match."""
    return queue_set(
        binding.queue
        for binding in namespace_of(node, space).bindings.values()
        if binding.data.decode() in (f"{exchange}\n{key}", f"{exchange}\n")
    )


def routed(
    node: Node, value: bytes, queues: Iterable[str], topic: str = "orders", partition: int = 0, **event: Any
) -> RoutedPublish:
    """An event for these queues."""
    metadata = node.topics.get(topic)
    assert metadata is not None, "the topic exists"
    numbers = queue_set(node.subscriptions.get(f"{SPACE}/{name}").id for name in queues)
    return RoutedPublish(NewEvent(value, **event), metadata, partition, numbers)


def records_at(node: Node, sequence: RoutedSequence, sequences: Sequence[int]) -> list[Record]:
    """The records that the index says are these events."""
    records = []
    for number in sequences:
        arrival = sequence.index.arrival(number)
        assert arrival is not None, "a queue has only events that are there"
        topic_id, index = sequence.namespace.partitions[arrival.partition]
        topic = node.topics.by_id(topic_id)
        assert topic is not None, "the topic exists"
        data = memoryview(node.partition(topic, index).read_blocking(arrival.offset, 1).data)
        position, header = next(iter(iter_batches(data)))
        batch = decode(data[position : position + header.total_bytes])
        records.append(next(record for record in batch if record.offset == arrival.offset))
    return records


def sequences_of(sequence: RoutedSequence, queue: int) -> list[int]:
    runs, _ = sequence.index.runs(queue, 0, 1 << 60)
    return [number for first, end in runs for number in range(first, end)]


def values(node: Node, queue: str, space: str = SPACE) -> list[bytes | None]:
    """The events of a queue, in its order."""
    sequence = sequence_of(node, space)
    numbers = sequences_of(sequence, node.subscriptions.get(f"{space}/{queue}").id)
    return [record.value for record in records_at(node, sequence, numbers)]


class RoutedRig(NodeRig):
    """A node with a namespace, a topic of two partitions, and queues."""

    def __init__(self, *queues: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.create("orders", 2)
        self.done(self.node.subscriptions.routing.create_namespace(SPACE))
        for name in queues:
            self.done(create_queue(self.node, name))

    def start(self, **settings: Any) -> Node:
        node = super().start(**settings)
        self.publisher = RoutedPublisher(node)
        return node

    def publish_all(self, events: Sequence[RoutedPublish], space: str = SPACE) -> list[PublishResult]:
        results: list[PublishResult] = self.done(
            self.publisher.publish(namespace_of(self.node, space), events)
        )
        return results

    def publish(self, value: bytes, *queues: str, partition: int = 0, **event: Any) -> PublishResult:
        return self.publish_all([routed(self.node, value, queues, partition=partition, **event)])[0]

    def write_index(self) -> None:
        """Write the index to its files, as the node does every 10 s."""
        self.node.routed._store(sequence_of(self.node))

    def kill(self) -> Node:
        """Start again without a stop."""
        self.node.routed._closed = True
        return self.start()

    def each_start(self) -> list[Callable[[], Node]]:
        """The ways to start again: after a stop, after a kill, and without the index."""

        def without_index() -> Node:
            self.disk.remove_folder("routed")
            return self.kill()

        return [self.restart, self.kill, without_index]

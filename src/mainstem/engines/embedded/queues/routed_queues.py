"""The routed queues of the embedded engine: implements `RoutedQueues` on the node of the same process.

Owns: the translation of names and errors. Refuses: deliveries, which are those of any subscription.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from mainstem.attach_contract import QueueIsFull
from mainstem.contract import Position, StreamError, UnknownTopic
from mainstem.coordinator import errors as coordinator
from mainstem.coordinator.queues.queue_names import check_wide_name, queue_prefix
from mainstem.coordinator.queues.topology import Namespace
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.engines.embedded.errors import translate
from mainstem.engines.embedded.publish import PublishResult, partition_of
from mainstem.engines.embedded.queues.length_limits import LengthLimits
from mainstem.engines.embedded.queues.management import QueueManagement
from mainstem.engines.embedded.queues.routed_publish import RoutedPublish, RoutedPublisher
from mainstem.engines.embedded.queues.service import QueueService
from mainstem.engines.embedded.queues.settings_checks import check_routed_settings, check_tokens
from mainstem.queue_contract import NoSuchSubscription, SubscriptionNameTaken
from mainstem.queues.routes import QueueSet, queue_set
from mainstem.queues.settings import SubscriptionSettings
from mainstem.routing_contract import NamespaceNameTaken, NoSuchNamespace, QueueBinding, RoutedEvent


@contextmanager
def _about(subject: str) -> Iterator[None]:
    """Convert errors of the log and the coordinator to errors of the contract."""
    try:
        yield
    except StreamError:
        raise
    except coordinator.UnknownNamespace as error:
        raise NoSuchNamespace(f"{subject}: {error}") from None
    except coordinator.NamespaceExists as error:
        raise NamespaceNameTaken(f"{subject}: {error}") from None
    except coordinator.UnknownSubscription as error:
        raise NoSuchSubscription(f"{subject}: {error}") from None
    except coordinator.SubscriptionExists as error:
        raise SubscriptionNameTaken(f"{subject}: {error}") from None
    except Exception as error:
        raise translate(error, subject) from None


class EmbeddedRoutedQueues:
    """Implements `RoutedQueues`."""

    def __init__(self, service: QueueService, management: QueueManagement, limits: LengthLimits) -> None:
        self._service = service
        self._node = service.node
        self._machine = service.machine
        self._management = management
        self._limits = limits
        self._publisher = RoutedPublisher(service.node)
        self._keyless = count()

    def _namespace(self, name: str) -> Namespace:
        namespace = self._machine.topology.by_name(name)
        if namespace is None:
            raise NoSuchNamespace(f"namespace {name}: there is no such namespace")
        return namespace

    async def namespaces(self) -> list[str]:
        """See the contract."""
        with _about("list"):
            known = await self._node.queue_runtime.read(self._machine.topology.all())
        return [namespace.name for namespace in known]

    async def create_namespace(self, name: str) -> None:
        """See the contract."""
        with _about(f"namespace {name}"):
            await self._machine.routing.create_namespace(name)

    async def delete_namespace(self, name: str) -> None:
        """See the contract."""
        with _about(f"namespace {name}"):
            namespace = self._namespace(name)
            for queue in await self._machine.routing.delete_namespace(name):
                self._machine.notify_deleted(queue)
            self._node.routed.forget(namespace)
            self._service.routed.forget(namespace.id)

    async def queues_of(self, namespace: str) -> list[str]:
        """See the contract."""
        with _about(f"namespace {namespace}"):
            known = [self._machine.by_id(queue) for queue in self._namespace(namespace).queues]
            prefix = queue_prefix(namespace)
            names = sorted(stored.name.removeprefix(prefix) for stored in known if stored is not None)
            return await self._node.queue_runtime.read(names)

    async def create_queue(self, namespace: str, name: str, settings: SubscriptionSettings) -> None:
        """See the contract."""
        with _about(f"queue {name}"):
            if settings.topics:
                self._namespace(namespace)
                await self._management.create(
                    self.subscription_of(namespace, name), settings, lambda _: check_wide_name(name, "queue")
                )
                return
            check_routed_settings(settings)
            check_tokens(settings, self._node.settings.push_issuer)
            topic = settings.dead_letter_topic
            if topic is not None and self._node.topics.get(topic) is None:
                raise UnknownTopic(f"topic {topic}: there is no such topic")
            if settings.pin_ms:
                await self._service.carried.create_topic()
            await self._machine.routing.create_queue(
                namespace,
                name,
                settings.by_name(),
                lambda space: self._node.routed.of(space).order.next,
            )
            queue = self._service.queue(self.subscription_of(namespace, name))
            await queue.scan_all_feeds()
            self._service.expiry.look_soon(queue)
            self._service.pushed.look_at(queue.stored.name)

    def subscription_of(self, namespace: str, queue: str) -> str:
        """See the contract."""
        return queue_prefix(namespace) + queue

    async def bind_queue(self, namespace: str, queue: str, data: bytes) -> int:
        """See the contract."""
        with _about(f"queue {queue}"):
            return (await self._machine.routing.bind(namespace, queue, data)).id

    async def unbind_queue(self, namespace: str, binding: int) -> bool:
        """See the contract."""
        with _about(f"namespace {namespace}"):
            return await self._machine.routing.unbind(namespace, binding)

    async def bindings(self, namespace: str) -> list[QueueBinding]:
        """See the contract."""
        with _about(f"namespace {namespace}"):
            prefix = queue_prefix(namespace)
            bindings = [
                QueueBinding(binding.id, stored.name.removeprefix(prefix), binding.data)
                for binding in self._namespace(namespace).bindings.values()
                if (stored := self._machine.by_id(binding.queue)) is not None
            ]
            return await self._node.queue_runtime.read(bindings)

    async def set_note(self, namespace: str, name: str, data: bytes | None) -> None:
        """See the contract."""
        with _about(f"namespace {namespace}"):
            await self._machine.routing.set_note(namespace, name, data)

    async def notes(self, namespace: str) -> dict[str, bytes]:
        """See the contract."""
        with _about(f"namespace {namespace}"):
            return await self._node.queue_runtime.read(dict(self._namespace(namespace).notes))

    # --- publishing ---------------------------------------------------------------------------------------

    async def publish(self, namespace: str, events: Sequence[RoutedEvent]) -> list[Position | StreamError]:
        """See the contract."""
        with _about(f"namespace {namespace}"):
            space = self._namespace(namespace)
            results: list[PublishResult | None] = [None] * len(events)
            full: dict[int, QueueIsFull] = {}
            numbers: list[int] = []
            chosen: list[RoutedPublish] = []
            keyless = next(self._keyless)
            queues_by_names: dict[Sequence[str], tuple[QueueSet, bool]] = {}
            for number, routed in enumerate(events):
                topic = self._node.topics.get(routed.topic)
                index = -1 if topic is None else _partition(routed, topic, keyless)
                if topic is None or not 0 <= index < topic.partitions:
                    what = "topic" if topic is None else f"partition {index}"
                    results[number] = UnknownTopic(f"topic {routed.topic}: there is no such {what}")
                    continue
                names = tuple(routed.queues)
                if names not in queues_by_names:
                    all_queues = self._queues(space, names)
                    queues_by_names[names] = all_queues, self._limits.may_refuse(all_queues)
                queues, may_refuse = queues_by_names[names]
                size = len(routed.event.value or b"") if may_refuse else 0
                if may_refuse and (refused := await self._limits.refusing(queues, size)):
                    full[number] = QueueIsFull(f"{len(refused)} of {len(queues)} queues are full")
                    self._limits.note_refused(refused, routed, topic.name, index)
                    queues = tuple(queue for queue in queues if queue not in refused)
                    if not queues:
                        results[number] = full[number]
                        continue
                numbers.append(number)
                chosen.append(RoutedPublish(routed.event, topic, index, queues, routed.door_headers))
            publishing = self._publisher.publish(space, chosen)
            publishing.then(lambda _: self._limits.settle(chosen))
            for number, result in zip(numbers, await publishing, strict=True):
                results[number] = full.get(number, result) if isinstance(result, Position) else result
            return [result for result in results if result is not None]

    def _queues(self, namespace: Namespace, names: Sequence[str]) -> QueueSet:
        """Those of the named queues that are of the namespace, by their numbers."""
        prefix = queue_prefix(namespace.name)
        known = (self._machine.find(prefix + name) for name in names)
        return queue_set(stored.id for stored in known if stored and stored.id in namespace.queues)


def _partition(routed: RoutedEvent, topic: TopicMetadata, keyless: int) -> int:
    event = routed.event
    if event.partition is not None:
        return event.partition
    return keyless % topic.partitions if event.key is None else partition_of(event.key, topic.partitions)

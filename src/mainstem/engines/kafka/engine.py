"""The Kafka engine: implements the contract for any Kafka cluster, on confluent-kafka (librdkafka).

Owns: one producer, one admin client and the threads that wait for librdkafka. Refuses: blocking the event
loop, and creating a topic by looking it up. It treats a mainstem server like any other cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import attrgetter
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from mainstem.client_security import PLAINTEXT, ClientSecurity, ClientSecurityError
from mainstem.clock import BlockingClock
from mainstem.contract import (
    NO_SETTINGS,
    Bounds,
    Broker,
    ClusterInfo,
    GroupInfo,
    GroupSummary,
    Health,
    InvalidArgument,
    MemberHooks,
    NewEvent,
    NotReachable,
    Position,
    Setting,
    StreamError,
    TopicExists,
    TopicInfo,
    TopicSummary,
    UnknownTopic,
    no_partition,
)
from mainstem.engines.kafka.admin_calls import AdminCalls
from mainstem.engines.kafka.conversions import partition_info, topic_id_of, topic_setting
from mainstem.engines.kafka.errors import translate
from mainstem.engines.kafka.groups import KafkaGroups
from mainstem.engines.kafka.headers import HeaderReader
from mainstem.engines.kafka.member import KafkaMember, Membership
from mainstem.engines.kafka.publish import (
    ENDED,
    PRODUCER_SETTINGS,
    EndedEvent,
    PendingCount,
    PendingPublish,
    time_refusal,
)
from mainstem.engines.kafka.reachability import (
    AddressLeadsNowhere,
    NotAccepted,
    advertised_address_problem,
    await_cluster,
    check_listening,
    parse_addresses,
)
from mainstem.engines.kafka.read import KafkaReader

PRODUCER_POLL_S = 0.1


class KafkaEngine:
    """Implements `Engine`. Created with `connect`, inside a running event loop."""

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float,
        publish_timeout_s: float,
        clock: BlockingClock,
        security: ClientSecurity = PLAINTEXT,
    ) -> None:
        self._address = address
        self.security = security
        """How the engine connects to each broker."""
        self._clock = clock
        self._publish_timeout_s = publish_timeout_s
        self._common: dict[str, Any] = {
            "bootstrap.servers": address,
            "client.id": "mainstem",
            # librdkafka would write its own lines to standard error. What matters is raised by the calls.
            "log_level": 0,
            "error_cb": self._on_error,
            "socket.connection.setup.timeout.ms": int(max(1.0, timeout_s) * 1000),
            "reconnect.backoff.max.ms": 1_000,
            "broker.address.family": "any",
            **security.librdkafka(),
        }
        self._threads = ThreadPoolExecutor(max_workers=64, thread_name_prefix="mainstem-kafka")
        self._admin = AdminCalls(
            address,
            self._common,
            threads=self._threads,
            clock=clock,
            timeout_s=timeout_s,
            security=security,
        )
        self._groups = KafkaGroups(self._admin)
        self._headers = HeaderReader(parse_addresses(address), clock, timeout_s, security)
        self._producer: Producer | None = None
        self._polling_thread: threading.Thread | None = None
        self._enqueue_lock = asyncio.Lock()
        self._readers: weakref.WeakSet[KafkaReader] = weakref.WeakSet()
        self._closed = False
        self._last_error = ""
        self._ended: deque[EndedEvent] = deque()
        """Events that were not sent because the producer has ended."""
        self._fatal: KafkaError | None = None
        """What ended the producer, such as a right that the account does not have. The next event gets a new
        producer."""

    @classmethod
    async def connect(
        cls,
        address: str,
        *,
        timeout_s: float = 5.0,
        publish_timeout_s: float = 60.0,
        clock: BlockingClock | None = None,
        security: ClientSecurity = PLAINTEXT,
    ) -> KafkaEngine:
        """Connect to the cluster at `address` (HOST:PORT, several with commas). NotReachable after about
        `timeout_s`, InvalidArgument if a file of `security` cannot be used. `clock` is the machine's unless a
        test passes another."""
        await check_listening(address, timeout_s)
        try:
            engine = cls(
                address,
                timeout_s=timeout_s,
                publish_timeout_s=publish_timeout_s,
                clock=clock or BlockingClock(),
                security=security,
            )
        except KafkaException as error:
            raise translate(error, address) from None
        except ClientSecurityError as error:
            raise InvalidArgument(str(error)) from None
        try:
            await await_cluster(engine.cluster(), address, security)
        except NotReachable as error:
            await engine.close()
            if isinstance(error, AddressLeadsNowhere | NotAccepted):
                raise
            why = f" ({engine._last_error})" if engine._last_error else ""
            raise NotReachable(
                f"what listens at {address} does not answer as a Kafka server in {timeout_s:g} s{why}"
            ) from None
        return engine

    async def explain(self, error: NotReachable) -> NotReachable:
        """The error to report for one that a call has raised: names the address that the cluster gives its
        clients, if it is that which cannot be reached."""
        return await advertised_address_problem(self._address, self.security) or error

    def _on_error(self, error: KafkaError) -> None:
        self._last_error = str(error.str())

    # --- events -------------------------------------------------------------------------------------------

    async def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Position]:
        """See the contract."""
        if not events:
            return []
        pending = PendingPublish(topic, len(events), asyncio.get_running_loop())
        async with self._enqueue_lock:  # keeps the order of the calls
            await self._admin.in_thread(self._enqueue, topic, events, pending)
        try:
            return await pending.done
        except UnknownTopic as error:
            chosen = max((event.partition for event in events if event.partition is not None), default=-1)
            explained = await self._explain_partition(topic, chosen, error)
            explained.results = [
                explained if isinstance(result, UnknownTopic) else result for result in error.results
            ]
            raise explained from None

    async def publish_plain(
        self, topic: str, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None
    ) -> None:
        """As `publish`, for events that have nothing but a value and a key, and without their positions: for
        many events, at less than half of the work. Raises the first error when all are reported."""
        pending = PendingCount(topic, asyncio.get_running_loop())
        async with self._enqueue_lock:  # keeps the order of the calls
            await self._admin.in_thread(self._enqueue_plain, topic, values, keys, pending)
        await pending.done

    def _enqueue_plain(
        self,
        topic: str,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None] | None,
        pending: PendingCount,
    ) -> None:
        produce, delivered = self._get_producer().produce, pending.delivered
        pending.ended = self._ended
        count, refusal = 0, None
        for value, key in zip(values, itertools.repeat(None) if keys is None else keys, strict=False):
            while True:
                try:
                    produce(topic, value, key, on_delivery=delivered)
                    count += 1
                except BufferError:
                    self._clock.sleep(0.005)  # the queue is full; the polling thread drains it
                    continue
                except KafkaException as error:
                    refusal = error.args[0]
                break
        pending.handed_over(count, refusal)

    async def _explain_partition(self, topic: str, partition: int, error: UnknownTopic) -> UnknownTopic:
        """The error if it is the partition that is missing, and not the topic; otherwise `error`."""
        with contextlib.suppress(UnknownTopic):
            count = await self._admin.partitions(topic)
            if partition >= count:
                return UnknownTopic(no_partition(topic, partition, count))
        return error

    def _enqueue(self, topic: str, events: Sequence[NewEvent], pending: PendingPublish) -> None:
        producer = self._get_producer()
        delivered = partial(self._delivered, pending)
        for index, event in enumerate(events):
            refusal = time_refusal(event.timestamp_ms)
            if refusal is not None:
                pending.set_result(index, refusal)
                continue
            options: dict[str, Any] = {}
            if event.timestamp_ms is not None:
                options["timestamp"] = event.timestamp_ms
            if event.headers:
                options["headers"] = list(event.headers)
            if event.partition is not None:
                options["partition"] = event.partition
            while True:
                try:
                    producer.produce(
                        topic, event.value, event.key, on_delivery=partial(delivered, index), **options
                    )
                except BufferError:
                    self._clock.sleep(0.005)  # the queue is full; the polling thread drains it
                    continue
                except KafkaException as error:
                    pending.set_result(index, error.args[0])
                break

    def _get_producer(self) -> Producer:
        if self._producer is None or self._fatal is not None:
            self._fatal, self._ended = None, deque()
            timeout_ms = int(self._publish_timeout_s * 1000)
            self._producer = Producer({**self._common, **PRODUCER_SETTINGS, "message.timeout.ms": timeout_ms})
            self._polling_thread = threading.Thread(
                target=self._poll, args=(self._producer,), name="mainstem-kafka-poll", daemon=True
            )
            self._polling_thread.start()
        return self._producer

    def _delivered(
        self, pending: PendingPublish, index: int, error: KafkaError | None, message: Message
    ) -> None:
        if error is not None and error.code() in ENDED:
            self._ended.append((pending, index, error))
        else:
            pending.delivered(index, error, message)

    def _poll(self, producer: Producer) -> None:
        poll, ended = producer.poll, self._ended
        while not self._closed and self._producer is producer:
            count = len(ended)
            try:
                poll(PRODUCER_POLL_S)
            except KafkaException as error:  # fatal, such as the denial of a producer id
                self._fatal = error.args[0]
                self._clock.sleep(PRODUCER_POLL_S)
            self._report_ended(ended, count)
        self._report_ended(ended, len(ended))

    def _report_ended(self, ended: deque[EndedEvent], count: int) -> None:
        """Report events that were not sent because the producer has ended: with why it did, which librdkafka
        says after them."""
        for _ in range(count):
            pending, index, error = ended.popleft()
            pending.set_result(index, self._fatal or error)

    async def partitions(self, topic: str) -> int:
        """See the contract."""
        return await self._admin.partitions(topic)

    async def topic_id(self, topic: str) -> str:
        """See the contract."""
        return topic_id_of((await self._admin.describe([topic]))[0])

    async def bounds(self, topic: str, partition: int) -> Bounds:
        """See the contract."""
        try:
            bounds = await self._admin.bounds([(topic, partition)])
        except UnknownTopic as error:
            raise await self._explain_partition(topic, partition, error) from None
        return bounds[topic, partition]

    async def offset_for_time(self, topic: str, partition: int, time_ms: int) -> int | None:
        """See the contract."""
        spec = OffsetSpec.for_timestamp(max(0, time_ms))
        offsets = await self._admin.list_offsets([(topic, partition)], spec)
        offset = offsets[topic, partition]
        return None if offset < 0 else offset

    async def reader(self, start: Sequence[Position]) -> KafkaReader:
        """See the contract."""
        if not start:
            raise InvalidArgument("a reader needs at least one position")
        for topic in sorted({position.topic for position in start}):
            count = await self.partitions(topic)
            for position in start:
                if position.topic == topic and not 0 <= position.partition < count:
                    raise UnknownTopic(no_partition(topic, position.partition, count))
        reader = KafkaReader(self._threads, self._common, self._clock, self._headers, start)
        self._readers.add(reader)
        return reader

    async def join(
        self,
        group: str,
        topics: Sequence[str],
        *,
        start: Literal["earliest", "latest"],
        hooks: MemberHooks | None = None,
    ) -> KafkaMember:
        """See the contract."""
        await self._admin.describe(topics)
        membership = Membership(group, tuple(topics), start, hooks)
        return KafkaMember(self._threads, self._common, self._clock, self._headers, membership)

    # --- admin --------------------------------------------------------------------------------------------

    async def topics(self, *, internal: bool = False) -> list[TopicSummary]:
        """See the contract."""
        names = await self._admin.in_thread(self._admin.list_names)
        described = await self._admin.describe(names, missing_ok=True) if names else []
        described = [topic for topic in described if internal or not topic.is_internal]
        keys = [(topic.name, partition.id) for topic in described for partition in topic.partitions]
        # A topic may be deleted in the meantime.
        bounds_by_key = await self._admin.bounds(keys, missing_ok=True)
        summaries = []
        for topic in described:
            keys = [(topic.name, partition.id) for partition in topic.partitions]
            all_bounds = [bounds_by_key[key] for key in keys if key in bounds_by_key]
            events = sum(bounds.end - bounds.begin for bounds in all_bounds)
            written = sum(bounds.end for bounds in all_bounds)
            id_ = topic_id_of(topic)
            summaries.append(TopicSummary(topic.name, len(keys), events, topic.is_internal, written, id=id_))
        return sorted(summaries, key=attrgetter("name"))

    async def topic(self, name: str) -> TopicInfo:
        """See the contract."""
        described = (await self._admin.describe([name]))[0]
        bounds = await self._admin.bounds([(name, partition.id) for partition in described.partitions])
        return TopicInfo(
            name,
            topic_id_of(described),
            described.is_internal,
            tuple(
                partition_info(partition, bounds[name, partition.id])
                for partition in sorted(described.partitions, key=attrgetter("id"))
            ),
            await self._settings(name),
        )

    async def _settings(self, name: str) -> tuple[Setting, ...]:
        resource = ConfigResource(ResourceType.TOPIC, name)
        futures = self._admin.client.describe_configs([resource], **self._admin.timeout)
        configs = await self._admin.single_result(futures, f"topic {name}")
        return tuple(topic_setting(entry) for entry in sorted(configs.values(), key=attrgetter("name")))

    async def create_topic(
        self, name: str, *, partitions: int | None = None, settings: Mapping[str, str] = NO_SETTINGS
    ) -> None:
        """See the contract."""
        new_topic = NewTopic(name, -1 if partitions is None else partitions, -1, config=dict(settings))
        try:
            await self._admin.change(f"topic {name}", self._admin.client.create_topics, [new_topic])
        except TopicExists:
            await self._admin.wait_until_known(name)  # somebody else may have created it just now
            raise
        await self._admin.wait_until_known(name)

    async def add_partitions(self, name: str, total: int) -> None:
        """See the contract."""
        new_partitions = NewPartitions(name, total)
        await self._admin.change(f"topic {name}", self._admin.client.create_partitions, [new_partitions])

    async def alter_topic(self, name: str, settings: Mapping[str, str | None]) -> None:
        """See the contract."""
        entries = [
            ConfigEntry(
                setting_name,
                value,
                incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
            )
            for setting_name, value in settings.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        await self._admin.change(f"topic {name}", self._admin.client.incremental_alter_configs, [resource])

    async def delete_topic(self, name: str) -> None:
        """See the contract."""
        await self._admin.change(f"topic {name}", self._admin.client.delete_topics, [name])

    async def delete_records(self, topic: str, partition: int, before: int) -> int:
        """See the contract."""
        futures = self._admin.client.delete_records(
            [TopicPartition(topic, partition, before)], **self._admin.timeout
        )
        deleted = await self._admin.single_result(futures, f"topic {topic}, partition {partition}")
        return int(deleted.low_watermark)

    async def groups(self) -> list[GroupSummary]:
        """See the contract."""
        return await self._groups.list()

    async def group(self, name: str) -> GroupInfo:
        """See the contract."""
        return await self._groups.describe(name)

    async def set_positions(self, group: str, positions: Sequence[Position]) -> None:
        """See the contract."""
        await self._groups.set_positions(group, positions)

    async def delete_group(self, name: str) -> None:
        """See the contract."""
        await self._groups.delete(name)

    async def cluster(self) -> ClusterInfo:
        """See the contract."""
        cluster = await self._admin.wait(
            self._admin.client.describe_cluster(**self._admin.timeout), self._address
        )
        brokers = [Broker(node.id, node.host, node.port) for node in cluster.nodes]
        brokers.sort(key=attrgetter("id"))
        controller = cluster.controller.id if cluster.controller else -1
        return ClusterInfo(cluster.cluster_id, controller, tuple(brokers))

    async def health(self) -> Health:
        """See the contract. A problem is a cluster that does not respond, or a partition without a leader."""
        try:
            names = await self._admin.in_thread(self._admin.list_names)
            described = await self._admin.describe(names) if names else []
        except StreamError as error:
            return Health(False, (str(error),))
        problems = tuple(
            f"topic {topic.name}, partition {partition.id} has no leader"
            for topic in described
            for partition in topic.partitions
            if partition.leader is None
        )
        return Health(not problems, problems)

    async def close(self) -> None:
        """See the contract."""
        if self._closed:
            return
        for reader in list(self._readers):
            await reader.close()
        await self._groups.close()
        await self._admin.in_thread(self._headers.close)
        if self._producer is not None:
            await self._admin.in_thread(self._producer.flush, self._publish_timeout_s)
        self._closed = True
        if self._polling_thread is not None:
            await self._admin.in_thread(self._polling_thread.join)
        self._threads.shutdown(wait=False)

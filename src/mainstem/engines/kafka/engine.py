"""The Kafka engine: implements the contract for any Kafka cluster, on confluent-kafka (librdkafka).

Owns: one producer, one admin client and the threads that wait for librdkafka. Refuses: blocking the event
loop, and creating a topic by looking it up. It treats a mainstem server like any other cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from operator import attrgetter
from typing import Any, Literal, TypeVar

from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
    TopicDescription,
)

from mainstem.clock import BlockingClock
from mainstem.contract import (
    NO_SETTINGS,
    Bounds,
    Broker,
    ClusterInfo,
    GroupInfo,
    GroupPosition,
    GroupSummary,
    Health,
    InvalidArgument,
    NewEvent,
    NotReachable,
    Position,
    Setting,
    StreamError,
    TopicInfo,
    TopicSummary,
    UnknownGroup,
    UnknownTopic,
)
from mainstem.engines.kafka.conversions import group_state, member_info, partition_info, topic_setting
from mainstem.engines.kafka.errors import LEADER_UNAVAILABLE, translate
from mainstem.engines.kafka.publish import PRODUCER_SETTINGS, PendingPublish, probe_tcp
from mainstem.engines.kafka.read import KafkaMember, KafkaReader, event_times_at

T = TypeVar("T")


class KafkaEngine:
    """Implements `Engine`. Created with `connect`, inside a running event loop."""

    def __init__(
        self, address: str, *, timeout_s: float, publish_timeout_s: float, clock: BlockingClock
    ) -> None:
        self._address = address
        self._clock = clock
        self._timeout_s = timeout_s
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
        }
        self._threads = ThreadPoolExecutor(max_workers=64, thread_name_prefix="mainstem-kafka")
        self._admin: AdminClient | None = None
        self._producer: Producer | None = None
        self._polling_thread: threading.Thread | None = None
        self._enqueue_lock = asyncio.Lock()
        self._closed = False
        self._last_error = ""

    @classmethod
    async def connect(
        cls,
        address: str,
        *,
        timeout_s: float = 5.0,
        publish_timeout_s: float = 60.0,
        clock: BlockingClock | None = None,
    ) -> KafkaEngine:
        """Connect to the cluster at `address` (HOST:PORT, several with commas). NotReachable after about
        `timeout_s`. `clock` is the machine's unless a test passes another."""
        await probe_tcp(address, timeout_s)
        engine = cls(
            address,
            timeout_s=timeout_s,
            publish_timeout_s=publish_timeout_s,
            clock=clock or BlockingClock(),
        )
        try:
            engine._admin = AdminClient(engine._common)
            await engine.cluster()
        except KafkaException as error:
            raise translate(error, address) from None
        except NotReachable:
            await engine.close()
            why = f" ({engine._last_error})" if engine._last_error else ""
            raise NotReachable(
                f"what listens at {address} does not answer as a Kafka server in {timeout_s:g} s{why}"
            ) from None
        return engine

    def _on_error(self, error: KafkaError) -> None:
        self._last_error = str(error.str())

    # --- events -------------------------------------------------------------------------------------------

    async def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Position]:
        """See the contract."""
        if not events:
            return []
        pending = PendingPublish(topic, len(events), asyncio.get_running_loop())
        async with self._enqueue_lock:  # keeps the order of the calls
            await self._in_thread(self._enqueue, topic, events, pending)
        return await pending.done

    def _enqueue(self, topic: str, events: Sequence[NewEvent], pending: PendingPublish) -> None:
        producer = self._get_producer()
        delivered = pending.delivered
        for index, event in enumerate(events):
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
        if self._producer is None:
            timeout_ms = int(self._publish_timeout_s * 1000)
            self._producer = Producer({**self._common, **PRODUCER_SETTINGS, "message.timeout.ms": timeout_ms})
            self._polling_thread = threading.Thread(
                target=self._poll, name="mainstem-kafka-poll", daemon=True
            )
            self._polling_thread.start()
        return self._producer

    def _poll(self) -> None:
        assert self._producer is not None
        while not self._closed:
            self._producer.poll(0.1)

    async def partitions(self, topic: str) -> int:
        """See the contract."""
        return len((await self._describe([topic]))[0].partitions)

    async def bounds(self, topic: str, partition: int) -> Bounds:
        """See the contract."""
        bounds = await self._bounds([(topic, partition)])
        return bounds[topic, partition]

    async def offset_for_time(self, topic: str, partition: int, time_ms: int) -> int | None:
        """See the contract."""
        spec = OffsetSpec.for_timestamp(time_ms)
        offsets = await self._list_offsets([(topic, partition)], spec)
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
                    raise UnknownTopic(f"topic {topic}: there is no partition {position.partition}")
        return KafkaReader(self._threads, self._common, self._clock, start)

    async def join(
        self, group: str, topics: Sequence[str], *, start: Literal["earliest", "latest"]
    ) -> KafkaMember:
        """See the contract."""
        await self._describe(topics)
        return KafkaMember(self._threads, self._common, self._clock, group, topics, start)

    # --- admin --------------------------------------------------------------------------------------------

    async def topics(self, *, internal: bool = False) -> list[TopicSummary]:
        """See the contract."""
        names = await self._in_thread(self._list_names)
        described = await self._describe(names, missing_ok=True) if names else []
        described = [topic for topic in described if internal or not topic.is_internal]
        keys = [(topic.name, partition.id) for topic in described for partition in topic.partitions]
        bounds_by_key = await self._bounds(keys, missing_ok=True)  # a topic may be deleted in the meantime
        summaries = []
        for topic in described:
            keys = [(topic.name, partition.id) for partition in topic.partitions]
            all_bounds = [bounds_by_key[key] for key in keys if key in bounds_by_key]
            events = sum(bounds.end - bounds.begin for bounds in all_bounds)
            written = sum(bounds.end for bounds in all_bounds)
            summaries.append(TopicSummary(topic.name, len(keys), events, topic.is_internal, written))
        return sorted(summaries, key=attrgetter("name"))

    def _list_names(self) -> list[str]:
        deadline = self._clock.monotonic() + self._timeout_s
        while True:
            try:
                return list(self._client().list_topics(timeout=self._timeout_s).topics)
            except KafkaException as error:
                # librdkafka drops its first connection, and the requests on it, once it knows the brokers.
                if error.args[0].code() != KafkaError._TRANSPORT or self._clock.monotonic() > deadline:
                    raise translate(error, self._address) from None
                self._clock.sleep(0.02)

    async def topic(self, name: str) -> TopicInfo:
        """See the contract."""
        described = (await self._describe([name]))[0]
        bounds = await self._bounds([(name, partition.id) for partition in described.partitions])
        return TopicInfo(
            name,
            # librdkafka prints base64; Kafka and its other clients print base64url.
            str(described.topic_id or "").replace("+", "-").replace("/", "_"),
            described.is_internal,
            tuple(
                partition_info(partition, bounds[name, partition.id])
                for partition in sorted(described.partitions, key=attrgetter("id"))
            ),
            await self._settings(name),
        )

    async def _settings(self, name: str) -> tuple[Setting, ...]:
        resource = ConfigResource(ResourceType.TOPIC, name)
        futures = self._client().describe_configs([resource], **self._timeout)
        configs = await self._single_result(futures, f"topic {name}")
        return tuple(topic_setting(entry) for entry in sorted(configs.values(), key=attrgetter("name")))

    async def create_topic(
        self, name: str, *, partitions: int | None = None, settings: Mapping[str, str] = NO_SETTINGS
    ) -> None:
        """See the contract."""
        new_topic = NewTopic(name, -1 if partitions is None else partitions, -1, config=dict(settings))
        await self._change(
            lambda: self._client().create_topics([new_topic], **self._timeout), f"topic {name}"
        )

    async def add_partitions(self, name: str, total: int) -> None:
        """See the contract."""
        new_partitions = NewPartitions(name, total)
        await self._change(
            lambda: self._client().create_partitions([new_partitions], **self._timeout), f"topic {name}"
        )

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
        await self._change(
            lambda: self._client().incremental_alter_configs([resource], **self._timeout), f"topic {name}"
        )

    async def delete_topic(self, name: str) -> None:
        """See the contract."""
        await self._change(lambda: self._client().delete_topics([name], **self._timeout), f"topic {name}")

    async def delete_records(self, topic: str, partition: int, before: int) -> int:
        """See the contract."""
        futures = self._client().delete_records([TopicPartition(topic, partition, before)], **self._timeout)
        deleted = await self._single_result(futures, f"topic {topic}, partition {partition}")
        return int(deleted.low_watermark)

    async def groups(self) -> list[GroupSummary]:
        """See the contract."""
        listed = await self._wait(self._client().list_consumer_groups(**self._timeout), self._address)
        groups = [GroupSummary(group.group_id, group_state(group.state)) for group in listed.valid]
        return sorted(groups, key=attrgetter("name"))

    async def group(self, name: str) -> GroupInfo:
        """See the contract."""
        described = await self._single_result(
            self._client().describe_consumer_groups([name], **self._timeout), f"group {name}"
        )
        if described.state == ConsumerGroupState.DEAD:
            raise UnknownGroup(f"group {name}: there is no such group")
        members = tuple(member_info(member) for member in described.members)
        positions = await self._group_positions(
            name, {topic for member in members for topic, _ in member.assigned}
        )
        return GroupInfo(name, group_state(described.state), described.partition_assignor, members, positions)

    async def _group_positions(self, name: str, topics: set[str]) -> tuple[GroupPosition, ...]:
        """The positions in all partitions of the topics that the group has read or that are assigned to
        it."""
        request = [ConsumerGroupTopicPartitions(name)]
        futures = self._client().list_consumer_group_offsets(request, **self._timeout)
        committed = await self._single_result(futures, f"group {name}")
        offsets = {
            (partition.topic, partition.partition): partition.offset
            for partition in committed.topic_partitions
            if partition.offset >= 0
        }
        keys = set(offsets)
        for topic in topics | {topic for topic, _ in offsets}:
            with contextlib.suppress(UnknownTopic):  # it was deleted; the group still has its positions
                keys |= {(topic, partition) for partition in range(await self.partitions(topic))}
        bounds = await self._bounds(keys, missing_ok=True)
        behind = [
            Position(*key, max(offset, bounds[key].begin))  # what is before the begin was deleted
            for key, offset in offsets.items()
            if key in bounds and max(offset, bounds[key].begin) < bounds[key].end
        ]
        times: dict[tuple[str, int], int] = {}
        if behind:
            times = await self._in_thread(event_times_at, self._common, self._clock, behind, self._timeout_s)
        now_ms = self._clock.wall_ms()
        positions = []
        for key in sorted(keys):
            offset = offsets.get(key)
            end = bounds[key].end if key in bounds else offset or 0
            if offset is None:
                positions.append(GroupPosition(*key, None, end, None, None))
                continue
            time_ms = times.get(key, -1)
            lag_ms = 0 if offset >= end else max(0, now_ms - time_ms) if time_ms >= 0 else None
            positions.append(GroupPosition(*key, offset, end, max(0, end - offset), lag_ms))
        return tuple(positions)

    async def set_positions(self, group: str, positions: Sequence[Position]) -> None:
        """See the contract."""
        if not positions:
            return
        offsets = [
            TopicPartition(position.topic, position.partition, position.offset) for position in positions
        ]
        request = [ConsumerGroupTopicPartitions(group, offsets)]
        futures = self._client().alter_consumer_group_offsets(request, **self._timeout)
        altered = await self._single_result(futures, f"group {group}")
        for partition in altered.topic_partitions:
            if partition.error is not None:
                subject = f"group {group}, {partition.topic} partition {partition.partition}"
                raise translate(partition.error, subject)

    async def delete_group(self, name: str) -> None:
        """See the contract."""
        await self._change(
            lambda: self._client().delete_consumer_groups([name], **self._timeout), f"group {name}"
        )

    async def cluster(self) -> ClusterInfo:
        """See the contract."""
        cluster = await self._wait(self._client().describe_cluster(**self._timeout), self._address)
        brokers = [Broker(node.id, node.host, node.port) for node in cluster.nodes]
        brokers.sort(key=attrgetter("id"))
        controller = cluster.controller.id if cluster.controller else -1
        return ClusterInfo(cluster.cluster_id, controller, tuple(brokers))

    async def health(self) -> Health:
        """See the contract. A problem is a cluster that does not respond, or a partition without a leader."""
        try:
            names = await self._in_thread(self._list_names)
            described = await self._describe(names) if names else []
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
        if self._producer is not None:
            await self._in_thread(self._producer.flush, self._publish_timeout_s)
        self._closed = True
        if self._polling_thread is not None:
            await self._in_thread(self._polling_thread.join)
        self._threads.shutdown(wait=False)

    # --- calls of librdkafka ------------------------------------------------------------------------------

    @property
    def _timeout(self) -> dict[str, float]:
        return {"request_timeout": self._timeout_s}

    def _client(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient(self._common)
        return self._admin

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def _wait(self, future: Future[Any], subject: str) -> Any:
        try:
            return await asyncio.wrap_future(future)
        except KafkaException as error:
            raise translate(error, subject) from None

    async def _single_result(self, futures: Mapping[Any, Future[Any]], subject: str) -> Any:
        """The result of an admin call with a single item, such as one topic. librdkafka returns a future for
        each item of a call."""
        (future,) = futures.values()
        return await self._wait(future, subject)

    async def _change(self, call: Callable[[], Mapping[Any, Future[Any]]], subject: str) -> None:
        try:
            futures = call()
        except (KafkaException, ValueError, TypeError) as error:  # librdkafka refuses to send it
            if isinstance(error, KafkaException):
                raise translate(error, subject) from None
            raise InvalidArgument(f"{subject}: {error}") from None
        await self._single_result(futures, subject)

    async def _describe(self, names: Iterable[str], *, missing_ok: bool = False) -> list[TopicDescription]:
        futures = self._client().describe_topics(TopicCollection(list(names)), **self._timeout)
        topics = []
        for name, future in futures.items():
            with contextlib.suppress(*([UnknownTopic] if missing_ok else [])):
                topics.append(await self._wait(future, f"topic {name}"))
        return topics

    async def _bounds(
        self, keys: Iterable[tuple[str, int]], *, missing_ok: bool = False
    ) -> dict[tuple[str, int], Bounds]:
        keys = list(keys)
        begins, ends = await asyncio.gather(
            self._list_offsets(keys, OffsetSpec.earliest(), missing_ok=missing_ok),
            self._list_offsets(keys, OffsetSpec.latest(), missing_ok=missing_ok),
        )
        return {key: Bounds(begins[key], ends[key]) for key in keys if key in begins and key in ends}

    async def _list_offsets(
        self, keys: Iterable[tuple[str, int]], spec: OffsetSpec, *, missing_ok: bool = False
    ) -> dict[tuple[str, int], int]:
        pending = [TopicPartition(*key) for key in keys]
        offsets: dict[tuple[str, int], int] = {}
        deadline = self._clock.monotonic() + self._timeout_s
        while pending:
            futures = self._client().list_offsets(dict.fromkeys(pending, spec), **self._timeout)
            pending = []
            for partition, future in futures.items():
                subject = f"topic {partition.topic}, partition {partition.partition}"
                try:
                    listed = await asyncio.wrap_future(future)
                    offsets[partition.topic, partition.partition] = listed.offset
                except KafkaException as error:
                    is_transient = error.args[0].code() in LEADER_UNAVAILABLE
                    if is_transient and await self._may_get_leader(partition, deadline):
                        pending.append(partition)
                    elif not missing_ok or not isinstance(translate(error, subject), UnknownTopic):
                        raise translate(error, subject) from None
            if pending:
                await asyncio.sleep(0.05)
        return offsets

    async def _may_get_leader(self, partition: TopicPartition, deadline: float) -> bool:
        """Whether to retry for a partition without a leader: it exists, and the deadline has not passed."""
        with contextlib.suppress(UnknownTopic):
            exists = partition.partition < await self.partitions(partition.topic)
            return exists and self._clock.monotonic() < deadline
        return False

"""The contract over any Kafka cluster, on confluent-kafka (librdkafka).

Owns: one producer, one admin client and the threads in which librdkafka is waited for. Refuses: blocking
the event loop, and creating a topic by looking at it. Used by the command line and the Python API; a
mainstem server is a cluster like any other to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
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
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
    TopicDescription,
)

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
    MemberInfo,
    NewEvent,
    NotReachable,
    PartitionInfo,
    Position,
    Setting,
    StreamError,
    TopicInfo,
    TopicSummary,
    UnknownGroup,
    UnknownTopic,
)
from mainstem.engines.kafka.errors import LEADER_UNAVAILABLE, translate
from mainstem.engines.kafka.publish import PRODUCER_SETTINGS, PendingPublish, probe_tcp
from mainstem.engines.kafka.read import KafkaMember, KafkaReader, event_times_at

T = TypeVar("T")


class KafkaEngine:
    """Implements `mainstem.contract.Engine`. Make it inside a running event loop, with `connect`."""

    def __init__(self, at: str, *, timeout_s: float = 5.0, publish_timeout_s: float = 60.0) -> None:
        self._at = at
        self._timeout_s = timeout_s
        self._publish_timeout_s = publish_timeout_s
        self._common: dict[str, Any] = {
            "bootstrap.servers": at,
            "client.id": "mainstem",
            # Its own lines would go to standard error beside ours; what matters reaches us as errors of
            # calls.
            "log_level": 0,
            "error_cb": self._on_error,
            "socket.connection.setup.timeout.ms": int(max(1.0, timeout_s) * 1000),
            "reconnect.backoff.max.ms": 1_000,
            "broker.address.family": "any",
        }
        self._threads = ThreadPoolExecutor(max_workers=64, thread_name_prefix="mainstem-kafka")
        self._admin: AdminClient | None = None
        self._producer: Producer | None = None
        self._polling: threading.Thread | None = None
        self._enqueuing = asyncio.Lock()
        self._closed = False
        self._last_error = ""

    @classmethod
    async def connect(
        cls, at: str, *, timeout_s: float = 5.0, publish_timeout_s: float = 60.0
    ) -> KafkaEngine:
        """Reach the cluster at `at` (HOST:PORT, several with commas). NotReachable within about
        `timeout_s`."""
        await probe_tcp(at, timeout_s)
        engine = cls(at, timeout_s=timeout_s, publish_timeout_s=publish_timeout_s)
        try:
            engine._admin = AdminClient(engine._common)
            await engine.cluster()
        except KafkaException as error:
            raise translate(error, at) from None
        except NotReachable:
            await engine.close()
            why = f" ({engine._last_error})" if engine._last_error else ""
            raise NotReachable(
                f"what listens at {at} does not answer as a Kafka server in {timeout_s:g} s{why}"
            ) from None
        return engine

    def _on_error(self, error: KafkaError) -> None:
        self._last_error = str(error.str())

    # ------------------------------------------------------------------------------------------------------
    # Stream

    async def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Position]:
        """See the contract."""
        if not events:
            return []
        publishing = PendingPublish(topic, len(events), asyncio.get_running_loop())
        async with self._enqueuing:  # calls made one after the other are queued in that order
            await self._in_thread(self._enqueue, topic, events, publishing)
        return await publishing.done

    def _enqueue(self, topic: str, events: Sequence[NewEvent], publishing: PendingPublish) -> None:
        producer = self._producer_now()
        delivered = publishing.delivered
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
                    time.sleep(0.005)  # the queue is full; the polling thread empties it
                    continue
                except KafkaException as error:
                    publishing.ended(index, error.args[0])
                break

    def _producer_now(self) -> Producer:
        if self._producer is None:
            timeout_ms = int(self._publish_timeout_s * 1000)
            self._producer = Producer({**self._common, **PRODUCER_SETTINGS, "message.timeout.ms": timeout_ms})
            self._polling = threading.Thread(target=self._poll, name="mainstem-kafka-poll", daemon=True)
            self._polling.start()
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
        found = await self._bounds([(topic, partition)])
        return found[topic, partition]

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
            there = await self.partitions(topic)
            for position in start:
                if position.topic == topic and not 0 <= position.partition < there:
                    raise UnknownTopic(f"topic {topic}: there is no partition {position.partition}")
        return KafkaReader(self._threads, self._common, start)

    async def join(
        self, group: str, topics: Sequence[str], *, start: Literal["earliest", "latest"]
    ) -> KafkaMember:
        """See the contract."""
        await self._describe(topics)
        return KafkaMember(self._threads, self._common, group, topics, start)

    # -------------------------------------------------------------------------------------------------------
    # Admin

    async def topics(self, *, internal: bool = False) -> list[TopicSummary]:
        """See the contract."""
        listed = await self._in_thread(self._list_names)
        described = await self._describe(listed, missing_ok=True) if listed else []
        described = [each for each in described if internal or not each.is_internal]
        where = [(each.name, one.id) for each in described for one in each.partitions]
        bounds = await self._bounds(where, missing_ok=True)  # a topic may be deleted meanwhile
        found = []
        for topic in described:
            places = [(topic.name, each.id) for each in topic.partitions]
            held = [bounds[place] for place in places if place in bounds]
            written, events = sum(each.end for each in held), sum(each.end - each.begin for each in held)
            found.append(TopicSummary(topic.name, len(places), events, topic.is_internal, written))
        return sorted(found, key=lambda each: each.name)

    def _list_names(self) -> list[str]:
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                return list(self._client().list_topics(timeout=self._timeout_s).topics)
            except KafkaException as error:
                # Once librdkafka knows the brokers it drops its first connection, and with it what was
                # asked there.
                if error.args[0].code() != KafkaError._TRANSPORT or time.monotonic() > deadline:
                    raise translate(error, self._at) from None
                time.sleep(0.02)

    async def topic(self, name: str) -> TopicInfo:
        """See the contract."""
        described = (await self._describe([name]))[0]
        bounds = await self._bounds([(name, each.id) for each in described.partitions])
        return TopicInfo(
            name,
            # librdkafka prints base64, Kafka and everybody else its variant for URLs.
            str(described.topic_id or "").replace("+", "-").replace("/", "_"),
            described.is_internal,
            tuple(
                PartitionInfo(
                    each.id,
                    bounds[name, each.id].begin,
                    bounds[name, each.id].end,
                    each.leader.id if each.leader is not None else -1,
                    tuple(node.id for node in each.replicas),
                    tuple(node.id for node in each.isr),
                )
                for each in sorted(described.partitions, key=lambda each: int(each.id))
            ),
            await self._settings(name),
        )

    async def _settings(self, name: str) -> tuple[Setting, ...]:
        resource = ConfigResource(ResourceType.TOPIC, name)
        found = await self._one(self._client().describe_configs([resource], **self._timeout), f"topic {name}")
        own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        return tuple(
            Setting(entry.name, entry.value, entry.source != own, bool(entry.is_read_only))
            for entry in sorted(found.values(), key=lambda entry: str(entry.name))
        )

    async def create_topic(
        self, name: str, *, partitions: int | None = None, settings: Mapping[str, str] = NO_SETTINGS
    ) -> None:
        """See the contract."""
        wanted = NewTopic(name, -1 if partitions is None else partitions, -1, config=dict(settings))
        await self._change(lambda: self._client().create_topics([wanted], **self._timeout), f"topic {name}")

    async def add_partitions(self, name: str, total: int) -> None:
        """See the contract."""
        wanted = NewPartitions(name, total)
        await self._change(
            lambda: self._client().create_partitions([wanted], **self._timeout), f"topic {name}"
        )

    async def alter_topic(self, name: str, settings: Mapping[str, str | None]) -> None:
        """See the contract."""
        entries = [
            ConfigEntry(
                setting,
                value,
                incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
            )
            for setting, value in settings.items()
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
        where = TopicPartition(topic, partition, before)
        done = await self._one(
            self._client().delete_records([where], **self._timeout), f"topic {topic}, partition {partition}"
        )
        return int(done.low_watermark)

    async def groups(self) -> list[GroupSummary]:
        """See the contract."""
        listed = await self._wait(self._client().list_consumer_groups(**self._timeout), self._at)
        found = [GroupSummary(each.group_id, _words(each.state)) for each in listed.valid]
        return sorted(found, key=lambda each: each.name)

    async def group(self, name: str) -> GroupInfo:
        """See the contract."""
        described = await self._one(
            self._client().describe_consumer_groups([name], **self._timeout), f"group {name}"
        )
        if described.state == ConsumerGroupState.DEAD:
            raise UnknownGroup(f"group {name}: there is no such group")
        members = tuple(
            MemberInfo(
                each.member_id,
                each.client_id,
                each.host,
                each.group_instance_id,
                tuple(sorted((at.topic, at.partition) for at in each.assignment.topic_partitions)),
            )
            for each in described.members
        )
        positions = await self._group_positions(
            name, {topic for each in members for topic, _ in each.assigned}
        )
        return GroupInfo(name, _words(described.state), described.partition_assignor, members, positions)

    async def _group_positions(self, name: str, topics: set[str]) -> tuple[GroupPosition, ...]:
        """Of all partitions of the topics of which it has read any or is reading any."""
        request = [ConsumerGroupTopicPartitions(name)]
        futures = self._client().list_consumer_group_offsets(request, **self._timeout)
        found = await self._one(futures, f"group {name}")
        offsets = {(at.topic, at.partition): at.offset for at in found.topic_partitions if at.offset >= 0}
        every = list(offsets)
        for topic in topics | {topic for topic, _ in offsets}:
            with contextlib.suppress(UnknownTopic):  # it was deleted; the group still has its positions
                every += [(topic, partition) for partition in range(await self.partitions(topic))]
        bounds = await self._bounds(set(every), missing_ok=True)
        behind = [
            Position(*at, offset)
            for at, offset in offsets.items()
            if at in bounds and offset < bounds[at].end
        ]
        times = await self._in_thread(event_times_at, self._common, behind, self._timeout_s) if behind else {}
        now_ms = time.time_ns() // 1_000_000
        positions = []
        for at in sorted(set(every)):
            offset = offsets.get(at)
            end = bounds[at].end if at in bounds else offset or 0
            if offset is None:
                positions.append(GroupPosition(*at, None, end, None, None))
                continue
            time_ms = times.get(at, -1)
            lag_ms = 0 if offset >= end else max(0, now_ms - time_ms) if time_ms >= 0 else None
            positions.append(GroupPosition(*at, offset, end, max(0, end - offset), lag_ms))
        return tuple(positions)

    async def set_positions(self, group: str, positions: Sequence[Position]) -> None:
        """See the contract."""
        if not positions:
            return
        wanted = [TopicPartition(each.topic, each.partition, each.offset) for each in positions]
        request = [ConsumerGroupTopicPartitions(group, wanted)]
        done = await self._one(
            self._client().alter_consumer_group_offsets(request, **self._timeout), f"group {group}"
        )
        for each in done.topic_partitions:
            if each.error is not None:
                raise translate(each.error, f"group {group}, {each.topic} partition {each.partition}")

    async def delete_group(self, name: str) -> None:
        """See the contract."""
        await self._change(
            lambda: self._client().delete_consumer_groups([name], **self._timeout), f"group {name}"
        )

    async def cluster(self) -> ClusterInfo:
        """See the contract."""
        found = await self._wait(self._client().describe_cluster(**self._timeout), self._at)
        brokers = sorted(
            (Broker(node.id, node.host, node.port) for node in found.nodes), key=lambda each: each.id
        )
        return ClusterInfo(found.cluster_id, found.controller.id if found.controller else -1, tuple(brokers))

    async def health(self) -> Health:
        """See the contract. Not healthy: it does not answer, or partitions have no leader."""
        try:
            names = await self._in_thread(self._list_names)
            described = await self._describe(names) if names else []
        except StreamError as error:
            return Health(False, (str(error),))
        problems = tuple(
            f"topic {topic.name}, partition {each.id} has no leader"
            for topic in described
            for each in topic.partitions
            if each.leader is None
        )
        return Health(not problems, problems)

    async def close(self) -> None:
        """See the contract."""
        if self._closed:
            return
        if self._producer is not None:
            await self._in_thread(self._producer.flush, self._publish_timeout_s)
        self._closed = True
        if self._polling is not None:
            await self._in_thread(self._polling.join)
        self._threads.shutdown(wait=False)

    # -----------------------------------------------------------------------------------------------------
    # helpers

    @property
    def _timeout(self) -> dict[str, float]:
        return {"request_timeout": self._timeout_s}

    def _client(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient(self._common)
        return self._admin

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def _wait(self, future: Future[Any], what: str) -> Any:
        try:
            return await asyncio.wrap_future(future)
        except KafkaException as error:
            raise translate(error, what) from None

    async def _one(self, futures: Mapping[Any, Future[Any]], what: str) -> Any:
        """The result of a call for one thing, of which librdkafka gives a future for each thing."""
        (future,) = futures.values()
        return await self._wait(future, what)

    async def _change(self, call: Callable[[], Mapping[Any, Future[Any]]], what: str) -> None:
        try:
            futures = call()
        except (KafkaException, ValueError, TypeError) as error:  # refused before it was sent
            if isinstance(error, KafkaException):
                raise translate(error, what) from None
            raise InvalidArgument(f"{what}: {error}") from None
        await self._one(futures, what)

    async def _describe(self, names: Iterable[str], *, missing_ok: bool = False) -> list[TopicDescription]:
        futures = self._client().describe_topics(TopicCollection(list(names)), **self._timeout)
        found = []
        for name, future in futures.items():
            with contextlib.suppress(*([UnknownTopic] if missing_ok else [])):
                found.append(await self._wait(future, f"topic {name}"))
        return found

    async def _bounds(
        self, where: Iterable[tuple[str, int]], *, missing_ok: bool = False
    ) -> dict[tuple[str, int], Bounds]:
        where = list(where)
        begins, ends = await asyncio.gather(
            self._list_offsets(where, OffsetSpec.earliest(), missing_ok=missing_ok),
            self._list_offsets(where, OffsetSpec.latest(), missing_ok=missing_ok),
        )
        return {at: Bounds(begins[at], ends[at]) for at in where if at in begins and at in ends}

    async def _list_offsets(
        self, where: Iterable[tuple[str, int]], spec: OffsetSpec, *, missing_ok: bool = False
    ) -> dict[tuple[str, int], int]:
        left = [TopicPartition(*at) for at in where]
        offsets: dict[tuple[str, int], int] = {}
        deadline = time.monotonic() + self._timeout_s
        while left:
            futures = self._client().list_offsets(dict.fromkeys(left, spec), **self._timeout)
            left = []
            for at, future in futures.items():
                what = f"topic {at.topic}, partition {at.partition}"
                try:
                    offsets[at.topic, at.partition] = (await asyncio.wrap_future(future)).offset
                except KafkaException as error:
                    if error.args[0].code() in LEADER_UNAVAILABLE and await self._moves(at, deadline):
                        left.append(at)
                    elif not missing_ok or not isinstance(translate(error, what), UnknownTopic):
                        raise translate(error, what) from None
            if left:
                await asyncio.sleep(0.05)
        return offsets

    async def _moves(self, at: TopicPartition, deadline: float) -> bool:
        """Whether a partition without a leader may soon have one. Not if it does not exist."""
        with contextlib.suppress(UnknownTopic):
            return at.partition < await self.partitions(at.topic) and time.monotonic() < deadline
        return False


def _words(state: ConsumerGroupState) -> str:
    """PREPARING_REBALANCING -> PreparingRebalance, Kafka's own spelling."""
    return "".join(part.capitalize() for part in state.name.split("_")).replace("Rebalancing", "Rebalance")

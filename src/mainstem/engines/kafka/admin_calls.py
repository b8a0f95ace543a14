"""Calls of librdkafka's admin client: they wait for its futures and translate its errors.

Owns: the admin client of one engine, and the look-ups that events, topics and groups share: partitions and
offsets. Refuses: blocking the event loop, and groups' members, which librdkafka cannot read safely
(`group_reader.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec, TopicDescription

from mainstem.client_security import PLAINTEXT, ClientSecurity
from mainstem.clock import BlockingClock
from mainstem.contract import Bounds, InvalidArgument, StreamError, UnknownTopic
from mainstem.engines.kafka.errors import LEADER_UNAVAILABLE, translate

T = TypeVar("T")


class AdminCalls:
    """The admin client of the cluster at `address`. Created inside a running event loop."""

    def __init__(
        self,
        address: str,
        common: Mapping[str, Any],
        *,
        threads: Executor,
        clock: BlockingClock,
        timeout_s: float,
        security: ClientSecurity = PLAINTEXT,
    ) -> None:
        """`common`: the settings that all clients of the engine share. KafkaException: a setting is wrong."""
        self.client = AdminClient(dict(common))
        self.address = address
        self.common = common
        self.security = security
        self.clock = clock
        self.timeout_s = timeout_s
        self.timeout: dict[str, float] = {"request_timeout": timeout_s}
        """The keyword argument that every call of the admin client takes."""
        self._threads = threads

    async def in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        """The result of a call that blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def wait(self, future: Future[Any], subject: str) -> Any:
        """The result of a call of the admin client. Its errors are those of the contract; `subject` begins
        their texts."""
        try:
            return await asyncio.wrap_future(future)
        except KafkaException as error:
            raise translate(error, subject) from None

    async def single_result(self, futures: Mapping[Any, Future[Any]], subject: str) -> Any:
        """The result of an admin call with a single item, such as one topic. librdkafka returns a future for
        each item of a call."""
        (future,) = futures.values()
        return await self.wait(future, subject)

    async def change(
        self, subject: str, call: Callable[..., Mapping[Any, Future[Any]]], items: Sequence[Any]
    ) -> None:
        """Change a single item with a call of the admin client. InvalidArgument, also if librdkafka refuses
        to send it."""
        try:
            futures = call(items, **self.timeout)
        except KafkaException as error:
            raise translate(error, subject) from None
        except (ValueError, TypeError) as error:
            raise InvalidArgument(f"{subject}: {error}") from None
        await self.single_result(futures, subject)

    async def describe(self, names: Iterable[str], *, missing_ok: bool = False) -> list[TopicDescription]:
        """The descriptions of topics. UnknownTopic, unless `missing_ok`: then missing topics are left out."""
        try:
            futures = self.client.describe_topics(TopicCollection(list(names)), **self.timeout)
        except ValueError as error:  # an empty name
            raise InvalidArgument(f"topics: {error}") from None
        topics = []
        for name, future in futures.items():
            with contextlib.suppress(*([UnknownTopic] if missing_ok else [])):
                topics.append(await self.wait(future, f"topic {name}"))
        return topics

    async def partitions(self, topic: str) -> int:
        """The number of partitions of a topic. UnknownTopic."""
        return len((await self.describe([topic]))[0].partitions)

    async def wait_until_known(self, topic: str) -> None:
        """Wait until the cluster describes a topic that exists: brokers learn of a new topic some time after
        its creation was answered. Returns, too, if it stays unknown for the time of a call, for it may be
        deleted, and if it cannot be described, for who may create it need not be allowed to."""
        deadline = self.clock.monotonic() + self.timeout_s
        with contextlib.suppress(StreamError):
            while not await self.describe([topic], missing_ok=True) and self.clock.monotonic() < deadline:
                await asyncio.sleep(0.02)

    async def bounds(
        self, keys: Iterable[tuple[str, int]], *, missing_ok: bool = False
    ) -> dict[tuple[str, int], Bounds]:
        """First offset and end of partitions (topic, partition). UnknownTopic, as in `describe`."""
        keys = list(keys)
        begins, ends = await asyncio.gather(
            self.list_offsets(keys, OffsetSpec.earliest(), missing_ok=missing_ok),
            self.list_offsets(keys, OffsetSpec.latest(), missing_ok=missing_ok),
        )
        return {key: Bounds(begins[key], ends[key]) for key in keys if key in begins and key in ends}

    async def list_offsets(
        self, keys: Iterable[tuple[str, int]], spec: OffsetSpec, *, missing_ok: bool = False
    ) -> dict[tuple[str, int], int]:
        """An offset of each partition (topic, partition), as `spec` says; -1: there is none. Waits for the
        leaders of new partitions. UnknownTopic, as in `describe`."""
        pending = [TopicPartition(*key) for key in keys]
        offsets: dict[tuple[str, int], int] = {}
        deadline = self.clock.monotonic() + self.timeout_s
        while pending:
            futures = self.client.list_offsets(dict.fromkeys(pending, spec), **self.timeout)
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
            return exists and self.clock.monotonic() < deadline
        return False

    def list_names(self) -> list[str]:
        """The names of all topics. Blocks."""
        deadline = self.clock.monotonic() + self.timeout_s
        while True:
            try:
                return list(self.client.list_topics(timeout=self.timeout_s).topics)
            except KafkaException as error:
                # librdkafka drops its first connection, and the requests on it, once it knows the brokers.
                if error.args[0].code() != KafkaError._TRANSPORT or self.clock.monotonic() > deadline:
                    raise translate(error, self.address) from None
                self.clock.sleep(0.02)

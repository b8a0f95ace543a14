"""Topics, events and groups for one requester.

Owns: the right that each call needs, by Kafka's rules for the request that does the same, and what is left
out of lists and descriptions. Refuses: to say whether a topic or a group exists to a requester that may not
describe it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from mainstem.access_contract import Operation, ResourceType
from mainstem.contract import (
    NO_SETTINGS,
    GroupInfo,
    GroupSummary,
    Health,
    MemberHooks,
    NewEvent,
    Position,
    TopicInfo,
    TopicSummary,
    UnknownTopic,
)
from mainstem.door_contract import OnceResult, TopicChange
from mainstem.engines.authorized.declared import NO_RIGHT, AuthorizedPart, CallRight, checked, needs
from mainstem.engines.authorized.readers import AuthorizedMember, AuthorizedReader

DESCRIBE_TOPIC = CallRight(Operation.DESCRIBE, ResourceType.TOPIC)
READ_TOPIC = CallRight(Operation.READ, ResourceType.TOPIC)
WRITE_TOPIC = CallRight(Operation.WRITE, ResourceType.TOPIC)
CREATE_TOPIC = CallRight(Operation.CREATE, ResourceType.TOPIC)
DESCRIBE_CONFIGS = CallRight(Operation.DESCRIBE_CONFIGS, ResourceType.TOPIC)
DESCRIBE_GROUP = CallRight(Operation.DESCRIBE, ResourceType.GROUP)
READ_GROUP = CallRight(Operation.READ, ResourceType.GROUP)
DESCRIBE_CLUSTER = CallRight(Operation.DESCRIBE, ResourceType.CLUSTER)

HIDDEN_PROBLEM = "the event log has a problem; who may DESCRIBE the cluster sees which"


class AuthorizedLog(AuthorizedPart):
    """Implements `Engine`."""

    # --- events -------------------------------------------------------------------------------------------

    @needs(WRITE_TOPIC, CREATE_TOPIC)
    async def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Position]:
        """See the contract. A topic that does not exist needs the right to create it, too."""
        await self._require_writing(topic)
        positions: list[Position] = await self.engine.publish(topic, events)
        return positions

    async def _require_writing(self, topic: str) -> None:
        self.rights.require(Operation.WRITE, ResourceType.TOPIC, topic)
        if not self.rights.may_create(topic):
            try:
                await self.engine.topic_id(topic)
            except UnknownTopic:
                self.rights.require_creation(topic)

    partitions = checked("partitions", DESCRIBE_TOPIC, "topic")
    topic_id = checked("topic_id", DESCRIBE_TOPIC, "topic")
    bounds = checked("bounds", DESCRIBE_TOPIC, "topic")
    offset_for_time = checked("offset_for_time", DESCRIBE_TOPIC, "topic")

    @needs(READ_TOPIC)
    async def reader(self, start: Sequence[Position]) -> AuthorizedReader:
        """See the contract."""
        require = self._require_reading({position.topic for position in start})
        require()
        return AuthorizedReader(await self.engine.reader(start), self.rights, self.masks, self.clock, require)

    @needs(READ_GROUP, READ_TOPIC)
    async def join(
        self,
        group: str,
        topics: Sequence[str],
        *,
        start: Literal["earliest", "latest"],
        hooks: MemberHooks | None = None,
    ) -> AuthorizedMember:
        """See the contract."""
        require = self._require_reading(set(topics), group)
        require()
        return AuthorizedMember(
            await self.engine.join(group, topics, start=start, hooks=hooks),
            self.rights,
            self.masks,
            self.clock,
            require,
        )

    def _require_reading(self, topics: set[str], group: str | None = None) -> Callable[[], None]:
        def require() -> None:
            if group is not None:
                self.rights.require(Operation.READ, ResourceType.GROUP, group)
            for topic in sorted(topics):
                self.rights.require(Operation.READ, ResourceType.TOPIC, topic)

        return require

    # --- topics -------------------------------------------------------------------------------------------

    @needs(DESCRIBE_TOPIC)
    async def topics(self, *, internal: bool = False) -> list[TopicSummary]:
        """See the contract. Topics that the requester may not describe are left out."""
        topics: list[TopicSummary] = await self.engine.topics(internal=internal)
        return [topic for topic in topics if self._sees_topic(topic.name)]

    def _sees_topic(self, name: str) -> bool:
        return self.rights.allows(Operation.DESCRIBE, ResourceType.TOPIC, name)

    @needs(DESCRIBE_TOPIC, DESCRIBE_CONFIGS)
    async def topic(self, name: str) -> TopicInfo:
        """See the contract. Without the right to its settings, they are left out."""
        self.rights.require(Operation.DESCRIBE, ResourceType.TOPIC, name)
        info: TopicInfo = await self.engine.topic(name)
        if self.rights.allows(Operation.DESCRIBE_CONFIGS, ResourceType.TOPIC, name):
            return info
        return replace(info, settings=())

    @needs(CREATE_TOPIC)
    async def create_topic(
        self, name: str, *, partitions: int | None = None, settings: Mapping[str, str] = NO_SETTINGS
    ) -> None:
        """See the contract."""
        self.rights.require_creation(name)
        await self.engine.create_topic(name, partitions=partitions, settings=settings)

    add_partitions = checked("add_partitions", CallRight(Operation.ALTER, ResourceType.TOPIC), "name")
    alter_topic = checked("alter_topic", CallRight(Operation.ALTER_CONFIGS, ResourceType.TOPIC), "name")
    delete_topic = checked("delete_topic", CallRight(Operation.DELETE, ResourceType.TOPIC), "name")
    delete_records = checked("delete_records", CallRight(Operation.DELETE, ResourceType.TOPIC), "topic")

    # --- groups -------------------------------------------------------------------------------------------

    @needs(DESCRIBE_GROUP)
    async def groups(self) -> list[GroupSummary]:
        """See the contract. Groups that the requester may not describe are left out."""
        groups: list[GroupSummary] = await self.engine.groups()
        return [
            group
            for group in groups
            if self.rights.allows(Operation.DESCRIBE, ResourceType.GROUP, group.name)
        ]

    @needs(DESCRIBE_GROUP, DESCRIBE_TOPIC)
    async def group(self, name: str) -> GroupInfo:
        """See the contract. What it does in topics that the requester may not describe is left out."""
        self.rights.require(Operation.DESCRIBE, ResourceType.GROUP, name)
        info: GroupInfo = await self.engine.group(name)
        positions = tuple(position for position in info.positions if self._sees_topic(position.topic))
        members = tuple(
            replace(member, assigned=tuple(place for place in member.assigned if self._sees_topic(place[0])))
            for member in info.members
        )
        return replace(info, positions=positions, members=members)

    @needs(READ_GROUP, READ_TOPIC)
    async def set_positions(self, group: str, positions: Sequence[Position]) -> None:
        """See the contract."""
        self._require_reading({position.topic for position in positions}, group)()
        await self.engine.set_positions(group, positions)

    delete_group = checked("delete_group", CallRight(Operation.DELETE, ResourceType.GROUP), "name")

    # --- the cluster --------------------------------------------------------------------------------------

    @needs(*NO_RIGHT)
    async def cluster(self) -> object:
        """See the contract. As in Kafka, everybody who is let in sees the brokers."""
        return await self.engine.cluster()

    @needs(DESCRIBE_CLUSTER)
    async def health(self) -> Health:
        """See the contract. Everybody sees whether it is well; what the problems are names topics and files,
        and is for those who may describe the cluster."""
        health: Health = await self.engine.health()
        if self.rights.allows(Operation.DESCRIBE, ResourceType.CLUSTER):
            return health
        return Health(health.ok, (HIDDEN_PROBLEM,) if health.problems else ())

    @needs(*NO_RIGHT)
    async def close(self) -> None:
        """Does nothing: the engine is that of all requesters."""


class AuthorizedPublishOnce(AuthorizedLog):
    """Implements `PublishesOnce`."""

    @needs(WRITE_TOPIC, CREATE_TOPIC)
    async def publish_once(
        self,
        topic: str,
        producer: str,
        events: Sequence[tuple[int, NewEvent]],
        *,
        ids_may_repeat: bool = False,
    ) -> list[OnceResult]:
        """See the contract, and `publish`."""
        await self._require_writing(topic)
        results: list[OnceResult] = await self.engine.publish_once(
            topic, producer, events, ids_may_repeat=ids_may_repeat
        )
        return results

    last_published = checked("last_published", WRITE_TOPIC, "topic")


class AuthorizedTopicNews(AuthorizedLog):
    """Implements `WatchesTopics`."""

    @needs(DESCRIBE_TOPIC)
    def watch_topics(self, callback: Callable[[TopicChange], None]) -> Callable[[], None]:
        """See the contract. News of topics that the requester may not describe then are left out."""

        def pass_on(change: TopicChange) -> None:
            if self._sees_topic(change.topic):
                callback(change)

        stop: Callable[[], None] = self.engine.watch_topics(pass_on)
        return stop


class AuthorizedPreview(AuthorizedPart):
    """Implements `PreviewsSettings`."""

    preview_settings = checked("preview_settings", DESCRIBE_CONFIGS, "name")


class AuthorizedFiles(AuthorizedPart):
    """Implements `HasFiles`: where the bytes of a topic are, and not what they are."""

    @needs(DESCRIBE_TOPIC)
    def partition_files(self, topic: str, partition: int) -> object:
        """See the contract."""
        self.rights.require(Operation.DESCRIBE, ResourceType.TOPIC, topic)
        return self.engine.partition_files(topic, partition)

    byte_ranges = checked("byte_ranges", DESCRIBE_TOPIC, "topic")


class AuthorizedMetrics(AuthorizedPart):
    """Implements `ReportsMetrics`."""

    @needs(DESCRIBE_CLUSTER)
    def metric_values(self) -> Mapping[str, float]:
        """See the contract."""
        self.rights.require(Operation.DESCRIBE, ResourceType.CLUSTER)
        values: Mapping[str, float] = self.engine.metric_values()
        return values

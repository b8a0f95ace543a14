"""An engine and a search of a Kafka cluster that also have the audit, a topic in a log of this machine.

Owns: which of the two a call is about: the topic `__mainstem_audit` is that of the console's own folder, and
every other name is the cluster's, also if the cluster has a topic of that name. Refuses: changes of that
topic, groups that read it, and calls about topics of both.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from mainstem.contract import (
    NO_SETTINGS,
    Bounds,
    ClusterInfo,
    Engine,
    GroupInfo,
    GroupSummary,
    Health,
    InvalidArgument,
    Member,
    MemberHooks,
    NewEvent,
    NotAllowed,
    Position,
    Reader,
    TopicInfo,
    TopicSummary,
)
from mainstem.coordinator.topics.types import AUDIT_TOPIC
from mainstem.search.contract import (
    Bucket,
    Comparison,
    Facets,
    Search,
    SearchRequest,
    Update,
    decode_resume_token,
)

APART = f"{AUDIT_TOPIC} is in the console's own folder, apart from the cluster: read or search it by itself"


def _is_audit(topics: Iterable[str]) -> bool:
    """Whether the call is about the audit; InvalidArgument: also about others."""
    names = set(topics)
    if AUDIT_TOPIC not in names:
        return False
    if len(names) > 1:
        raise InvalidArgument(APART)
    return True


def _refuse(topics: Iterable[str], action: str) -> None:
    """NotAllowed: the audit is one of the topics."""
    if AUDIT_TOPIC in topics:
        raise NotAllowed(f"topic {AUDIT_TOPIC}: {action} is refused: only the console writes and changes it")


class EngineWithAudit:
    """Implements `Engine`. Closing it closes neither of the two engines."""

    def __init__(self, cluster: Engine, own: Engine) -> None:
        """`own`: the engine of the log that has the audit."""
        self._cluster = cluster
        self._own = own

    def _of(self, topic: str) -> Engine:
        return self._own if topic == AUDIT_TOPIC else self._cluster

    # --- events -------------------------------------------------------------------------------------------

    async def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Position]:
        """See the contract."""
        _refuse([topic], "publishing")
        return await self._cluster.publish(topic, events)

    async def partitions(self, topic: str) -> int:
        """See the contract."""
        return await self._of(topic).partitions(topic)

    async def topic_id(self, topic: str) -> str:
        """See the contract."""
        return await self._of(topic).topic_id(topic)

    async def bounds(self, topic: str, partition: int) -> Bounds:
        """See the contract."""
        return await self._of(topic).bounds(topic, partition)

    async def offset_for_time(self, topic: str, partition: int, time_ms: int) -> int | None:
        """See the contract."""
        return await self._of(topic).offset_for_time(topic, partition, time_ms)

    async def reader(self, start: Sequence[Position]) -> Reader:
        """See the contract. InvalidArgument: the audit together with other topics."""
        is_audit = _is_audit(position.topic for position in start)
        return await (self._own if is_audit else self._cluster).reader(start)

    async def join(
        self,
        group: str,
        topics: Sequence[str],
        *,
        start: Literal["earliest", "latest"],
        hooks: MemberHooks | None = None,
    ) -> Member:
        """See the contract."""
        _refuse(topics, "reading in a group")
        return await self._cluster.join(group, topics, start=start, hooks=hooks)

    # --- topics and groups --------------------------------------------------------------------------------

    async def topics(self, *, internal: bool = False) -> list[TopicSummary]:
        """See the contract."""
        cluster = await self._cluster.topics(internal=internal)
        topics = [topic for topic in cluster if topic.name != AUDIT_TOPIC]
        if internal:
            own = await self._own.topics(internal=True)
            topics += [topic for topic in own if topic.name == AUDIT_TOPIC]
        return sorted(topics, key=lambda topic: topic.name)

    async def topic(self, name: str) -> TopicInfo:
        """See the contract."""
        return await self._of(name).topic(name)

    async def create_topic(
        self, name: str, *, partitions: int | None = None, settings: Mapping[str, str] = NO_SETTINGS
    ) -> None:
        """See the contract."""
        _refuse([name], "creating it")
        await self._cluster.create_topic(name, partitions=partitions, settings=settings)

    async def add_partitions(self, name: str, total: int) -> None:
        """See the contract."""
        _refuse([name], "adding partitions")
        await self._cluster.add_partitions(name, total)

    async def alter_topic(self, name: str, settings: Mapping[str, str | None]) -> None:
        """See the contract."""
        _refuse([name], "changing it")
        await self._cluster.alter_topic(name, settings)

    async def delete_topic(self, name: str) -> None:
        """See the contract."""
        _refuse([name], "deleting it")
        await self._cluster.delete_topic(name)

    async def delete_records(self, topic: str, partition: int, before: int) -> int:
        """See the contract."""
        _refuse([topic], "deleting events")
        return await self._cluster.delete_records(topic, partition, before)

    async def groups(self) -> list[GroupSummary]:
        """See the contract."""
        return await self._cluster.groups()

    async def group(self, name: str) -> GroupInfo:
        """See the contract."""
        return await self._cluster.group(name)

    async def set_positions(self, group: str, positions: Sequence[Position]) -> None:
        """See the contract."""
        _refuse([position.topic for position in positions], "reading in a group")
        await self._cluster.set_positions(group, positions)

    async def delete_group(self, name: str) -> None:
        """See the contract."""
        await self._cluster.delete_group(name)

    # --- both ---------------------------------------------------------------------------------------------

    async def cluster(self) -> ClusterInfo:
        """See the contract."""
        return await self._cluster.cluster()

    async def health(self) -> Health:
        """See the contract: that of the cluster, and the problems of the own folder, too."""
        cluster, own = await self._cluster.health(), await self._own.health()
        problems = [*cluster.problems, *(f"the console's own folder: {text}" for text in own.problems)]
        return Health(cluster.ok and own.ok, tuple(problems), cluster.damaged)

    async def close(self) -> None:
        """Does nothing."""


class SearchWithAudit:
    """Implements `Search`. Closing it closes neither of the two searches."""

    def __init__(self, cluster: Callable[[], Search], own: Callable[[], Search]) -> None:
        """Both return their search, which is created at the first call."""
        self._cluster = cluster
        self._own = own

    def search(self, request: SearchRequest) -> AsyncGenerator[Update, None]:
        """See the contract. InvalidArgument also for the audit together with other topics, as for all that
        follow."""
        search, limit = self._of(_names([request]))
        return search.search(limit(request))

    async def histogram(
        self,
        topics: Sequence[str],
        since_ms: int | None,
        until_ms: int | None,
        buckets: int,
        *,
        readable: Callable[[str], bool] | None = None,
    ) -> list[Bucket]:
        """See the contract."""
        search, limit = self._of(topics)
        readable = limit(SearchRequest(readable=readable)).readable
        return await search.histogram(topics, since_ms, until_ms, buckets, readable=readable)

    def facets(
        self, request: SearchRequest, fields: Sequence[str], top: int
    ) -> AsyncGenerator[Update | Facets, None]:
        """See the contract."""
        search, limit = self._of(_names([request]))
        return search.facets(limit(request), fields, top)

    def compare(
        self, selection: SearchRequest, baseline: SearchRequest, fields: Sequence[str] = (), top: int = 20
    ) -> AsyncGenerator[Update | Comparison, None]:
        """See the contract."""
        search, limit = self._of(_names([selection, baseline]))
        return search.compare(limit(selection), limit(baseline), fields, top)

    def _of(self, topics: Iterable[str]) -> tuple[Search, Callable[[SearchRequest], SearchRequest]]:
        """The search of these topics, and what makes a request one for it. InvalidArgument: they are topics
        of both."""
        if _is_audit(topics):
            return self._own(), lambda request: request
        return self._cluster(), _of_cluster

    def prepare(self) -> None:
        """See the contract: the cluster is what is searched most."""
        self._cluster().prepare()

    async def close(self) -> None:
        """Does nothing."""


def _names(requests: Iterable[SearchRequest]) -> set[str]:
    """The topics that the requests name; of a search that continues, those that its token names."""
    names: set[str] = set()
    for request in requests:
        if request.resume is None:
            names.update(request.topics or [""])  # no name: all topics but internal ones
        else:
            names.update(target.topic for target in decode_resume_token(request)[1])
    return names


def _of_cluster(request: SearchRequest) -> SearchRequest:
    """The request without a topic of the cluster that has the name of the audit: who may read the one need
    not be allowed to read the other."""

    def readable(topic: str) -> bool:
        if topic == AUDIT_TOPIC:
            raise InvalidArgument(APART)
        return request.readable is None or request.readable(topic)

    return replace(request, readable=readable)

"""A search for one requester: over the topics that they may READ, as if there were no others.

Owns: that topics are left out before anything is planned or counted, that a search ends within RECHECK_S of a
change that revokes the right to one of its topics, and that it neither tests nor shows what is masked.
Refuses: to close the search, which is that of all requesters.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar, cast

from mainstem.access_contract import Operation, RequesterRights, ResourceType
from mainstem.clock import Clock
from mainstem.contract import NotAuthorized
from mainstem.engines.authorized.revocation import while_allowed
from mainstem.masking.contract import RequesterMasks, is_visible_field, parsed_queries
from mainstem.search.contract import Bucket, Comparison, Facets, Hit, Search, SearchRequest, Update
from mainstem.search.query.ast import Node

T = TypeVar("T")


class _SearchedTopics:
    """Decides which topics a search may read, and remembers those that it read. `queries` and `fields`: what
    the search tests and counts."""

    def __init__(
        self,
        rights: RequesterRights,
        masks: RequesterMasks,
        queries: Sequence[str] = (),
        fields: Sequence[str] = (),
    ) -> None:
        self._rights = rights
        self._masks = masks
        self._texts = queries
        self._fields = fields
        self._topics: set[str] = set()
        self._denied: set[str] = set()

    @cached_property
    def _queries(self) -> Sequence[Node]:
        return parsed_queries(self._texts)

    def __call__(self, topic: str) -> bool:
        """Whether the search reads this topic. InvalidArgument: it would reveal what is masked there. That is
        no reason to leave the topic out, as if it had no matches."""
        if not self._rights.allows(Operation.READ, ResourceType.TOPIC, topic):
            self._denied.add(topic)
            return False
        if self._masks.are_any:
            for query in self._queries:
                self._masks.check_query(query, topic)
        self._masks.check_fields(self._fields, topic)
        self._topics.add(topic)
        return True

    def refused(self) -> None:
        """The search was refused, because it names a topic that may not be read: that is a denial, which the
        audit learns of, and no topic that is left out."""
        for topic in sorted(self._denied):
            with contextlib.suppress(NotAuthorized):
                self._rights.require(Operation.READ, ResourceType.TOPIC, topic)

    def visible(self, update: T) -> T:
        """The update as the requester may see it. InvalidArgument: what the search tests is masked now."""
        if not self._masks.are_any:
            return update
        for topic in (update.event.topic,) if isinstance(update, Hit) else self._topics:
            for query in self._queries:
                self._masks.check_query(query, topic)
        result: Any = update
        if isinstance(update, Hit):
            result = Hit(self._masks.visible(update.event))
        elif isinstance(update, Facets):
            paths = self._masks.masked_paths(self._topics)
            values = {
                field: counts for field, counts in update.values.items() if is_visible_field(field, paths)
            }
            result = replace(update, values=values)
        elif isinstance(update, Comparison):
            paths = self._masks.masked_paths(self._topics)
            differences = [item for item in update.differences if is_visible_field(item.field, paths)]
            result = replace(update, differences=differences)
        return cast(T, result)

    def require(self) -> None:
        """Raise NotAuthorized if one of the topics may not be read any more."""
        for topic in sorted(self._topics):
            self._rights.require(Operation.READ, ResourceType.TOPIC, topic)


class AuthorizedSearch:
    """Implements `Search`. `search` returns the search itself, which is created at the first call."""

    def __init__(
        self, search: Callable[[], Search], rights: RequesterRights, masks: RequesterMasks, clock: Clock
    ) -> None:
        self._search = search
        self._rights = rights
        self._masks = masks
        self._clock = clock

    def search(self, request: SearchRequest) -> AsyncGenerator[Update, None]:
        """See the contract. NotAuthorized also if a right is revoked meanwhile; so for the following."""
        topics = _SearchedTopics(self._rights, self._masks, [request.query])
        return self._checked(self._search().search(replace(request, readable=topics)), topics)

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
        assert readable is None, "the requester's rights say what is readable"
        searched = _SearchedTopics(self._rights, self._masks)
        counting = self._search().histogram(topics, since_ms, until_ms, buckets, readable=searched)
        try:
            return await while_allowed(self._rights, self._clock, searched.require, counting)
        except NotAuthorized:
            searched.refused()
            raise

    def facets(
        self, request: SearchRequest, fields: Sequence[str], top: int
    ) -> AsyncGenerator[Update | Facets, None]:
        """See the contract."""
        topics = _SearchedTopics(self._rights, self._masks, [request.query], fields)
        return self._checked(self._search().facets(replace(request, readable=topics), fields, top), topics)

    def compare(
        self, selection: SearchRequest, baseline: SearchRequest, fields: Sequence[str] = (), top: int = 20
    ) -> AsyncGenerator[Update | Comparison, None]:
        """See the contract."""
        topics = _SearchedTopics(self._rights, self._masks, [selection.query, baseline.query], fields)
        compared = self._search().compare(
            replace(selection, readable=topics), replace(baseline, readable=topics), fields, top
        )
        return self._checked(compared, topics)

    async def _checked(
        self, updates: AsyncGenerator[T, None], topics: _SearchedTopics
    ) -> AsyncGenerator[T, None]:
        """The updates, until a right is revoked."""
        version = self._rights.version
        try:
            while True:
                update = await while_allowed(self._rights, self._clock, topics.require, anext(updates, None))
                if self._rights.version != version:  # while the client did not read
                    version = self._rights.version
                    topics.require()
                if update is None:
                    return
                yield topics.visible(update)
        except NotAuthorized:
            topics.refused()
            raise
        finally:
            await updates.aclose()

    def prepare(self) -> None:
        """See the contract."""
        self._search().prepare()

    async def close(self) -> None:
        """Does nothing."""

"""The compiled filters of subscriptions.

Owns: which subscriptions share one, so that the scan asks each question once. Refuses: what a query means
(`search/match`).
"""

from __future__ import annotations

from weakref import WeakValueDictionary

from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.search.match.matcher import Matcher, terms
from mainstem.search.query.parser import parse


class Matchers:
    """The matchers that are in use."""

    def __init__(self) -> None:
        self._matchers: WeakValueDictionary[tuple[str, int | None], Matcher] = WeakValueDictionary()

    def of(self, stored: SubscriptionMetadata) -> Matcher | None:
        """That of a subscription; None if it has no filter. Subscriptions with equal filters share one,
        unless the filter speaks of times, which may be relative to the creation of the subscription."""
        query = stored.settings.filter
        if not query:
            return None
        node = parse(query)
        has_times = any(term.target.kind == "time" for term in terms(node))
        key = query, stored.created_ms if has_times else None
        matcher = self._matchers.get(key)
        if matcher is None:
            matcher = self._matchers[key] = Matcher(node, stored.created_ms)
        return matcher

"""The view of an engine for one requester.

Owns: which parts a view has: those of the capabilities that its engine has. It is below the doors, so that no
route can forget it. Refuses: every call that is not declared, such as those of the server's own parts
(NOT_OFFERED): a view has no other methods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from mainstem.access_contract import Authorizer, Requester, RequesterRights
from mainstem.attach_contract import AttachesConsumers
from mainstem.clock import Clock
from mainstem.contract import Engine, HasFiles, PreviewsSettings, ReportsMetrics
from mainstem.door_contract import PublishesOnce, WatchesTopics
from mainstem.engines.authorized import log
from mainstem.engines.authorized.attached import AuthorizedAttaching
from mainstem.engines.authorized.queues import AuthorizedQueues
from mainstem.engines.authorized.routed import AuthorizedRouting
from mainstem.engines.authorized.search import AuthorizedSearch
from mainstem.masking.contract import Masks, RequesterMasks
from mainstem.queue_contract import Queues
from mainstem.routing_contract import OffersRoutedQueues
from mainstem.search.contract import Search

_PARTS: tuple[tuple[Any, type], ...] = (
    (AttachesConsumers, AuthorizedAttaching),
    (Queues, AuthorizedQueues),
    (OffersRoutedQueues, AuthorizedRouting),
    (PublishesOnce, log.AuthorizedPublishOnce),
    (WatchesTopics, log.AuthorizedTopicNews),
    (PreviewsSettings, log.AuthorizedPreview),
    (HasFiles, log.AuthorizedFiles),
    (ReportsMetrics, log.AuthorizedMetrics),
)
"""Each capability, and the part of a view that implements it."""

NOT_OFFERED = frozenset(
    {
        "attach_dead_letter_sink",
        "attach_pusher",
        "batch_queues",
        "clock_moved",
        "indexed_topics",
        "publish_plain",
        "skip_blocks_by",
    }
)
"""Calls of engines that are for parts of the server, which check the rights of their clients themselves."""


class AuthorizedViews:
    """Makes the views of an engine and a search for each requester."""

    def __init__(
        self,
        engine: Engine,
        search: Callable[[], Search],
        authorizer: Authorizer,
        masks: Masks,
        clock: Clock,
    ) -> None:
        """`search` returns the search, which is created at the first call."""
        self._engine = engine
        self._search = search
        self._authorizer = authorizer
        self._masks = masks
        self._clock = clock
        parts = (part for capability, part in _PARTS if isinstance(engine, capability))
        self._class = type("AuthorizedEngine", (*parts, log.AuthorizedLog), {})

    def limit(self, requester: Requester) -> bool:
        """See `RequesterViews`."""
        return RequesterRights(self._authorizer, requester).are_limited or self._masks.has_rules

    def masks(self, requester: Requester) -> RequesterMasks:
        """See `RequesterViews`."""
        return RequesterMasks(self._masks, requester)

    def engine(self, requester: Requester) -> Engine:
        """The engine as this requester may use it. Calls that are not allowed raise NotAuthorized; lists have
        only what the requester may describe; events have masks in the place of what is masked."""
        return cast(Engine, self._class(self._engine, *self._of(requester), self._clock))

    def search(self, requester: Requester) -> Search:
        """The search of the topics that this requester may read."""
        return AuthorizedSearch(self._search, *self._of(requester), self._clock)

    def _of(self, requester: Requester) -> tuple[RequesterRights, RequesterMasks]:
        return RequesterRights(self._authorizer, requester), self.masks(requester)

"""What doors and engines see of masking: which mask a requester gets, and the rules and their changes.

Owns: the protocol, and `RequesterMasks`, with which a view of the engine masks what it returns. Refuses: to
keep rules, which the coordinator does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from mainstem.access_contract import ANY_NAME, Requester
from mainstem.contract import Event, NotAuthorized
from mainstem.masking.mask import TopicMask
from mainstem.masking.query_check import check_fields, check_query, is_masked_field
from mainstem.masking.rules import MaskPath, MaskRule
from mainstem.promise import Promise
from mainstem.search.query.ast import Node
from mainstem.search.query.errors import QueryError
from mainstem.search.query.parser import parse


class Masks(Protocol):
    """The masks of a server."""

    on_change: list[Callable[[], None]]
    """Called after each change of a rule, once what is shown follows it."""

    def mask_of(self, requester: Requester, topic: str) -> TopicMask | None:
        """The mask through which the requester sees the events of a topic; None: they see all of them.
        Cheap: masks are cached until a rule changes."""

    @property
    def has_rules(self) -> bool:
        """Whether there may be something to mask."""

    def rules(self) -> Sequence[MaskRule]:
        """All rules, by name."""

    def put_rule(self, rule: MaskRule, *, validate_only: bool = False) -> Promise[None]:
        """Add a rule, or replace the one of its name. Done when that is durable; what is shown from then on
        is masked by it. `validate_only`: nothing is changed, and what would be refused is."""

    def delete_rule(self, name: str) -> Promise[bool]:
        """Remove the rule of this name. Done when that is durable: whether there was one."""

    def preview(self, rule: MaskRule) -> TopicMask:
        """The mask of this rule alone, with the hashes of this server, whether it exists or not."""


class RequesterMasks:
    """What is masked for one requester, asked of the rules anew each time."""

    __slots__ = ("_masks", "_requester")

    def __init__(self, masks: Masks, requester: Requester) -> None:
        self._masks = masks
        self._requester = requester

    @property
    def are_any(self) -> bool:
        """Whether there may be something that is masked."""
        return self._masks.has_rules

    def of(self, topic: str) -> TopicMask | None:
        """See `Masks.mask_of`."""
        return self._masks.mask_of(self._requester, topic)

    def visible(self, event: Event) -> Event:
        """The event as the requester may see it."""
        mask = self.of(event.topic)
        return event if mask is None else mask.masked(event)

    def require_plain(self, topics: Iterable[str], action: str) -> None:
        """Raise NotAuthorized if something of these topics is masked: the action would reveal it."""
        for topic in topics:
            if self.of(topic) is not None:
                raise NotAuthorized(
                    f"{self._requester.principal.text} may not {action}: topic {topic} has masked fields"
                )

    def require_none(self, action: str) -> None:
        """Raise NotAuthorized if something of any topic is masked: the action may reveal it."""
        if self.are_any:
            self.require_plain([*self._masked_names(), ANY_NAME], action)

    def check_query_of_any(self, query: Node) -> None:
        """Raise InvalidArgument if the query tests something that is masked in any topic."""
        for topic in self._masked_names():
            self.check_query(query, topic)

    def _masked_names(self) -> list[str]:
        """For each rule, the name of a topic that it is about."""
        return [rule.topic for rule in self._masks.rules()]

    def check_query(self, query: Node, topic: str) -> None:
        """Raise InvalidArgument if the query tests something that is masked in the topic."""
        mask = self.of(topic)
        if mask is not None:
            check_query(query, mask.rules, topic)

    def check_fields(self, fields: Iterable[str], topic: str) -> None:
        """Raise InvalidArgument if one of these fields is masked in the topic."""
        mask = self.of(topic)
        if mask is not None:
            check_fields(fields, mask.rules, topic)

    def masked_paths(self, topics: Iterable[str]) -> list[MaskPath]:
        """What is masked in any of these topics."""
        return [rule.path for topic in topics if (mask := self.of(topic)) for rule in mask.rules]


def parsed_queries(texts: Iterable[str]) -> list[Node]:
    """The queries of these texts, but those that cannot be parsed: these are refused by those who execute
    them."""
    queries = []
    for text in texts:
        with contextlib.suppress(QueryError):
            queries.append(parse(text))
    return queries


def is_visible_field(field: str, paths: Iterable[MaskPath]) -> bool:
    """Whether a field of facets shows nothing of these."""
    return field in ("topic", "partition") or not is_masked_field(field, paths)

"""Checks the settings of a subscription before it is created or altered, beyond the range of each.

Owns: which settings go together, and which a routed queue has. Refuses: to look anything up.
"""

from __future__ import annotations

from mainstem.contract import InvalidArgument
from mainstem.queues.push_settings import push_problem
from mainstem.queues.settings import SubscriptionSettings
from mainstem.search.query.parser import QueryError, parse


def check_delivery_settings(settings: SubscriptionSettings) -> None:
    """Check what is about deliveries. InvalidArgument."""
    if settings.lock_ms < 1:
        raise InvalidArgument("lock_ms is 1 or more, for a consumer that pulls has no connection to lose")
    if settings.by_priority and settings.in_key_order:
        raise InvalidArgument("by_priority and in_key_order contradict each other")
    if settings.priority_max and (settings.by_priority or settings.in_key_order):
        raise InvalidArgument("priority_max goes neither with by_priority nor with in_key_order")
    if settings.durable_leases and settings.in_key_order:
        raise InvalidArgument("durable_leases does not go with in_key_order: a restart forgets the keys")
    if settings.dead_letter_topic in settings.topics:
        raise InvalidArgument("the dead-letter topic cannot be a topic of the subscription")
    if settings.push is not None and (problem := push_problem(settings.push)):
        raise InvalidArgument(problem)
    if settings.filter:
        try:
            parse(settings.filter)
        except QueryError as error:
            raise InvalidArgument(f"the filter is no query: {error}") from None


def check_tokens(settings: SubscriptionSettings, issuer: str | None) -> None:
    """Check that the server, whose tokens have this issuer, can give those that are asked for.
    InvalidArgument."""
    if settings.push is not None and settings.push.token_audience and issuer is None:
        raise InvalidArgument("the server signs no tokens: its setting push_issuer is empty")


def check_routed_settings(settings: SubscriptionSettings) -> None:
    """Check the settings of a routed queue. InvalidArgument: also for those that mean nothing there: it gets
    what is published to it from its creation on, whatever the topics."""
    for name, is_set in {
        "topics": settings.topics,
        "from_latest": settings.from_latest,
        "durable_leases": settings.durable_leases,
    }.items():
        if is_set:
            raise InvalidArgument(f"a queue of a namespace has no {name}")
    if settings.dead_letters_to_sink and settings.dead_letter_topic is not None:
        raise InvalidArgument("dead letters go to a topic or to the sink of a door")
    check_delivery_settings(settings)

"""Checks the settings of a subscription before it is created or altered, beyond the range of each.

Owns: which settings go together, and which a routed queue has. Refuses: to look anything up.
"""

from __future__ import annotations

from mainstem.contract import InvalidArgument
from mainstem.queues.push_settings import push_problem
from mainstem.queues.settings import SubscriptionSettings


def check_delivery_settings(settings: SubscriptionSettings) -> None:
    """Check what is about deliveries. InvalidArgument."""
    if settings.lock_ms < 1:
        raise InvalidArgument("lock_ms is 1 or more, for a consumer that pulls has no connection to lose")
    if settings.by_priority and settings.in_key_order:
        raise InvalidArgument("by_priority and in_key_order contradict each other")
    if settings.dead_letter_topic in settings.topics:
        raise InvalidArgument("the dead-letter topic cannot be a topic of the subscription")
    if settings.push is not None and (problem := push_problem(settings.push)):
        raise InvalidArgument(problem)


def check_routed_settings(settings: SubscriptionSettings) -> None:
    """Check the settings of a routed queue. InvalidArgument: also for those that are about topics."""
    for name, is_set in {
        "topics": settings.topics,
        "filter": settings.filter,
        "in_key_order": settings.in_key_order,
        "from_latest": settings.from_latest,
        "pin_ms": settings.pin_ms,
        "ttl_ms": settings.ttl_ms,
        "by_priority": settings.by_priority,
    }.items():
        if is_set:
            raise InvalidArgument(f"a queue of a namespace has no {name}")
    check_delivery_settings(settings)

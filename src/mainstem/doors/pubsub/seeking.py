"""Seeks of subscriptions to a time: what is delivered again, and what is not any more.

A seek back delivers acknowledged messages again if the subscription or its topic retains them, as Google's
does; the log has them anyway, and `mainstem queues seek` delivers them in any case. A seek into the future
discards what is published until then.

Owns: these rules. Refuses: snapshots (`snapshots.py`), and fields of requests.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mainstem.contract import Engine, Position
from mainstem.doors.pubsub.subscription_catalog import PubsubSubscription, SubscriptionCatalog, queues_of
from mainstem.queue_contract import Ack, Delivery, Queues

BROWSED_MAX = 1_000
LAST_OFFSET = 1 << 62


async def seek_to_time(
    catalog: SubscriptionCatalog,
    engine: Engine,
    subscription: PubsubSubscription,
    time_ms: int,
    now_ms: int,
    *,
    retains_acked: bool,
) -> None:
    """Let what was published before a time be acknowledged. `retains_acked`: whether what was published since
    then is delivered again though it was acknowledged."""
    queues = queues_of(engine)
    await set_discarded_until(catalog, engine, subscription, time_ms if time_ms > now_ms else 0)
    if time_ms >= now_ms:
        await queues.seek(subscription.queue, "latest")
    elif retains_acked:
        await queues.seek(subscription.queue, time_ms)
    else:
        await _discard_before(queues, subscription.queue, time_ms)


async def set_discarded_until(
    catalog: SubscriptionCatalog, engine: Engine, subscription: PubsubSubscription, time_ms: int
) -> None:
    """Discard what was or is published before a time, whatever is sought later; 0: discard nothing."""
    if subscription.stored.discard_until_ms != time_ms:
        stored = msgspec.structs.replace(subscription.stored, discard_until_ms=time_ms)
        await catalog.store(queues_of(engine), subscription, stored)


async def _discard_before(queues: Queues, queue: str, time_ms: int) -> None:
    """Let what was published before a time be acknowledged, but for what consumers have. In a partition,
    times rise with the offset."""
    after: Position | None = None
    while events := await queues.browse(queue, after=after, max_events=BROWSED_MAX):
        earlier: list[Position] = []
        for browsed in events:
            event = browsed.event
            if after == Position(event.topic, event.partition, LAST_OFFSET):
                continue
            if event.timestamp_ms < time_ms:
                after = Position(event.topic, event.partition, event.offset)
                earlier.append(after)
            else:
                after = Position(event.topic, event.partition, LAST_OFFSET)
        if earlier:
            await queues.cancel(queue, earlier)


async def without_discarded(
    engine: Engine, subscription: PubsubSubscription, deliveries: Sequence[Delivery]
) -> Sequence[Delivery]:
    """The deliveries without those that a seek into the future has discarded; they are acknowledged."""
    until_ms = subscription.stored.discard_until_ms
    if not until_ms:
        return deliveries
    discarded = [delivery for delivery in deliveries if delivery.event.timestamp_ms < until_ms]
    if discarded:
        await queues_of(engine).settle(subscription.queue, [Ack(delivery.token) for delivery in discarded])
    return [delivery for delivery in deliveries if delivery.event.timestamp_ms >= until_ms]

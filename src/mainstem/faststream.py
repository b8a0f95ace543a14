"""Dead letters for FastStream: attempts with a backoff, then the event goes to a topic of dead letters.

    broker = KafkaBroker("127.0.0.1:9092", middlewares=[DeadLetters])

    @broker.subscriber("orders", "orders.billing.retry", group_id="billing", auto_offset_reset="earliest",
                       ack_policy=AckPolicy.NACK_ON_ERROR)
    async def bill(order: Order) -> None: ...

Owns: a middleware for `faststream.kafka` and `faststream.confluent`, by their public API. Refuses: batches,
and attempts that are counted across the death of the process.

The partition waits while an event is tried again, so its order is kept. The dead letter is in the topic
TOPIC.GROUP.dead, with the headers of mainstem's own dead letters, except the topic's id and the event's
time; `mainstem replay TOPIC.GROUP.dead --to TOPIC.GROUP.retry` gives it to this group alone once more.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from faststream import BaseMiddleware
from faststream.exceptions import AckMessage, IgnoredException

from mainstem.clock import BlockingClock
from mainstem.queue_contract import (
    DEAD_LETTER_ATTEMPTS_HEADER,
    DEAD_LETTER_DETAIL_HEADER,
    DEAD_LETTER_FROM_HEADER,
    DEAD_LETTER_REASON_HEADER,
    DEAD_LETTER_SUBSCRIPTION_HEADER,
    DEAD_LETTER_TIME_HEADER,
)

REASON_CHARS_MAX = 500


class DeadLetters(BaseMiddleware[Any, Any]):
    """Calls the handler up to `max_attempts` times, after `initial_delay_s`, then twice that, up to
    `max_delay_s`. Keep the sum below the consumer's `max_poll_interval_ms`. `DeadLetters.after(…)` has
    other numbers."""

    max_attempts = 5
    initial_delay_s = 1.0
    max_delay_s = 60.0

    @classmethod
    def after(
        cls, max_attempts: int, *, initial_delay_s: float = 1.0, max_delay_s: float = 60.0
    ) -> type[DeadLetters]:
        """The middleware with these numbers. ValueError: fewer than one attempt."""
        if max_attempts < 1:
            raise ValueError("max_attempts is 1 or more")
        numbers = {
            "max_attempts": max_attempts,
            "initial_delay_s": initial_delay_s,
            "max_delay_s": max_delay_s,
        }
        return type("DeadLetters", (cls,), numbers)

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        """See FastStream's BaseMiddleware."""
        for attempt in itertools.count(1):
            try:
                return await call_next(msg)
            except IgnoredException:  # the handler's own AckMessage, RejectMessage and so on
                raise
            except Exception as error:
                if attempt >= self.max_attempts:
                    await self._publish(msg, error)
                    raise AckMessage from error
            await asyncio.sleep(min(self.initial_delay_s * 2.0 ** min(attempt - 1, 60), self.max_delay_s))
        raise AssertionError("unreachable")

    async def _publish(self, msg: Any, error: Exception) -> None:
        topic, partition, offset, key = _place(msg.raw_message)
        group = self.context.get_local("handler_").group_id or ""
        retry_suffix = f".{group}.retry"
        name = topic.removesuffix(".retry") if topic.endswith(retry_suffix) else f"{topic}.{group}"
        headers = {
            DEAD_LETTER_FROM_HEADER: f"{topic}/{partition}/{offset}",
            **{header: value for header, value in msg.headers.items() if header != "content-type"},
            DEAD_LETTER_SUBSCRIPTION_HEADER: name,
            DEAD_LETTER_REASON_HEADER: "failed",
            DEAD_LETTER_DETAIL_HEADER: f"{type(error).__name__}: {error}"[:REASON_CHARS_MAX],
            DEAD_LETTER_ATTEMPTS_HEADER: str(self.max_attempts),
            DEAD_LETTER_TIME_HEADER: str(BlockingClock().wall_ms()),
        }
        publish = partial(self.context.get("broker").publish, msg.body, f"{name}.dead")
        await publish(key=key, headers=headers)


def _place(raw: Any) -> tuple[str, int, int, bytes | None]:
    """Topic, partition, offset and key of a message of aiokafka or of confluent-kafka."""
    if callable(raw.topic):
        return raw.topic(), raw.partition(), raw.offset(), raw.key()
    return raw.topic, raw.partition, raw.offset, raw.key

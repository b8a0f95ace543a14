"""Publishes the dead letters of a subscriber on a Kafka cluster, and the copies of what it puts off.

Owns: their two topics, TOPIC.GROUP.dead and TOPIC.GROUP.retry, with as many partitions as the topic has.
Refuses: to return before what it publishes is durable: its event is done then.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from mainstem.api.backend import HasWallClock
from mainstem.api.scheduler.letters import RETRY_SUFFIX, dead_letter, put_off
from mainstem.api.subscriber import SubscriberOptions
from mainstem.contract import (
    Engine,
    Event,
    EventTooLarge,
    InvalidArgument,
    NewEvent,
    StreamError,
    TopicExists,
    UnknownTopic,
)

PAUSE_S_FIRST, PAUSE_S_MAX = 0.5, 30.0
APPEARS_S_MAX = 10.0
KEPT_FOR_EVER = {"retention.ms": "-1"}
log = logging.getLogger(__name__)


class LetterBox:
    """The two topics of a subscriber."""

    def __init__(self, options: SubscriberOptions, engine: Engine, clock: HasWallClock) -> None:
        self._options = options
        self._engine = engine
        self._clock = clock
        self._topic_id = ""
        self.dead_topic = options.dead_topic
        self.retry_topic = options.name + RETRY_SUFFIX

    async def prepare(self) -> None:
        """Make the topics that are missing. StreamError; UnknownTopic: the topic itself is."""
        partitions = await self._engine.partitions(self._options.topic)
        self._topic_id = await self._engine.topic_id(self._options.topic)
        for topic in (self.dead_topic, self.retry_topic):
            await self._make(topic, partitions)

    async def _make(self, topic: str, partitions: int) -> None:
        with suppress(UnknownTopic):
            await self._engine.partitions(topic)
            return
        with suppress(TopicExists):
            await self._engine.create_topic(topic, partitions=partitions, settings=KEPT_FOR_EVER)
        async with asyncio.timeout(APPEARS_S_MAX):
            while True:  # a cluster's other brokers may hear of it a moment later
                with suppress(UnknownTopic):
                    await self._engine.bounds(topic, 0)
                    return
                await asyncio.sleep(0.05)

    async def put_off(self, event: Event, attempts: int, not_before_ms: int) -> str:
        """Publish a copy of an event that is to be handled at this time. Returns why it cannot be; empty: it
        is published."""
        is_copy = event.topic == self.retry_topic
        copy = put_off(event, attempts, not_before_ms, is_copy=is_copy)
        try:
            await self._publish(self.retry_topic, copy)
        except (EventTooLarge, InvalidArgument) as error:
            return str(error)
        return ""

    async def give_up(self, event: Event, reason: str, detail: str, attempts: int) -> None:
        """Publish the dead letter of an event."""
        letter = dead_letter(
            event,
            self._options.name,
            is_copy=event.topic == self.retry_topic,
            reason=reason,
            detail=detail,
            attempts=attempts,
            topic_id=self._topic_id,
            now_ms=self._clock.wall_ms(),
        )
        try:
            await self._publish(self.dead_topic, letter)
        except (EventTooLarge, InvalidArgument) as error:  # too large with its headers
            log.warning("%s: published without its value: %s", self.dead_topic, error)
            await self._publish(self.dead_topic, NewEvent(None, letter.key, letter.headers))

    async def _publish(self, topic: str, letter: NewEvent) -> None:
        """Publish, however long it takes. EventTooLarge, InvalidArgument."""
        pause_s = PAUSE_S_FIRST
        while True:
            try:
                await self._engine.publish(topic, [letter])
                return
            except (EventTooLarge, InvalidArgument):
                raise
            except UnknownTopic:
                with suppress(StreamError, TimeoutError):
                    await self._make(topic, await self._engine.partitions(self._options.topic))
            except StreamError as error:
                log.warning("%s: not published, tried again in %g s: %s", topic, pause_s, error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

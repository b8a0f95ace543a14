"""Streams of a virtual host: queues of the type stream, which are topics.

They are the streams of the stream protocol, under the same names. A stream that is declared gets a topic; one
whose topic is there already, made by whichever door, is taken over. Owns: the topics of streams, and what of
them a requester may do: it is done as the requester's engine allows it. Refuses: messages, and consumers.
"""

from __future__ import annotations

from mainstem.amqp.errors import amqp_error, inequivalent
from mainstem.amqp.publisher import TOPIC_SETTINGS
from mainstem.amqp.streams import StreamPlace, has_settings, message_count, place_of, stream_settings
from mainstem.amqp.topic_names import is_of_exchange
from mainstem.amqp.topology import AmqpQueue, QueueDeclaration, QueueFigures
from mainstem.amqp.vhost_exchanges import VhostExchanges
from mainstem.amqp.vhost_state import engine_errors
from mainstem.contract import Engine, TopicExists, UnknownTopic
from mainstem.queue_contract import NoSuchSubscription

VHOST_OF_STREAMS = "/"
"""The one that the stream protocol serves."""


ROOM_FOR_MESSAGES = {"max.message.bytes": TOPIC_SETTINGS["max.message.bytes"]}
"""A setting of the topic of a stream that is declared here: a stream takes what an exchange takes."""


class VhostStreams(VhostExchanges):
    """What is done for streams."""

    async def _take_stream(self, name: str, declaration: QueueDeclaration, engine: Engine) -> StreamPlace:
        """The place of a stream that is declared. Its topic is created, or taken over: then the requester has
        to have the right to write to it; to consume, the right to read is asked for by the reader. AmqpError:
        403; 406: the topic differs, or is no stream; 540: streams are in one virtual host only."""
        if self.name != VHOST_OF_STREAMS:
            raise amqp_error(540, f"streams are queues of the vhost '{VHOST_OF_STREAMS}'")
        arguments = declaration.arguments
        with engine_errors(f"queue '{name}'"):
            place = await place_of(self._engine, name)
            if place is None:
                if is_of_exchange(name):
                    raise amqp_error(406, f"the exchange of the topic '{name}' has got no message yet")
                settings = stream_settings(arguments) | ROOM_FOR_MESSAGES
                try:
                    await engine.create_topic(name, partitions=1, settings=settings)
                except TopicExists:
                    raise amqp_error(
                        406, f"the topic '{name}' has several partitions: its streams are '{name}-0', …"
                    ) from None
                return StreamPlace(name, 0)
            if is_of_exchange(place.topic):
                await engine.topic_id(
                    place.topic
                )  # it may be read only: whether the requester may know of it
                return place
            await engine.publish(place.topic, [])  # whether the requester may write
            for argument in ("x-max-age", "x-max-length-bytes", "x-stream-max-segment-size-bytes"):
                if argument in arguments:
                    ((setting, value),) = (
                        stream_settings({argument: arguments[argument]}).items() - stream_settings({}).items()
                    )
                    if not await has_settings(self._engine, place.topic, {setting: value}):
                        difference = f"the topic has another {setting}"
                        raise inequivalent(argument, "queue", name, self.name, difference)
            return place

    async def _delete_store(self, queue: AmqpQueue, engine: Engine) -> None:
        """Delete what a queue is at the engine: its subscription, or its topic. The topic stays if it has
        several partitions, or is an exchange's. StreamError."""
        if queue.place is None:
            try:
                await self._engine.delete_subscription(queue.subscription)
            except NoSuchSubscription:
                pass
        elif queue.place.topic == queue.name and not is_of_exchange(queue.name):
            try:
                await engine.delete_topic(queue.name)
            except UnknownTopic:
                pass

    async def figures(self, queue: AmqpQueue) -> QueueFigures:
        """What a declaration is answered by."""
        return QueueFigures(queue.name, await self.message_count(queue), queue.consumers)

    async def message_count(self, queue: AmqpQueue) -> int:
        """Messages that no consumer has and that could be delivered now; of a stream, all. 0 if the queue is
        being deleted."""
        if queue.place is not None:
            return await message_count(self._engine, queue.place)
        try:
            return self._engine.attached.queue_counts(queue.subscription).ready
        except NoSuchSubscription:
            return 0

    def wall_ms(self) -> int:
        """The time, ms since 1970."""
        return self._clock.wall_ms()

    def is_stream(self, name: str) -> bool:
        """Whether there is a queue of this name that is a stream."""
        queue = self.queues.get(name)
        return queue is not None and queue.place is not None

    def streams_in(self, topic: str) -> list[AmqpQueue]:
        """The streams whose messages are in a topic."""
        return [
            queue for queue in self.queues.values() if queue.place is not None and queue.place.topic == topic
        ]

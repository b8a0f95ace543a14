"""A consumer of a channel: what its queue hands it goes out as basic.deliver.

Owns: the making of deliveries. Refuses: to know what the client has answered, which is the channel's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.amqp.field_tables import encode_short
from mainstem.amqp.field_values import FieldTable
from mainstem.doors.amqp091.frames import address_bytes, deliver_frames

if TYPE_CHECKING:
    from mainstem.amqp.topology import AmqpQueue
    from mainstem.attach_contract import AttachedConsumer
    from mainstem.contract import Event
    from mainstem.doors.amqp091.channel_scope import ChannelScope
    from mainstem.doors.amqp091.stream_consumer import StreamAttachment
    from mainstem.doors.amqp091.unanswered import DeliverySource, UnansweredDeliveries
    from mainstem.queue_answers import Delivery


class QueueConsumer:
    """A consumer of a queue."""

    def __init__(
        self,
        scope: ChannelScope,
        tag: str,
        queue: AmqpQueue,
        source: DeliverySource,
        unanswered: UnansweredDeliveries,
        *,
        no_ack: bool,
        exclusive: bool,
        arguments: FieldTable,
    ) -> None:
        self.tag = tag
        self.queue = queue
        self.source = source
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.arguments = arguments
        self.attachment: AttachedConsumer | StreamAttachment | None = None
        """None: not attached yet."""
        self._scope = scope
        self._unanswered = unanswered
        self._tag_bytes = encode_short(tag)

    def deliver_from_stream(self, event: Event) -> None:
        """Send an event of a stream to the client. Its answer makes room, and nothing else."""
        scope, connection = self._scope, self._scope.connection
        message = scope.vhost.from_stream(event, self.queue)
        frames = deliver_frames(
            scope.number,
            self._tag_bytes,
            self._unanswered.add("", self.source, connection.swept_at),
            False,
            address_bytes(message.exchange, message.routing_key),
            message.properties_raw,
            message.body,
            connection.frame_max,
        )
        connection.send(frames)
        connection.throttle.delivered(len(frames))

    def deliver(self, deliveries: list[Delivery]) -> None:
        """Send these to the client."""
        scope, queue, source = self._scope, self.queue, self.source
        connection, unanswered = scope.connection, self._unanswered
        number, frame_max = scope.number, connection.frame_max
        size_bytes, now = 0, connection.swept_at
        for delivery in deliveries:
            message = scope.vhost.from_event(delivery.event, queue, delivery.failures + 1)
            tag = unanswered.next_tag() if self.no_ack else unanswered.add(delivery.token, source, now)
            frames = deliver_frames(
                number,
                self._tag_bytes,
                tag,
                delivery.attempt > 1,
                address_bytes(message.exchange, message.routing_key),
                message.properties_raw,
                message.body,
                frame_max,
            )
            size_bytes += len(frames)
            connection.send(frames)
        connection.throttle.delivered(size_bytes)

"""What a channel receives: consumers, basic.get, prefetch, and the answers.

Owns: the consumers of a channel, and its deliveries that are not answered. Refuses: to decide what is
delivered to whom, which the engine does within the windows that it gets from here.

Prefetch (RabbitMQ's meaning of basic.qos): without `global` it is of each consumer that comes later; with it,
of all consumers of the channel together. What basic.get takes counts for neither, and is bounded by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mainstem.access_contract import Operation
from mainstem.amqp.errors import AmqpError, amqp_error, invalid_argument, no_queue, not_of_streams
from mainstem.amqp.properties import Properties
from mainstem.amqp.properties_codec import encode_properties
from mainstem.attach_contract import AttachRequest, ConsumerClash, DeliveryWindow
from mainstem.contract import StreamError, UnknownTopic
from mainstem.doors.amqp091 import methods
from mainstem.doors.amqp091.consumer import QueueConsumer
from mainstem.doors.amqp091.direct_replies import REPLY_TO
from mainstem.doors.amqp091.stream_consumer import attach_to_stream, check_stream_consumer
from mainstem.doors.amqp091.unanswered import DeliverySource, UnansweredDeliveries, UnansweredDelivery
from mainstem.doors.net.throttle import MESSAGE_HEAD_BYTES
from mainstem.queue_answers import Ack, Nack, Outcome, Reject
from mainstem.queue_contract import NoSuchSubscription

if TYPE_CHECKING:
    from mainstem.amqp.topology import AmqpQueue
    from mainstem.doors.amqp091.channel_scope import ChannelScope
    from mainstem.doors.amqp091.method import Method

CONSUMERS_MAX = 10_000
"""Of a channel."""
GETS_MAX = 65_535
"""Most messages that a channel has by basic.get and has not answered."""
CANCEL_NOTIFY = "consumer_cancel_notify"
"""The capability of clients that want to know when the server ends a consumer."""


def requeue(token: str) -> Outcome:
    """Given back by basic.nack, or basic.recover: no failure."""
    return Nack(token, counts=False)


def requeue_failed(token: str) -> Outcome:
    """Given back by basic.reject, or with a channel that closes: counts against the delivery limit."""
    return Nack(token)


class ChannelConsumers:
    """The consumers of one channel."""

    def __init__(self, scope: ChannelScope, make_tag: Callable[[], str]) -> None:
        """`make_tag`: a consumer tag that no client chooses."""
        self._scope = scope
        self._make_tag = make_tag
        self.prefetch_count = 0
        """Of consumers that come; 0: no limit."""
        self.shared_window = DeliveryWindow()
        """Of all consumers together."""
        self.get_window = DeliveryWindow(GETS_MAX)
        """Of what basic.get takes."""
        self.unanswered = UnansweredDeliveries()
        self.by_tag: dict[str, QueueConsumer] = {}
        self.reply_tag = ""
        """Of the consumer of direct replies; empty: there is none."""
        self.reply_address = ""
        self.answers: list[tuple[Sequence[UnansweredDelivery], Callable[[str], Outcome]]] | None = None
        """What is answered at tx.commit; None: there are no transactions."""

    # --- consumers ----------------------------------------------------------------------------------------

    def set_prefetch(self, method: methods.BasicQos) -> None:
        """basic.qos."""
        if method.prefetch_size:
            raise amqp_error(540, f"prefetch_size!=0 ({method.prefetch_size})")
        if method.global_:
            self.shared_window.set_limit(method.prefetch_count)
        else:
            self.prefetch_count = method.prefetch_count
        self._reply(methods.BasicQosOk())

    async def consume(self, method: methods.BasicConsume, queue_name: str) -> None:
        """basic.consume. The client learns the tag before it gets the first delivery."""
        tag = method.consumer_tag or self._make_tag()
        if tag in self.by_tag or tag == self.reply_tag:
            raise amqp_error(530, f"attempt to reuse consumer tag '{tag}'")
        if queue_name == REPLY_TO:
            self._consume_replies(method, tag)
            return
        scope = self._scope
        scope.permissions.require_queue(Operation.READ, queue_name)
        queue = scope.vhost.queue(queue_name, scope.owner)
        if method.exclusive and queue.is_single_active:
            raise self._in_exclusive_use(queue)
        if len(self.by_tag) >= CONSUMERS_MAX:
            raise amqp_error(406, f"a channel has at most {CONSUMERS_MAX} consumers")
        priority = method.arguments.get("x-priority", 0)
        if not isinstance(priority, int) or isinstance(priority, bool):
            raise invalid_argument(
                "x-priority", queue_name, scope.vhost.name, '"expected integer, got longstr"'
            )
        if self.shared_window.limit and queue.kind != "classic":
            raise amqp_error(
                540, f"queue '{queue_name}' in vhost '{scope.vhost.name}' does not support global qos"
            )
        if queue.place is not None:
            check_stream_consumer(
                scope.vhost.name, queue_name, no_ack=method.no_ack, prefetch_count=self.prefetch_count
            )
        consumer = self._new_consumer(method, tag, queue)
        self.by_tag[tag] = consumer
        try:
            await self._attach(consumer, priority)
        except BaseException:
            self.by_tag.pop(tag, None)
            raise
        scope.vhost.consumer_added(queue)
        if not method.nowait:
            self._reply(methods.BasicConsumeOk(tag))

    def _new_consumer(self, method: methods.BasicConsume, tag: str, queue: AmqpQueue) -> QueueConsumer:
        windows = () if method.no_ack else (DeliveryWindow(self.prefetch_count), self.shared_window)
        return QueueConsumer(
            self._scope,
            tag,
            queue,
            DeliverySource(queue, windows),
            self.unanswered,
            no_ack=method.no_ack,
            exclusive=method.exclusive,
            arguments=method.arguments,
        )

    async def _attach(self, consumer: QueueConsumer, priority: int) -> None:
        scope, queue = self._scope, consumer.queue
        if queue.place is not None:
            await self._attach_to_stream(consumer)
            return
        request = AttachRequest(
            subscription=queue.subscription,
            consumer=f"{scope.connection.name} ({scope.number}) {consumer.tag}"[:255],
            windows=consumer.source.windows or (DeliveryWindow(),),
            priority=priority,
            exclusive=consumer.exclusive,
            auto_ack=consumer.no_ack,
        )
        try:
            attachment = await scope.attached.attach(
                request, consumer.deliver, lambda error: self._ended(consumer, error)
            )
        except ConsumerClash as error:
            raise self._in_exclusive_use(queue) from error
        except NoSuchSubscription as error:
            raise no_queue(queue.name, scope.vhost.name) from error
        consumer.attachment = attachment
        if scope.connection.is_sending_blocked:
            attachment.pause()

    async def _attach_to_stream(self, consumer: QueueConsumer) -> None:
        scope, queue = self._scope, consumer.queue
        try:
            consumer.attachment = await attach_to_stream(
                scope,
                queue,
                consumer.arguments,
                consumer.source.windows,
                consumer.deliver_from_stream,
                lambda error: self._ended(consumer, error),
            )
        except UnknownTopic as error:
            raise no_queue(queue.name, scope.vhost.name) from error
        if scope.connection.is_sending_blocked:
            consumer.attachment.pause()

    def _in_exclusive_use(self, queue: AmqpQueue) -> AmqpError:
        return amqp_error(403, f"queue '{queue.name}' in vhost '{self._scope.vhost.name}' in exclusive use")

    def _ended(self, consumer: QueueConsumer, error: StreamError | None) -> None:
        """The engine delivers nothing more: the queue was deleted, or the right to it withdrawn."""
        if error is None or self.by_tag.get(consumer.tag) is not consumer:
            return
        del self.by_tag[consumer.tag]
        if not isinstance(error, NoSuchSubscription):
            self._scope.connection.start_task(self._scope.vhost.consumer_removed(consumer.queue))
        if CANCEL_NOTIFY in self._scope.connection.client_capabilities:
            self._reply(methods.BasicCancel(consumer.tag, nowait=True))

    async def cancel(self, method: methods.BasicCancel) -> None:
        """basic.cancel. What its consumer has not answered is still its channel's to answer."""
        consumer = self.by_tag.pop(method.consumer_tag, None)
        if consumer is not None:
            await self._detach(consumer)
        elif self.reply_tag and self.reply_tag == method.consumer_tag:
            self._end_replies()
        if not method.nowait:
            self._reply(methods.BasicCancelOk(method.consumer_tag))

    async def _detach(self, consumer: QueueConsumer) -> None:
        if consumer.attachment is not None:
            consumer.attachment.detach(requeue=False)
            await self._scope.vhost.consumer_removed(consumer.queue)

    # --- direct replies -----------------------------------------------------------------------------------

    def _consume_replies(self, method: methods.BasicConsume, tag: str) -> None:
        if self.reply_tag:
            raise amqp_error(406, "reply consumer already set")
        if not method.no_ack:
            raise amqp_error(406, "reply consumer cannot acknowledge")
        self.reply_tag = tag
        self.reply_address = self._scope.replies.add(self._receive_reply)
        if not method.nowait:
            self._reply(methods.BasicConsumeOk(tag))

    def _receive_reply(self, exchange: str, routing_key: str, properties: Properties, body: bytes) -> None:
        method = methods.BasicDeliver(
            self.reply_tag, self.unanswered.next_tag(), False, exchange, routing_key
        )
        raw = encode_properties(properties)
        self._scope.connection.send_message(self._scope.number, method, raw, body)

    def _end_replies(self) -> None:
        if self.reply_address:
            self._scope.replies.remove(self.reply_address)
        self.reply_tag = self.reply_address = ""

    # --- one message --------------------------------------------------------------------------------------

    async def get(self, method: methods.BasicGet, queue_name: str) -> None:
        """basic.get."""
        scope = self._scope
        scope.permissions.require_queue(Operation.READ, queue_name)
        queue = scope.vhost.queue(queue_name, scope.owner)
        if queue.place is not None:
            raise not_of_streams("basic.get", queue_name, scope.vhost.name)
        scope.vhost.note_get(queue)
        if not method.no_ack and not self.get_window.room:
            raise amqp_error(406, f"{GETS_MAX} messages of basic.get are not acknowledged on this channel")
        name = f"{scope.connection.name} ({scope.number})"[:255]
        try:
            delivery = await scope.attached.take(queue.subscription, name, auto_ack=method.no_ack)
            count = scope.attached.queue_counts(queue.subscription).ready
        except NoSuchSubscription as error:
            raise no_queue(queue_name, scope.vhost.name) from error
        if delivery is None:
            self._reply(methods.BasicGetEmpty())
            return
        message = scope.vhost.from_event(delivery.event, queue, delivery.failures + 1)
        unanswered = self.unanswered
        if method.no_ack:
            tag = unanswered.next_tag()
        else:
            self.get_window.take(1)
            source = DeliverySource(queue, (self.get_window,))
            tag = unanswered.add(delivery.token, source, scope.connection.swept_at)
        reply = methods.BasicGetOk(tag, delivery.attempt > 1, message.exchange, message.routing_key, count)
        scope.connection.send_message(scope.number, reply, message.properties_raw, message.body)
        scope.connection.throttle.fetched(len(message.body) + MESSAGE_HEAD_BYTES)

    # --- answers ------------------------------------------------------------------------------------------

    def ack(self, method: methods.BasicAck) -> None:
        """basic.ack."""
        self._answer(self.unanswered.take(method.delivery_tag, method.multiple), Ack)

    def nack(self, method: methods.BasicNack) -> None:
        """basic.nack."""
        deliveries = self.unanswered.take(method.delivery_tag, method.multiple)
        self._answer(deliveries, requeue if method.requeue else Reject)

    def reject(self, method: methods.BasicReject) -> None:
        """basic.reject."""
        deliveries = self.unanswered.take(method.delivery_tag, False)
        self._answer(deliveries, requeue_failed if method.requeue else Reject)

    def recover(self, method: methods.BasicRecover | methods.BasicRecoverAsync) -> None:
        """basic.recover: all that is not answered is given back."""
        if not method.requeue:
            raise amqp_error(540, "requeue=false")
        self._settle(self.unanswered.take_all(), requeue)
        if isinstance(method, methods.BasicRecover):
            self._reply(methods.BasicRecoverOk())

    def _answer(self, deliveries: Sequence[UnansweredDelivery], outcome: Callable[[str], Outcome]) -> None:
        if self.answers is not None:
            self.answers.append((deliveries, outcome))
        else:
            self._settle(deliveries, outcome)

    def _settle(self, deliveries: Sequence[UnansweredDelivery], outcome: Callable[[str], Outcome]) -> None:
        settle_soon = self._scope.attached.settle_soon
        if len(deliveries) == 1:
            _, token, (queue, windows), _ = deliveries[0]
            if queue.place is None:  # an answer to a stream means nothing
                settle_soon(queue.subscription, (outcome(token),))
            for window in windows:
                window.free(1)
            return
        by_subscription: dict[str, list[Outcome]] = {}
        taken: Counter[DeliveryWindow] = Counter()
        for _, token, (queue, windows), _ in deliveries:
            if queue.place is None:
                by_subscription.setdefault(queue.subscription, []).append(outcome(token))
            taken.update(windows)
        for subscription, outcomes in by_subscription.items():
            settle_soon(subscription, outcomes)
        for window, count in taken.items():
            window.free(count)

    def check_oldest(self, now: float, timeout_ms: int) -> None:
        """AmqpError (406): the oldest delivery that is not answered is older than its queue allows, or than
        `timeout_ms` (0: no limit) where the queue does not say."""
        oldest = self.unanswered.oldest()
        if oldest is None:
            return
        limit_ms = oldest.source.queue.effective.get("consumer-timeout", timeout_ms or None)
        if limit_ms is not None and (now - oldest.sent_at) * 1000 > limit_ms:
            raise amqp_error(
                406,
                f"delivery acknowledgement on channel {self._scope.number} timed out."
                f" Timeout value used: {limit_ms} ms. This timeout value can be configured",
            )

    # --- transactions -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Keep answers from now on for a commit."""
        if self.answers is None:
            self.answers = []

    async def commit(self) -> None:
        """Give the answers that are kept. They are durable when this returns. StreamError: a part of them
        could not be recorded."""
        answers, self.answers = self.answers or [], []
        outcomes: dict[str, list[Outcome]] = {}
        for deliveries, outcome in answers:
            for delivery in deliveries:
                queue = delivery.source.queue
                if queue.place is None:  # an answer to a stream means nothing
                    outcomes.setdefault(queue.subscription, []).append(outcome(delivery.token))
        try:
            for subscription, of_queue in outcomes.items():
                await self._scope.attached.settle(subscription, of_queue)
        finally:
            for deliveries, _ in answers:
                for delivery in deliveries:
                    for window in delivery.source.windows:
                        window.free(1)

    def roll_back(self) -> None:
        """Forget the answers that are kept: their deliveries are to be answered again."""
        answers, self.answers = self.answers or [], []
        for deliveries, _ in answers:
            self.unanswered.put_back(deliveries)

    # --- the channel as a whole ---------------------------------------------------------------------------

    def pause(self) -> None:
        """The client reads too slowly: deliver nothing more."""
        for consumer in self.by_tag.values():
            if consumer.attachment is not None:
                consumer.attachment.pause()

    def resume(self) -> None:
        """Go on delivering."""
        for consumer in self.by_tag.values():
            if consumer.attachment is not None:
                consumer.attachment.resume()

    async def close(self) -> None:
        """End all consumers, and give back what is not answered."""
        self._end_replies()
        consumers, self.by_tag = list(self.by_tag.values()), {}
        for consumer in consumers:
            if consumer.attachment is not None:
                consumer.attachment.detach(requeue=False)
        if self.answers:
            self.roll_back()
        deliveries = self.unanswered.take_all()
        if deliveries:
            self._settle(deliveries, requeue_failed)
        for consumer in consumers:
            if consumer.attachment is not None:
                await self._scope.vhost.consumer_removed(consumer.queue)

    def _reply(self, method: Method) -> None:
        self._scope.connection.send_method(self._scope.number, method)

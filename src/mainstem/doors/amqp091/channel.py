"""A channel of a connection: its methods, in their order.

Most methods are done at once. Those that wait for the engine are done in a task of the connection; what
arrives for the channel meanwhile waits its turn, and is counted by `AmqpConnection.hold`. Before such a
method, what was published earlier is stored: a client that publishes and then asks for the queue sees its
message.

Owns: the order, and the modes of a channel. Refuses: frames, and channel.open and close, which are the
connection's. `NOW` and `IN_A_TASK` are all methods of clients on an open channel; docs/RABBITMQ.md lists
them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from mainstem.amqp.connections import ChannelConsumer, ChannelInfo
from mainstem.amqp.errors import AmqpError, amqp_error
from mainstem.amqp.properties import Properties
from mainstem.contract import StreamError
from mainstem.doors.amqp091 import control_methods, methods
from mainstem.doors.amqp091.confirms import ConfirmTracker
from mainstem.doors.amqp091.consuming import ChannelConsumers
from mainstem.doors.amqp091.declaring import ChannelDeclarations
from mainstem.doors.amqp091.failures import as_amqp_error
from mainstem.doors.amqp091.publishing import MESSAGE_OVERHEAD_BYTES, ChannelPublisher
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.doors.amqp091.channel_scope import ChannelScope
    from mainstem.doors.amqp091.method import Method

_Waiting = tuple["Method", Properties | None, bytes]


class AmqpChannel:
    """An open channel."""

    def __init__(
        self, scope: ChannelScope, make_tag: Callable[[], str], on_closed: Callable[[], None] = lambda: None
    ) -> None:
        """`make_tag`: see `ChannelConsumers`."""
        self._scope = scope
        self._on_closed = on_closed
        self.publisher = ChannelPublisher(scope)
        self.consumers = ChannelConsumers(scope, make_tag)
        self.declarations = ChannelDeclarations(scope)
        self._waiting: deque[_Waiting] = deque()
        self._under_way: Promise[None] | None = None
        """Of the method that waits for the engine; None: there is none."""
        self.is_closed = False

    # --- what arrives -------------------------------------------------------------------------------------

    def on_method(self, method: Method) -> None:
        """Do it, or let it wait for the one before. AmqpError."""
        if self._under_way is not None:
            self._wait_for_turn(method, None, b"")
            return
        action = NOW.get(type(method))
        if action is not None:
            action(self, method)
            return
        work = IN_A_TASK.get(type(method))
        if work is None:
            raise amqp_error(503, f"a client does not send {method.NAME}")
        self._under_way = Promise()
        self._scope.connection.start_task(self._work(method, self._under_way))

    def on_message(self, method: methods.BasicPublish, properties: Properties, body: bytes) -> None:
        """Publish it, or let it wait for the method before. AmqpError."""
        if self._under_way is not None:
            self._wait_for_turn(method, properties, body)
        else:
            self.publisher.publish(method, properties, body)

    def _wait_for_turn(self, method: Method, properties: Properties | None, body: bytes) -> None:
        self._waiting.append((method, properties, body))
        self._scope.connection.hold(len(body) + MESSAGE_OVERHEAD_BYTES)

    async def _work(self, method: Method, under_way: Promise[None]) -> None:
        """Do this method, and those that wait behind it. What fails ends the channel, so nothing behind it is
        done."""
        try:
            await self._do(method)
            while self._waiting and not self.is_closed:
                method, properties, body = self._waiting.popleft()
                self._scope.connection.release(len(body) + MESSAGE_OVERHEAD_BYTES)
                if isinstance(method, methods.BasicPublish) and properties is not None:
                    self.publisher.publish(method, properties, body)
                else:
                    await self._do(method)
        except (AmqpError, StreamError) as error:
            self.is_closed = True
            self._scope.connection.fail(self._scope.number, as_amqp_error(error), method)
        finally:
            self._drop_waiting()
            self._under_way = None
            under_way.resolve(None)

    async def _do(self, method: Method) -> None:
        action = NOW.get(type(method))
        if action is not None:
            action(self, method)
            return
        work = IN_A_TASK.get(type(method))
        if work is None:
            raise amqp_error(503, f"a client does not send {method.NAME}")
        await self.publisher.settled()
        if not self.is_closed:
            await work(self, method)

    def _drop_waiting(self) -> None:
        for _, _, body in self._waiting:
            self._scope.connection.release(len(body) + MESSAGE_OVERHEAD_BYTES)
        self._waiting.clear()

    async def close(self) -> None:
        """End the channel: what was published is stored, consumers end, what is not answered is given back.
        What waits behind a method under way is not done."""
        self.is_closed = True
        if self._under_way is not None:
            await self._under_way
        self.publisher.transaction = None
        await self.publisher.settled()
        await self.consumers.close()
        self._on_closed()

    # --- modes --------------------------------------------------------------------------------------------

    def select_confirms(self, method: methods.ConfirmSelect) -> None:
        """confirm.select."""
        if self.publisher.transaction is not None:
            raise amqp_error(406, "cannot switch from tx to confirm mode")
        if self.publisher.confirms is None:
            self.publisher.confirms = ConfirmTracker()
        if not method.nowait:
            self._reply(methods.ConfirmSelectOk())

    def select_transactions(self) -> None:
        """tx.select."""
        if self.publisher.confirms is not None:
            raise amqp_error(406, "cannot switch from confirm to tx mode")
        self.publisher.begin()
        self.consumers.begin()
        self._reply(methods.TxSelectOk())

    def _require_transactions(self) -> None:
        if self.publisher.transaction is None:
            raise amqp_error(406, "channel is not transactional")

    async def commit(self) -> None:
        """tx.commit: what was published is stored before anything that was answered is done. Both are durable
        when the client has its answer."""
        self._require_transactions()
        await self.publisher.commit()
        await self.consumers.commit()
        self._reply(methods.TxCommitOk())

    def roll_back(self) -> None:
        """tx.rollback."""
        self._require_transactions()
        self.publisher.roll_back()
        self.consumers.roll_back()
        self._reply(methods.TxRollbackOk())

    def set_flow(self, method: control_methods.ChannelFlow) -> None:
        """channel.flow: only active is possible, as in RabbitMQ."""
        if not method.active:
            raise amqp_error(540, "active=false")
        self._reply(control_methods.ChannelFlowOk(True))

    def grant_ticket(self) -> None:
        """access.request: tickets mean nothing since AMQP 0-9."""
        self._reply(control_methods.AccessRequestOk(1))

    async def consume(self, method: methods.BasicConsume) -> None:
        """basic.consume."""
        await self.consumers.consume(method, self.declarations.queue_name(method.queue))
        self.publisher.reply_address = self.consumers.reply_address

    async def cancel(self, method: methods.BasicCancel) -> None:
        """basic.cancel."""
        await self.consumers.cancel(method)
        self.publisher.reply_address = self.consumers.reply_address

    async def get(self, method: methods.BasicGet) -> None:
        """basic.get."""
        await self.consumers.get(method, self.declarations.queue_name(method.queue))

    def _reply(self, method: Method) -> None:
        self._scope.connection.send_method(self._scope.number, method)

    def check_oldest(self, now: float, timeout_ms: int) -> None:
        """See `ChannelHandler`."""
        self.consumers.check_oldest(now, timeout_ms)

    # --- what administrators see --------------------------------------------------------------------------

    def info(self) -> ChannelInfo:
        """How it is now."""
        publisher, consumers = self.publisher, self.consumers
        answers = consumers.answers or ()
        return ChannelInfo(
            number=self._scope.number,
            consumers=len(consumers.by_tag),
            unacked=len(consumers.unanswered),
            unconfirmed=len(publisher.confirms) if publisher.confirms is not None else 0,
            uncommitted=len(publisher.transaction or ()),
            uncommitted_acks=sum(len(deliveries) for deliveries, _ in answers),
            prefetch_count=consumers.prefetch_count,
            global_prefetch_count=consumers.shared_window.limit,
            confirms=publisher.confirms is not None,
            is_transactional=publisher.transaction is not None,
        )

    def listed_consumers(self) -> list[ChannelConsumer]:
        """Its consumers of queues."""
        return [
            ChannelConsumer(
                channel=self._scope.number,
                queue=consumer.queue.name,
                tag=consumer.tag,
                prefetch_count=consumer.source.windows[0].limit if consumer.source.windows else 0,
                ack_required=not consumer.no_ack,
                exclusive=consumer.exclusive,
                is_active=consumer.attachment is None or consumer.attachment.is_active,
                arguments=consumer.arguments,
            )
            for consumer in self.consumers.by_tag.values()
        ]


NOW: Mapping[type[Method], Callable[[AmqpChannel, Any], None]] = {
    methods.BasicAck: lambda channel, method: channel.consumers.ack(method),
    methods.BasicNack: lambda channel, method: channel.consumers.nack(method),
    methods.BasicReject: lambda channel, method: channel.consumers.reject(method),
    methods.BasicRecover: lambda channel, method: channel.consumers.recover(method),
    methods.BasicRecoverAsync: lambda channel, method: channel.consumers.recover(method),
    methods.BasicQos: lambda channel, method: channel.consumers.set_prefetch(method),
    methods.ConfirmSelect: lambda channel, method: channel.select_confirms(method),
    methods.TxSelect: lambda channel, _: channel.select_transactions(),
    methods.TxRollback: lambda channel, _: channel.roll_back(),
    control_methods.ChannelFlow: lambda channel, method: channel.set_flow(method),
    control_methods.AccessRequest: lambda channel, _: channel.grant_ticket(),
}
"""Methods that are done at once."""

IN_A_TASK: Mapping[type[Method], Callable[[AmqpChannel, Any], Awaitable[None]]] = {
    methods.BasicConsume: lambda channel, method: channel.consume(method),
    methods.BasicCancel: lambda channel, method: channel.cancel(method),
    methods.BasicGet: lambda channel, method: channel.get(method),
    methods.TxCommit: lambda channel, _: channel.commit(),
    methods.QueueDeclare: lambda channel, method: channel.declarations.declare_queue(method),
    methods.QueueDelete: lambda channel, method: channel.declarations.delete_queue(method),
    methods.QueuePurge: lambda channel, method: channel.declarations.purge_queue(method),
    methods.QueueBind: lambda channel, method: channel.declarations.bind_queue(method),
    methods.QueueUnbind: lambda channel, method: channel.declarations.unbind_queue(method),
    methods.ExchangeDeclare: lambda channel, method: channel.declarations.declare_exchange(method),
    methods.ExchangeDelete: lambda channel, method: channel.declarations.delete_exchange(method),
    methods.ExchangeBind: lambda channel, method: channel.declarations.bind_exchange(method),
    methods.ExchangeUnbind: lambda channel, method: channel.declarations.unbind_exchange(method),
}
"""Methods that wait for the engine."""

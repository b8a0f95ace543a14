"""The classes queue and exchange: declare, delete, bind, unbind, purge.

Owns: the name of the queue that the channel declared last, which an empty name means. Refuses: the rules
of equivalence, types and ownership, which are the virtual host's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.access_contract import Operation
from mainstem.amqp.errors import amqp_error, no_queue
from mainstem.amqp.field_values import FieldTable
from mainstem.amqp.topology import AmqpBinding, ExchangeDeclaration, QueueDeclaration
from mainstem.doors.amqp091 import methods
from mainstem.doors.amqp091.direct_replies import REPLY_TO, is_reply_address

if TYPE_CHECKING:
    from mainstem.doors.amqp091.channel_scope import ChannelScope
    from mainstem.doors.amqp091.method import Method

_LINE_ENDS = str.maketrans("", "", "\r\n")
"""RabbitMQ leaves them out of names that are declared."""


class ChannelDeclarations:
    """Declares for one channel."""

    def __init__(self, scope: ChannelScope) -> None:
        self._scope = scope
        self._last_queue = ""

    def queue_name(self, name: str) -> str:
        """The name of a queue; the last one that was declared if it is empty. 404: there is none."""
        if name:
            return name
        if not self._last_queue:
            raise amqp_error(404, "no previously declared queue")
        return self._last_queue

    def _reply(self, method: Method, nowait: bool = False) -> None:
        if not nowait:
            self._scope.connection.send_method(self._scope.number, method)

    # --- queues -------------------------------------------------------------------------------------------

    async def declare_queue(self, method: methods.QueueDeclare) -> None:
        """queue.declare."""
        scope = self._scope
        name = method.queue.translate(_LINE_ENDS)
        if is_reply_address(name):
            self._declare_reply_queue(method, name)
            return
        if method.passive:
            figures = await scope.vhost.queue_figures(self.queue_name(name), scope.owner)
        else:
            if name:
                scope.permissions.require_queue(Operation.CREATE, name)
            self._require_dead_letters(name, method.arguments)
            declaration = QueueDeclaration(
                name, method.durable, method.exclusive, method.auto_delete, method.arguments
            )
            figures = await scope.vhost.declare_queue(declaration, scope.owner, scope.engine)
        self._last_queue = figures.name
        self._reply(methods.QueueDeclareOk(figures.name, figures.messages, figures.consumers), method.nowait)

    def _require_dead_letters(self, queue: str, arguments: FieldTable) -> None:
        """Dead letters are read from the queue, and written to the exchange."""
        exchange = arguments.get("x-dead-letter-exchange")
        if isinstance(exchange, str):
            if queue:
                self._scope.permissions.require_queue(Operation.READ, queue)
            self._scope.permissions.require_exchange(Operation.WRITE, exchange)
            self._scope.permissions.require_plain("let messages be copied to a dead-letter exchange")

    def _declare_reply_queue(self, method: methods.QueueDeclare, name: str) -> None:
        """A client that serves requests asks this way whether the one who asked is still there."""
        if name != REPLY_TO and not self._scope.replies.has(name):
            raise no_queue(name, self._scope.vhost.name)
        self._reply(methods.QueueDeclareOk(name, 0, 1), method.nowait)

    async def delete_queue(self, method: methods.QueueDelete) -> None:
        """queue.delete."""
        scope, name = self._scope, self.queue_name(method.queue)
        scope.permissions.require_queue(Operation.DELETE, name)
        count = await scope.vhost.delete_queue(
            name,
            scope.owner,
            if_unused=method.if_unused,
            if_empty=method.if_empty,
            engine=scope.engine,
        )
        self._reply(methods.QueueDeleteOk(count), method.nowait)

    async def purge_queue(self, method: methods.QueuePurge) -> None:
        """queue.purge."""
        scope, name = self._scope, self.queue_name(method.queue)
        scope.permissions.require_queue(Operation.READ, name)
        count = await scope.vhost.purge_queue(name, scope.owner)
        self._reply(methods.QueuePurgeOk(count), method.nowait)

    async def bind_queue(self, method: methods.QueueBind) -> None:
        """queue.bind."""
        binding = self._queue_binding(method)
        if self._scope.vhost.is_stream(binding.destination):
            self._scope.permissions.require_plain("let messages be copied to a stream")
        await self._scope.vhost.bind(binding, self._scope.owner)
        self._reply(methods.QueueBindOk(), method.nowait)

    async def unbind_queue(self, method: methods.QueueUnbind) -> None:
        """queue.unbind."""
        binding = self._queue_binding(method)
        await self._scope.vhost.unbind(binding, self._scope.owner)
        self._reply(methods.QueueUnbindOk())

    def _queue_binding(self, method: methods.QueueBind | methods.QueueUnbind) -> AmqpBinding:
        name = self.queue_name(method.queue)
        if is_reply_address(name):
            raise amqp_error(403, f"operation not permitted on the queue '{name}'")
        # An empty name with an empty key: the key is the name of the queue, too.
        key = method.routing_key if method.queue or method.routing_key else name
        self._scope.permissions.require_queue(Operation.WRITE, name)
        self._scope.permissions.require_exchange(Operation.READ, method.exchange)
        return AmqpBinding(method.exchange, name, True, key, method.arguments)

    # --- exchanges ----------------------------------------------------------------------------------------

    async def declare_exchange(self, method: methods.ExchangeDeclare) -> None:
        """exchange.declare."""
        scope = self._scope
        name = method.exchange.translate(_LINE_ENDS)
        if method.passive:
            scope.vhost.check_exchange(name)
        else:
            scope.permissions.require_exchange(Operation.CREATE, name)
            alternate = method.arguments.get("alternate-exchange")
            if isinstance(alternate, str):
                scope.permissions.require_exchange(Operation.READ, name)
                scope.permissions.require_exchange(Operation.WRITE, alternate)
            declaration = ExchangeDeclaration(
                name, method.type, method.durable, method.auto_delete, method.internal, method.arguments
            )
            await scope.vhost.declare_exchange(declaration)
        self._reply(methods.ExchangeDeclareOk(), method.nowait)

    async def delete_exchange(self, method: methods.ExchangeDelete) -> None:
        """exchange.delete."""
        self._scope.permissions.require_exchange(Operation.DELETE, method.exchange)
        await self._scope.vhost.delete_exchange(method.exchange, if_unused=method.if_unused)
        self._reply(methods.ExchangeDeleteOk(), method.nowait)

    async def bind_exchange(self, method: methods.ExchangeBind) -> None:
        """exchange.bind."""
        await self._scope.vhost.bind(self._exchange_binding(method), self._scope.owner)
        self._reply(methods.ExchangeBindOk(), method.nowait)

    async def unbind_exchange(self, method: methods.ExchangeUnbind) -> None:
        """exchange.unbind."""
        await self._scope.vhost.unbind(self._exchange_binding(method), self._scope.owner)
        self._reply(methods.ExchangeUnbindOk(), method.nowait)

    def _exchange_binding(self, method: methods.ExchangeBind | methods.ExchangeUnbind) -> AmqpBinding:
        self._scope.permissions.require_exchange(Operation.WRITE, method.destination)
        self._scope.permissions.require_exchange(Operation.READ, method.source)
        return AmqpBinding(method.source, method.destination, False, method.routing_key, method.arguments)

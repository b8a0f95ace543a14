"""What a channel publishes: checks, batches of a turn of the loop, returns, confirmations, transactions.

Messages that arrive in one turn are published with one call, and further ones do not wait for it. The order
in each queue is that of publishing. A message that no queue gets is stored and confirmed, and returned before
that if it is mandatory. A message that a queue refused is answered by basic.nack.

Owns: messages until they are stored or refused. Refuses: routing, which is the virtual host's matter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mainstem.access_contract import Operation
from mainstem.amqp.errors import AmqpError, amqp_error
from mainstem.amqp.messages import AmqpMessage
from mainstem.amqp.properties import Properties
from mainstem.amqp.properties_codec import encode_properties
from mainstem.amqp.topic_publisher import publish_to_topics
from mainstem.contract import StreamError
from mainstem.doors.amqp091.confirms import ConfirmTracker
from mainstem.doors.amqp091.direct_replies import ADDRESS_PREFIX, REPLY_TO
from mainstem.doors.amqp091.failures import as_amqp_error
from mainstem.doors.amqp091.frames import ack_frame, nack_frame
from mainstem.doors.amqp091.message_checks import check_properties, check_size
from mainstem.doors.amqp091.methods import BasicPublish, BasicReturn
from mainstem.doors.net.throttle import MESSAGE_HEAD_BYTES
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.amqp.publisher import PublishOutcome
    from mainstem.doors.amqp091.channel_scope import ChannelScope

NO_ROUTE = 312
MESSAGE_OVERHEAD_BYTES = 512
"""Of a message in memory, beside its body: an estimate."""
TRANSACTION_BYTES_MAX = 64 << 20


class Publication(NamedTuple):
    """A message under way."""

    message: AmqpMessage
    mandatory: bool
    number: int
    """Its number among those that are to be confirmed; 0: it is not."""

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return len(self.message.body) + MESSAGE_OVERHEAD_BYTES


class ChannelPublisher:
    """Publishes for one channel."""

    def __init__(self, scope: ChannelScope) -> None:
        self._scope = scope
        self.confirms: ConfirmTracker | None = None
        """None: messages are not confirmed."""
        self.transaction: list[Publication] | None = None
        """What is published at tx.commit; None: there are no transactions."""
        self._transaction_bytes = 0
        self.reply_address = ""
        """Of the channel's consumer of direct replies; empty: there is none."""
        self._gathered: list[Publication] = []
        self._calls = 0
        self._idle: Promise[None] | None = None

    def publish(self, method: BasicPublish, properties: Properties, body: bytes) -> None:
        """Publish a message, or keep it for the commit. AmqpError."""
        if method.immediate:
            raise amqp_error(540, "immediate=true")
        scope = self._scope
        check_size(len(body))
        scope.permissions.require_exchange(Operation.WRITE, method.exchange)
        scope.vhost.check_publish(method.exchange)
        check_properties(properties, scope.user)
        if properties.reply_to == REPLY_TO:
            properties = self._with_reply_address(properties)
        scope.connection.throttle.published(len(body) + MESSAGE_HEAD_BYTES)
        number = self.confirms.next() if self.confirms is not None else 0
        message = AmqpMessage(method.exchange, method.routing_key, properties, body, scope.user)
        publication = Publication(message, method.mandatory, number)
        if self.transaction is not None:
            self._transaction_bytes += publication.size
            if self._transaction_bytes > TRANSACTION_BYTES_MAX:
                raise amqp_error(406, f"a transaction has at most {TRANSACTION_BYTES_MAX} bytes")
            self.transaction.append(publication)
            return
        scope.connection.hold(publication.size)
        if not self._gathered:
            self._calls += 1
            scope.connection.start_task(self._publish_gathered())
        self._gathered.append(publication)

    def _with_reply_address(self, properties: Properties) -> Properties:
        if not self.reply_address:
            raise amqp_error(406, "fast reply consumer does not exist")
        values = {name: getattr(properties, name) for name in properties.__struct_fields__}
        return Properties(**values | {"reply_to": self.reply_address})

    # --- under way ----------------------------------------------------------------------------------------

    async def settled(self) -> None:
        """Return when everything that was published is stored or refused, and confirmed."""
        while self._calls:
            if self._idle is None:
                self._idle = Promise()
            await self._idle

    async def _publish_gathered(self) -> None:
        publications, self._gathered = self._gathered, []
        try:
            await self._publish(publications)
        except (AmqpError, StreamError) as error:
            self._scope.connection.fail(self._scope.number, as_amqp_error(error), None)
        finally:
            self._scope.connection.release(sum(publication.size for publication in publications))
            self._calls -= 1
            if not self._calls and self._idle is not None:
                idle, self._idle = self._idle, None
                idle.resolve(None)

    async def _publish(self, publications: Sequence[Publication]) -> bool:
        """Publish, return and confirm. Whether none was refused."""
        vhost, replies = self._scope.vhost, self._scope.replies
        stored: list[int] = []
        refused: list[int] = []
        waiting: list[Publication] = []
        to_topics: list[Publication] = []
        for publication in publications:
            message = publication.message
            if message.exchange == "" and message.routing_key.startswith(ADDRESS_PREFIX):
                if not replies.deliver(message.routing_key, message.properties, message.body):
                    self._return_if_mandatory(publication)
                stored.append(publication.number)
            elif vhost.is_topic(message.exchange):
                to_topics.append(publication)
            else:
                waiting.append(publication)
        # Both begin at once: if one waited for the other, a later call could be before this one in a topic.
        publishing = self._publish_to_topics(to_topics) if to_topics else None
        if waiting:
            results = await vhost.publish([publication.message for publication in waiting])
            for publication, result in zip(waiting, results, strict=True):
                if result == "unrouted":
                    self._return_if_mandatory(publication)
                (refused if result == "refused" else stored).append(publication.number)
        if publishing is not None:
            for publication, outcome in zip(to_topics, await publishing, strict=True):
                (refused if outcome == "refused" else stored).append(publication.number)
        if self.confirms is not None and publications[0].number:
            self._confirm(self.confirms, sorted(stored), refused)
        return not refused

    def _publish_to_topics(self, publications: Sequence[Publication]) -> Awaitable[list[PublishOutcome]]:
        vhost = self._scope.vhost
        messages = [publication.message for publication in publications]
        return publish_to_topics(self._scope.engine, vhost.name, messages, vhost.wall_ms())

    def _return_if_mandatory(self, publication: Publication) -> None:
        if publication.mandatory:
            message = publication.message
            method = BasicReturn(NO_ROUTE, "NO_ROUTE", message.exchange, message.routing_key)
            raw = encode_properties(message.properties)
            self._scope.connection.send_message(self._scope.number, method, raw, message.body)

    def _confirm(self, confirms: ConfirmTracker, stored: list[int], refused: list[int]) -> None:
        for confirmation in confirms.settle(stored, refused):
            frame = ack_frame if confirmation.is_ack else nack_frame
            self._scope.connection.send(
                frame(self._scope.number, confirmation.number, multiple=confirmation.multiple)
            )

    # --- transactions -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Keep what is published from now on for a commit."""
        if self.transaction is None:
            self.transaction = []

    async def commit(self) -> None:
        """Publish what is kept. AmqpError: a part of it was refused."""
        publications, self.transaction = self.transaction, []
        self._transaction_bytes = 0
        if publications and not await self._publish(publications):
            raise amqp_error(406, "partial tx completion")

    def roll_back(self) -> None:
        """Drop what is kept."""
        self.transaction = []
        self._transaction_bytes = 0

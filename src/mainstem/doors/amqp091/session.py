"""A connection that is open to a virtual host: its channels, and what ends with it.

Owns: the channels, and the exclusive queues of the connection at its end. Refuses: sockets, frames and login,
which are the connection's; it opens a session when its client has logged in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from mainstem.access_contract import Operation, RequesterRights, ResourceType
from mainstem.amqp.errors import amqp_error
from mainstem.attach_contract import AttachesConsumers
from mainstem.contract import Engine
from mainstem.doors.amqp091.channel import AmqpChannel
from mainstem.doors.amqp091.channel_scope import ChannelScope
from mainstem.doors.amqp091.direct_replies import DirectReplies
from mainstem.doors.amqp091.permissions import VhostPermissions
from mainstem.routing_contract import OffersRoutedQueues

if TYPE_CHECKING:
    from mainstem.access_contract import Authorizer, Requester
    from mainstem.amqp.vhost import Vhost
    from mainstem.amqp.vhost_state import BrokerEngine
    from mainstem.amqp.vhosts import Vhosts
    from mainstem.doors.amqp091.contract import AmqpConnection
    from mainstem.masking.contract import RequesterMasks


class VhostSession:
    """A connection in its virtual host."""

    def __init__(
        self,
        connection: AmqpConnection,
        vhost: Vhost,
        engine: BrokerEngine,
        permissions: VhostPermissions,
        sessions: VhostSessions,
    ) -> None:
        """`engine`: as the user may use it."""
        self._connection = connection
        self._vhost = vhost
        self._engine = engine
        self._permissions = permissions
        self._sessions = sessions
        self.channels: dict[int, AmqpChannel] = {}

    def channel(self, number: int) -> AmqpChannel:
        """Open a channel."""
        scope = ChannelScope(
            number=number,
            connection=self._connection,
            vhost=self._vhost,
            attached=self._engine.attached,
            engine=self._engine,
            permissions=self._permissions,
            replies=self._sessions.replies,
            user=self._connection.user,
            owner=self,
        )
        channel = AmqpChannel(scope, self._make_tag, lambda: self._forget(number, channel))
        self.channels[number] = channel
        return channel

    def _make_tag(self) -> str:
        return f"amq.ctag-{self._sessions.make_id()}"

    def _forget(self, number: int, channel: AmqpChannel) -> None:
        if self.channels.get(number) is channel:
            del self.channels[number]

    def sending_blocked(self) -> None:
        """The client reads too slowly."""
        for channel in self.channels.values():
            channel.consumers.pause()

    def sending_resumed(self) -> None:
        """It reads again."""
        for channel in self.channels.values():
            channel.consumers.resume()

    async def close(self) -> None:
        """End the channels, and delete the connection's exclusive queues."""
        for channel in list(self.channels.values()):
            await channel.close()
        await self._vhost.connection_closed(self)


class VhostSessions:
    """Opens the sessions of a door."""

    def __init__(
        self,
        vhosts: Vhosts,
        authorizer: Authorizer,
        engine_of: Callable[[Requester], Engine],
        masks_of: Callable[[Requester], RequesterMasks],
        make_id: Callable[[], str],
    ) -> None:
        """`engine_of`: the engine as a requester may use it. `masks_of`: what is masked for a requester.
        `make_id`: an id that cannot be guessed, of up to 100 characters."""
        self._vhosts = vhosts
        self.authorizer = authorizer
        self._engine_of = engine_of
        self._masks_of = masks_of
        self.make_id = make_id
        self.replies = DirectReplies(make_id)

    async def open(self, connection: AmqpConnection, vhost: str) -> VhostSession:
        """Open a session. 530: there is no such virtual host, or the user may not DESCRIBE it."""
        known = self._vhosts.get(vhost)
        if known is None:
            raise amqp_error(530, f"vhost {vhost} not found")
        engine = self._engine_of(connection.requester)
        if not isinstance(engine, AttachesConsumers) or not isinstance(engine, OffersRoutedQueues):
            raise amqp_error(540, "this server has no queues")
        rights = RequesterRights(self.authorizer, connection.requester)
        name_in = engine.routed_queues.subscription_of
        if not rights.allows(Operation.DESCRIBE, ResourceType.SUBSCRIPTION, name_in(vhost, "")):
            raise amqp_error(530, f"access to vhost '{vhost}' refused for user '{connection.user}'")
        masks = self._masks_of(connection.requester)
        permissions = VhostPermissions(rights, masks, vhost, connection.user, name_in)
        return VhostSession(connection, known, cast("BrokerEngine", engine), permissions, self)

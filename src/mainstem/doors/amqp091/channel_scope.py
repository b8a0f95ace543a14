"""What the parts of a channel share: its connection, its virtual host, and who its user is.

Owns: nothing; session.py makes it, once for each channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mainstem.amqp.vhost import Vhost
    from mainstem.attach_contract import AttachedConsumers
    from mainstem.contract import Engine
    from mainstem.doors.amqp091.contract import AmqpConnection
    from mainstem.doors.amqp091.direct_replies import DirectReplies
    from mainstem.doors.amqp091.permissions import VhostPermissions


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelScope:
    """A channel's surroundings."""

    number: int
    connection: AmqpConnection
    vhost: Vhost
    attached: AttachedConsumers
    """As the user may use it."""
    engine: Engine
    """As the user may use it: for streams."""
    permissions: VhostPermissions
    replies: DirectReplies
    user: str
    owner: object
    """The connection, as the owner of exclusive queues."""

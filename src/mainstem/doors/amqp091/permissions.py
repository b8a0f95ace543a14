"""RabbitMQ's permissions of a user in a virtual host, as access control entries of the server.

| RabbitMQ | here |
|---|---|
| configure a queue, an exchange | CREATE to declare it, DELETE to delete it |
| write | WRITE |
| read | READ |

A queue is the SUBSCRIPTION of its name, `%2F/orders` for the queue `orders` of `/`; an exchange is the
EXCHANGE of the same form. Owns: this mapping and the texts of refusals. Refuses: to decide, which the
authorizer does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mainstem.access_contract import Operation, RequesterRights, ResourceType
from mainstem.amqp.errors import amqp_error
from mainstem.contract import NotAuthorized

if TYPE_CHECKING:
    from mainstem.masking.contract import RequesterMasks

_WORDS = {
    Operation.CREATE: "configure",
    Operation.DELETE: "configure",
    Operation.WRITE: "write",
    Operation.READ: "read",
}


class VhostPermissions:
    """What a user may do in a virtual host."""

    __slots__ = ("_masks", "_name_in", "_rights", "_user", "_vhost")

    def __init__(
        self,
        rights: RequesterRights,
        masks: RequesterMasks,
        vhost: str,
        user: str,
        name_in: Callable[[str, str], str],
    ) -> None:
        """`name_in`: the name of a resource by those of a virtual host and of a queue."""
        self._rights = rights
        self._masks = masks
        self._vhost = vhost
        self._user = user
        self._name_in = name_in

    def require_queue(self, operation: Operation, name: str) -> None:
        """Raise 403 unless the user may do this to the queue: CREATE, DELETE, WRITE or READ."""
        if self._rights.are_limited:
            self._require(operation, ResourceType.SUBSCRIPTION, "queue", name)

    def require_exchange(self, operation: Operation, name: str) -> None:
        """Raise 403 unless the user may do this to the exchange."""
        if self._rights.are_limited:
            self._require(operation, ResourceType.EXCHANGE, "exchange", name or "amq.default")

    def require_plain(self, action: str) -> None:
        """Raise 403 if something of any topic is masked for the user: the action may reveal it, for it copies
        messages to another topic."""
        try:
            self._masks.require_none(action)
        except NotAuthorized as error:
            raise amqp_error(403, str(error)) from error

    def _require(self, operation: Operation, kind: ResourceType, word: str, name: str) -> None:
        try:
            self._rights.require(operation, kind, self._name_in(self._vhost, name))
        except NotAuthorized as error:
            raise amqp_error(
                403,
                f"{_WORDS[operation]} access to {word} '{name}' in vhost '{self._vhost}' "
                f"refused for user '{self._user}'",
            ) from error

"""A request to the management API as the function of a route sees it, and the declaration of a route.

Owns: `ManagementRoute`, `ManagementContext`, which all routes share, and the rights of a request. Refuses:
resources that the requester has no right to: see `ManagementRequest.require`.

RabbitMQ's permissions are entries of the server's access control. To configure is CREATE, DELETE and ALTER,
to write WRITE and to read READ; a queue is the SUBSCRIPTION `%2F/orders` (`routing_contract.py`), an exchange
the EXCHANGE of the same form, a virtual host the SUBSCRIPTION `%2F/`. The tag administrator is ALTER of the
cluster, monitoring DESCRIBE.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from mainstem.access_contract import Operation, RequesterRights, ResourceType
from mainstem.contract import NotAuthorized
from mainstem.doors.rabbitmq_management import bodies
from mainstem.doors.rabbitmq_management.refusals import access_refused, not_in_api
from mainstem.quota_contract import QuotaKey

if TYPE_CHECKING:
    from mainstem.access_contract import Requester
    from mainstem.amqp.broker import AmqpBroker
    from mainstem.amqp.vhost import Vhost
    from mainstem.contract import Engine
    from mainstem.doors.contract import DoorContext
    from mainstem.doors.rabbitmq_management.rates import RateSampler

DEFAULT_EXCHANGE = "amq.default"
"""What paths call the exchange whose name is empty."""


class Tag(Enum):
    """What a route needs of its user at least, in RabbitMQ's words."""

    MANAGEMENT = "management"
    """A login. What is listed and changed needs its own right."""
    MONITORING = "monitoring"
    ADMINISTRATOR = "administrator"


class ApiAnswer(NamedTuple):
    """A response: its status, its JSON, and where what was created is."""

    status: int
    value: Any = None
    location: str | None = None
    media: str = "application/json"
    """With another one, the value is text."""


CREATED, NO_CONTENT = ApiAnswer(201), ApiAnswer(204)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementContext:
    """What all routes share."""

    door: DoorContext
    broker: AmqpBroker
    rates: RateSampler


class ManagementRequest:
    """One request. `parameters`: the values of the path's `{names}`, decoded; `query`: the last value of each
    parameter of the query."""

    def __init__(
        self,
        context: ManagementContext,
        requester: Requester,
        user: str,
        parameters: Mapping[str, str],
        query: Mapping[str, str],
        body: bodies.BodyReader,
        reason: str = "",
        *,
        is_anonymous: bool = False,
    ) -> None:
        self.context = context
        self.broker = context.broker
        self.requester = requester
        self.user = user
        """The name that answers show."""
        self.parameters = parameters
        self.query = query
        self.rights = RequesterRights(context.door.access.authorizer, requester)
        self._is_anonymous = is_anonymous
        self.reason = reason
        """The header X-Reason: why a connection is closed."""
        self._body = body

    # --- what was sent ------------------------------------------------------------------------------------

    async def body(self, limit: int = bodies.BODY_BYTES_MAX) -> dict[str, Any]:
        """The body, a JSON object."""
        return bodies.json_object(await self._body.read(limit))

    def is_asked(self, name: str) -> bool:
        """Whether a parameter of the query is `true`."""
        return self.query.get(name) == "true"

    @cached_property
    def vhost(self) -> Vhost:
        """The virtual host of the path. ApiRefusal: there is none that the requester may see."""
        vhost = self.broker.vhosts.get(self.parameters["vhost"])
        if vhost is None or not self.sees_vhost(vhost.name):
            raise not_in_api()
        return vhost

    @cached_property
    def exchange(self) -> str:
        """The name of the exchange in the path."""
        name = self.parameters["exchange"]
        return "" if name == DEFAULT_EXCHANGE else name

    @cached_property
    def engine(self) -> Engine:
        """The engine as the requester may use it: for the topics of streams."""
        views = self.context.door.views
        return views.engine(self.requester) if views.limit(self.requester) else self.context.door.engine

    # --- rights -------------------------------------------------------------------------------------------

    def has(self, tag: Tag) -> bool:
        """Whether the requester has this tag, or one that includes it."""
        if tag is Tag.MANAGEMENT:
            return True
        operation = Operation.ALTER if tag is Tag.ADMINISTRATOR else Operation.DESCRIBE
        return self.rights.allows(operation, ResourceType.CLUSTER)

    def is_user(self, name: str) -> bool:
        """Whether the requester is this user, which a name that is not proven does not make it."""
        return not self._is_anonymous and self.requester.principal.name == name

    def tags(self) -> list[str]:
        """The tags of the requester."""
        highest = next(tag for tag in (Tag.ADMINISTRATOR, Tag.MONITORING, Tag.MANAGEMENT) if self.has(tag))
        return [highest.value]

    def _name(self, vhost: str, name: str) -> str:
        return self.broker.resource_name(vhost, name)

    def sees_vhost(self, vhost: str) -> bool:
        """Whether the requester may know of a virtual host."""
        return not self.rights.are_limited or self.rights.allows(
            Operation.DESCRIBE, ResourceType.SUBSCRIPTION, self._name(vhost, "")
        )

    def sees_queue(self, vhost: str, queue: str) -> bool:
        """Whether the requester may know of a queue."""
        return not self.rights.are_limited or self.rights.allows(
            Operation.DESCRIBE, ResourceType.SUBSCRIPTION, self._name(vhost, queue)
        )

    def sees_exchange(self, vhost: str, exchange: str) -> bool:
        """Whether the requester may know of an exchange."""
        return not self.rights.are_limited or self.rights.allows(
            Operation.DESCRIBE, ResourceType.EXCHANGE, self._name(vhost, exchange or DEFAULT_EXCHANGE)
        )

    def require_queue(self, operation: Operation, vhost: str, queue: str) -> None:
        """ApiRefusal unless the requester may do this to the queue; an empty name: to the virtual host."""
        self._require(operation, ResourceType.SUBSCRIPTION, self._name(vhost, queue))

    def require_exchange(self, operation: Operation, vhost: str, exchange: str) -> None:
        """ApiRefusal unless the requester may do this to the exchange."""
        self._require(operation, ResourceType.EXCHANGE, self._name(vhost, exchange or DEFAULT_EXCHANGE))

    def require_plain(self, action: str) -> None:
        """NotAuthorized if something of any topic is masked for the requester: the action may reveal it."""
        self.context.door.views.masks(self.requester).require_none(action)

    def _require(self, operation: Operation, kind: ResourceType, name: str) -> None:
        try:
            self.rights.require(operation, kind, name)
        except NotAuthorized:
            raise access_refused() from None

    def all_vhosts(self) -> Iterator[Vhost]:
        """All virtual hosts, by name."""
        for name in sorted(self.broker.vhosts.names()):
            vhost = self.broker.vhosts.get(name)
            if vhost is not None:
                yield vhost

    def visible_vhosts(self) -> Iterator[Vhost]:
        """Those that the requester may see."""
        return (vhost for vhost in self.all_vhosts() if self.sees_vhost(vhost.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementRoute:
    """A route. Its docstring in `handle` says what it answers."""

    method: str
    path: str
    """Below `/api`, with `{names}`: `/queues/{vhost}/{queue}`."""
    handle: Callable[[ManagementRequest], Awaitable[ApiAnswer]]
    rights: Tag
    changes: bool = False
    """Whether it changes something: a server that refuses changes does not have it."""
    quota: QuotaKey | None = None
    """The quota that its messages count for; such a route is no line of the audit."""
    lacks: str = ""
    """What it does not do of what RabbitMQ's does, in a few words; empty: nothing."""

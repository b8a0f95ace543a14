"""Definitions: all that is declared in the virtual hosts, as one document, and back.

Owns: which parts of RabbitMQ's document are taken, and in which order. Refuses: to take a part in silence
that would not be kept: such parts are in the report, as skipped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from mainstem.amqp.broker import BROKER_VERSION, PRODUCT
from mainstem.amqp.topology import AmqpBinding, ExchangeDeclaration, QueueDeclaration
from mainstem.amqp.vhost import Vhost
from mainstem.doors.rabbitmq_management import bodies
from mainstem.doors.rabbitmq_management.callers import GUEST
from mainstem.doors.rabbitmq_management.properties_json import json_value
from mainstem.doors.rabbitmq_management.refusals import ApiRefusal, bad_request
from mainstem.doors.rabbitmq_management.routes.policies import policies_json, policy_of
from mainstem.doors.rabbitmq_management.user_admin import (
    makers_of_hash,
    permissions_in,
    permissions_json,
    put_permissions,
    put_user,
    user_json,
    user_names,
)
from mainstem.http_api.definitions import ImportReport

if TYPE_CHECKING:
    from mainstem.doors.rabbitmq_management.request import ManagementRequest

PARTS = (
    "users",
    "vhosts",
    "permissions",
    "topic_permissions",
    "parameters",
    "global_parameters",
    "policies",
    "queues",
    "exchanges",
    "bindings",
)
"""The parts of a document, in the order in which they are taken."""
OPERATOR_POLICY = "operator_policy"
ITEMS_MAX = 200_000
Item: TypeAlias = Mapping[str, Any]


class Skipped(Exception):
    """Why an item is not taken, although it makes sense to RabbitMQ."""


# --- export -----------------------------------------------------------------------------------------------


def vhost_definitions(vhosts: Sequence[Vhost]) -> dict[str, Any]:
    """What is declared in virtual hosts. Exclusive queues, and what is there by itself, are left out."""
    queues, exchanges, bindings, parameters = [], [], [], []
    for vhost in vhosts:
        for _, queue in sorted(vhost.queues.items()):
            if queue.durable and not queue.exclusive:
                queues.append(
                    {
                        "name": queue.name,
                        "vhost": vhost.name,
                        "durable": True,
                        "auto_delete": queue.auto_delete,
                        "arguments": json_value(queue.arguments),
                    }
                )
        for name, exchange in sorted(vhost.exchanges.items()):
            if name and not name.startswith("amq."):
                exchanges.append(
                    {
                        "name": name,
                        "vhost": vhost.name,
                        "type": exchange.kind,
                        "durable": exchange.durable,
                        "auto_delete": exchange.auto_delete,
                        "internal": exchange.internal,
                        "arguments": json_value(exchange.arguments),
                    }
                )
        bindings += [
            _binding_definition(vhost.name, binding) for binding in vhost.bindings() if _lasts(vhost, binding)
        ]
        parameters += [
            {
                "component": OPERATOR_POLICY,
                "vhost": vhost.name,
                "name": item["name"],
                "value": {key: value for key, value in item.items() if key not in ("vhost", "name")},
            }
            for item in policies_json([vhost], "operator_policies")
        ]
    return {
        "rabbit_version": BROKER_VERSION,
        "parameters": parameters,
        "policies": policies_json(vhosts, "policies"),
        "queues": queues,
        "exchanges": exchanges,
        "bindings": bindings,
    }


def _lasts(vhost: Vhost, binding: AmqpBinding) -> bool:
    """Whether a binding is of the document: its queue is, and it is not one that is there by itself."""
    if not binding.source:
        return False
    queue = vhost.queues.get(binding.destination) if binding.is_to_queue else None
    return not binding.is_to_queue or (queue is not None and queue.durable and not queue.exclusive)


def _binding_definition(vhost: str, binding: AmqpBinding) -> dict[str, Any]:
    return {
        "source": binding.source,
        "vhost": vhost,
        "destination": binding.destination,
        "destination_type": "queue" if binding.is_to_queue else "exchange",
        "routing_key": binding.routing_key,
        "arguments": json_value(binding.arguments),
    }


def all_definitions(request: ManagementRequest) -> dict[str, Any]:
    """The document of the server."""
    vhosts = list(request.all_vhosts())
    users = user_names(request)
    return {
        "rabbitmq_version": BROKER_VERSION,
        "product_name": PRODUCT,
        "product_version": request.context.door.version,
        "users": [user_json(request, name) for name in users],
        "vhosts": [{"name": vhost.name} for vhost in vhosts],
        "permissions": permissions_json(request, users, [vhost.name for vhost in vhosts]),
        "topic_permissions": [],
        "global_parameters": [],
        **vhost_definitions(vhosts),
    }


# --- import -----------------------------------------------------------------------------------------------


class DefinitionsImport:
    """Takes one document. `vhost`: the virtual host of all its items; None: they name it."""

    def __init__(
        self, request: ManagementRequest, vhost: str | None = None, *, dry_run: bool = False
    ) -> None:
        self._request = request
        self._vhost = vhost
        self._dry_run = dry_run
        self._known = set(request.broker.vhosts.names())
        """The virtual hosts that there are, or will be."""
        self.report = ImportReport()

    async def run(self, document: Item) -> None:
        """Take all of it. What is there already stays. ApiRefusal or AmqpError: an item cannot be taken;
        those before it are."""
        parts = {name: self._items(document, name) for name in PARTS}
        if sum(map(len, parts.values())) > ITEMS_MAX:
            raise bad_request(f"a document has at most {ITEMS_MAX} items")
        takes: dict[str, Callable[[Item], Awaitable[None]]] = {
            "users": self._user,
            "vhosts": self._new_vhost,
            "permissions": self._permissions,
            "topic_permissions": self._topic_permissions,
            "parameters": self._parameter,
            "global_parameters": self._global_parameter,
            "policies": self._policy,
            "queues": self._queue,
            "exchanges": self._exchange,
            "bindings": self._binding,
        }
        for part, items in parts.items():
            for item in items:
                await self._take(part, item, takes[part])

    async def _take(self, part: str, item: Item, take: Callable[[Item], Awaitable[None]]) -> None:
        try:
            await take(item)
        except Skipped as reason:
            name = str(item.get("name") or item.get("user") or item.get("source") or "")
            self.report.skipped.append({"part": part, "name": name, "reason": str(reason)})
        else:
            self.report.taken[part] = self.report.taken.get(part, 0) + 1

    def _items(self, document: Item, part: str) -> list[Item]:
        items = document.get(part) or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise bad_request(["not_a_list_of_objects", part])
        return items

    # --- parts of the server ------------------------------------------------------------------------------

    async def _user(self, item: Item) -> None:
        name = bodies.text(item, "name")
        if name in user_names(self._request) and not item.get("password"):
            return
        if not item.get("password"):
            if name == GUEST:
                raise Skipped(
                    "RabbitMQ lets its user guest log in from its own machine only: here it could from all"
                )
            try:
                makers = makers_of_hash(self._request, dict(item))
            except ValueError as error:
                raise Skipped(str(error)) from None
            if not makers:
                raise Skipped("a user needs a password here")
        if not self._dry_run:
            await put_user(self._request, name, dict(item))

    async def _new_vhost(self, item: Item) -> None:
        name = bodies.text(item, "name")
        if name not in self._known:
            self._known.add(name)
            if not self._dry_run:
                await self._request.broker.vhosts.create(name)

    async def _permissions(self, item: Item) -> None:
        user, vhost = bodies.text(item, "user"), self._vhost_name(item)
        if user not in user_names(self._request):
            raise Skipped(f"there is no user {user}")
        permissions = permissions_in(dict(item))
        if self._dry_run:
            return
        try:
            await put_permissions(self._request, user, vhost, permissions)
        except ApiRefusal as refusal:
            raise Skipped(str(refusal)) from None

    async def _topic_permissions(self, item: Item) -> None:
        raise Skipped("there are no topic permissions")

    async def _global_parameter(self, item: Item) -> None:
        if (
            bodies.text(item, "name") != "internal_cluster_id"
        ):  # what RabbitMQ calls itself, in every document
            raise Skipped("there are no global parameters")

    # --- parts of a virtual host --------------------------------------------------------------------------

    def _vhost_name(self, item: Item) -> str:
        name = self._vhost if self._vhost is not None else bodies.text(item, "vhost")
        if name not in self._known:
            raise bad_request(["no_such_vhost", name])
        return name

    def _vhost_of(self, item: Item) -> Vhost | None:
        """The virtual host of an item; None: it will be there when this is no dry run."""
        vhost = self._request.broker.vhosts.get(self._vhost_name(item))
        return None if self._dry_run else vhost

    async def _parameter(self, item: Item) -> None:
        component = bodies.text(item, "component")
        if component != OPERATOR_POLICY:
            raise Skipped(f"there is no {component}")
        policy = policy_of(bodies.text(item, "name"), bodies.table(item, "value"))
        vhost = self._vhost_of(item)
        if vhost is not None:
            await vhost.set_policy(policy, is_operator=True)

    async def _policy(self, item: Item) -> None:
        policy = policy_of(bodies.text(item, "name"), dict(item))
        vhost = self._vhost_of(item)
        if vhost is not None:
            await vhost.set_policy(policy)

    async def _queue(self, item: Item) -> None:
        declaration = QueueDeclaration(
            name=bodies.text(item, "name"),
            durable=bodies.boolean(item, "durable", True),
            exclusive=False,
            auto_delete=bodies.boolean(item, "auto_delete"),
            arguments=bodies.table(item, "arguments"),
        )
        vhost = self._vhost_of(item)
        if vhost is not None and declaration.name not in vhost.queues:
            await vhost.declare_queue(declaration, self, self._request.engine)

    async def _exchange(self, item: Item) -> None:
        declaration = ExchangeDeclaration(
            name=bodies.text(item, "name"),
            kind=bodies.text(item, "type", "direct"),
            durable=bodies.boolean(item, "durable", True),
            auto_delete=bodies.boolean(item, "auto_delete"),
            internal=bodies.boolean(item, "internal"),
            arguments=bodies.table(item, "arguments"),
        )
        vhost = self._vhost_of(item)
        if vhost is not None and declaration.name not in vhost.exchanges:
            await vhost.declare_exchange(declaration)

    async def _binding(self, item: Item) -> None:
        binding = AmqpBinding(
            source=bodies.text(item, "source"),
            destination=bodies.text(item, "destination"),
            is_to_queue=bodies.text(item, "destination_type", "queue") == "queue",
            routing_key=bodies.text(item, "routing_key"),
            arguments=bodies.table(item, "arguments"),
        )
        vhost = self._vhost_of(item)
        if vhost is not None and binding.source:
            await vhost.bind(binding, self)

"""The contract between the server and its doors, with the declarations of doors and listeners.

A door serves one protocol. Its folder below `mainstem.doors` declares it as a `Door`, which costs nothing to
import, and one line in `mainstem.doors` adds it to `DOORS`. Flags, settings, the ready line, `/readyz`,
metrics and docs are derived from that declaration. The code behind it is imported at its first connection.
Owns: `Door`, `Listener`, and what the server and an open door know of each other (`DoorContext`, `OpenDoor`,
`DoorStatus`). Refuses: to import the code of any door, because every start imports this module.

A listener is one bound address. A door may have several listeners, and a listener several doors: an accepted
connection goes to the door whose bytes it sends (`Door.sniff`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from mainstem.access_contract import ANONYMOUS, Principal
from mainstem.doors.net.address import HostPort
from mainstem.doors.net.security import SecurityProtocol
from mainstem.quota_contract import ClientQuotas, NoQuotas
from mainstem.setting_definition import SettingDefinition

if TYPE_CHECKING:
    from mainstem.access_contract import AccessAdmin, ApiTokenStore, Authorizer, Requester
    from mainstem.amqp.broker import AmqpBroker
    from mainstem.audit.trail import AuditTrail
    from mainstem.authentication.service import Authentication
    from mainstem.clock import Clock
    from mainstem.contract import Engine
    from mainstem.door_contract import PublishesTokenKeys
    from mainstem.doors.net.accepted import AcceptedConnection
    from mainstem.doors.net.warning_log import WarningLog
    from mainstem.masking.contract import Masks, RequesterMasks
    from mainstem.node import Node
    from mainstem.search.contract import Search
    from mainstem.settings import Settings

MetricSample: TypeAlias = tuple[str, tuple[str, ...], float]
"""A metric's name, the values of its labels, its number."""


HttpApp: TypeAlias = "Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]"
"""An ASGI application: scope, receive, send."""


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """A metric: its type, the names of its labels, its help text."""

    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUsage:
    """Disk space in bytes: used by the log's files, and free and total of the file system that holds them."""

    used_bytes: int
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One address that connections are accepted on."""

    name: str
    """The name of the listener, as in Kafka: PLAINTEXT, or one that the settings give a protocol."""
    address: HostPort
    """The address that the socket is bound to."""
    advertised: HostPort
    """The address that clients are given to connect to."""
    doors: tuple[str, ...]
    """Names of the doors that serve its connections."""
    security: SecurityProtocol = SecurityProtocol.PLAINTEXT
    mechanisms: tuple[str, ...] = ()
    """The SASL mechanisms by which clients may log in: those that are enabled, and safe on this address.
    Empty unless `security.authenticates`."""
    default_principal: Principal = ANONYMOUS
    """Who a client is that does not authenticate."""


class OpenDoor(Protocol):
    """A door whose code is imported and that serves connections."""

    @property
    def connections(self) -> int:
        """The number of connections that the door serves now."""

    def accept(self, connection: AcceptedConnection, listener: Listener) -> None:
        """Serve a connection that `listener` accepted. The door owns it from here, and calls
        `connection.closed` at its end."""

    @property
    def http_app(self) -> HttpApp | None:
        """The ASGI application for requests of the HTTP door whose path begins with `Door.http_prefix`; None
        if the door has no prefix."""

    def problems(self) -> Sequence[str]:
        """Why the door does not serve as it should, one line each; `/readyz` reports them."""

    def metric_samples(self) -> Iterable[MetricSample]:
        """Values of the metrics that the door declares."""

    async def drain(self) -> None:
        """Start no new request, finish those that can be finished within some seconds."""

    async def close(self) -> None:
        """End every connection, whatever it waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorStatus:
    """A door as the server reports it: in the ready line, `/readyz`, `/api/v1/cluster` and `/metrics`."""

    name: str
    title: str
    flag: str
    """The command-line flag that turns the door on."""
    addresses: tuple[HostPort, ...] = ()
    """The addresses that the door listens on; empty if it is off."""
    advertised: tuple[HostPort, ...] = ()
    """The addresses that clients are given, in the order of `addresses`."""
    security: tuple[SecurityProtocol, ...] = ()
    """The security protocols, in the order of `addresses`."""
    off_reason: str = ""
    """Why it is off although it was asked for; empty if it is on, or was not asked for."""
    connections: int = 0
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What an administrator should do, though the door serves as it should; one line each."""
    certificate_expires_at_s: float | None = None
    """When its first certificate ends, in seconds since 1970; None without TLS."""
    metrics: Mapping[str, MetricDefinition] = field(default_factory=dict)
    samples: tuple[MetricSample, ...] = ()

    @property
    def is_on(self) -> bool:
        """Whether the door listens for connections."""
        return bool(self.addresses)

    @property
    def address_texts(self) -> list[str]:
        """The addresses, with the security protocol in front of those that are not PLAINTEXT."""
        security = self.security or (SecurityProtocol.PLAINTEXT,) * len(self.addresses)
        return [
            str(address) if protocol is SecurityProtocol.PLAINTEXT else f"{protocol}://{address}"
            for protocol, address in zip(security, self.addresses, strict=True)
        ]

    @property
    def text(self) -> str:
        """The status in one line: `127.0.0.1:9092`, several addresses with commas, `SASL_SSL://` and the like
        in front of those that are not PLAINTEXT, or `off`, with the reason if there is one."""
        if self.addresses:
            return ",".join(self.address_texts)
        return f"off ({self.off_reason})" if self.off_reason else "off"


class RequesterViews(Protocol):
    """What each requester may see and do, as an engine and a search: whatever is not allowed raises
    NotAuthorized or is left out."""

    def limit(self, requester: Requester) -> bool:
        """Whether there may be something that the requester may not see or do. If not, the engine itself may
        be used in the place of a view."""

    def masks(self, requester: Requester) -> RequesterMasks:
        """What is masked for this requester."""

    def engine(self, requester: Requester) -> Engine:
        """The engine as this requester may use it."""

    def search(self, requester: Requester) -> Search:
        """The search of the topics that this requester may read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who it is, who may do what, and the users and entries that say so."""

    authorizer: Authorizer
    admin: AccessAdmin
    authentication: Authentication
    masks: Masks
    quotas: ClientQuotas = field(default_factory=NoQuotas)
    api_tokens: ApiTokenStore | None = None
    """None: no API tokens are kept, and none is accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorContext:
    """The objects and settings that the server passes to a door when it opens the door."""

    settings: Settings
    clock: Clock
    engine: Engine
    access: Access
    cluster_address: str
    """HOST:PORT where Kafka clients connect to the log; empty if they cannot."""
    listeners: tuple[Listener, ...]
    """The listeners of this door."""
    warnings: WarningLog
    """Logs warnings about clients of this door, limited in rate."""
    statuses: Callable[[], Sequence[DoorStatus]]
    """Returns the status of every door of the server, this one included."""
    search: Callable[[], Search]
    """Returns the server's search, which is created at the first call."""
    views: RequesterViews
    """The engine and the search for each requester; those above are for the door itself."""
    version: str
    """The version of mainstem."""
    read_only: bool = False
    """Whether the engine refuses every change."""
    http_mounts: Mapping[str, Callable[[], Awaitable[HttpApp]]] = field(default_factory=dict)
    """For the HTTP door: by the path prefix of each other door that has one, the function that opens that
    door and returns its ASGI application."""
    token_keys: PublishesTokenKeys | None = None
    """The keys of tokens that pushed events are sent with; None: nothing is pushed."""
    disk_usage: Callable[[], DiskUsage] | None = None
    """Returns the disk space of the log; None if the log is on another machine, or
    on no disk."""
    write_refusal: Callable[[], str | None] = lambda: None
    """Returns why topics accept no events now (the disk is full or does not respond, the data is at its
    limit); None: they accept them."""
    audit: AuditTrail | None = None
    """Records who did what; None: there is no audit."""
    broker: Callable[[], Awaitable[AmqpBroker]] | None = None
    """Returns the virtual hosts and connections of RabbitMQ's protocols, which are loaded at the first call
    at the latest; None: the engine has no routed queues."""
    node: Node | None = None
    """The log and coordinator themselves, for doors that declare `needs_node`."""


Opener: TypeAlias = "Callable[[DoorContext], Awaitable[OpenDoor]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """The declaration of a door."""

    name: str
    """The folder's name; also the name of the setting and the flag for its address, and of its metrics'
    label."""
    title: str
    """The name of the door that people read: Kafka, HTTP."""
    port: int
    """The usual port of its protocol."""
    sniff: Callable[[bytes], bool | None]
    """Whether the first bytes of a connection, at least one, are this protocol's; None: more are needed."""
    load: Callable[[], Opener]
    """Import the door's code, all of it, and return what opens the door. Called once, in a thread."""
    settings: tuple[SettingDefinition, ...] = ()
    """Its own settings, beside that of its address. Their names begin with the door's name and `_`."""
    kafka_listener_setting: str | None = None
    """Kafka's name for the setting of its address."""
    metrics: Mapping[str, MetricDefinition] = field(default_factory=dict)
    http_prefix: str = ""
    """The prefix of its paths on the HTTP door, such as `/echo/`; `OpenDoor.http_app` answers them."""
    needs_advertised_address: bool = False
    """Whether the protocol sends clients the address to connect to. If so, a wildcard address needs
    `--advertise`."""
    needs_node: bool = False
    """Whether the door uses log and coordinator directly (`DoorContext.node`), not only the engine."""
    uses_search: bool = False
    """Whether the door searches. If so, the server builds token filters."""
    alpn: tuple[str, ...] = ()
    """Names by which clients may ask for its protocol in the TLS handshake (RFC 7301)."""
    mechanisms: tuple[str, ...] = ()
    """The SASL mechanisms that the door's code can authenticate clients by; of HTTP, PLAIN is Basic and
    OAUTHBEARER is Bearer. Without any, an address at which clients have to log in is refused."""
    on_by_default: bool = False
    """Whether the door is on without any setting or flag. If its port is then taken, the start fails."""
    preload: bool = False
    """Whether the door's code is imported soon after the start, also without a connection."""
    started_text: str = ""
    """A line that is logged when the door accepts connections, `{port}` being its first port: what programs
    wait for that start another server of the protocol in a container."""

    @property
    def flag(self) -> str:
        """The flag of `mainstem serve` for its address."""
        return "--" + self.name.replace("_", "-")

    @property
    def address_setting(self) -> SettingDefinition:
        """The setting for its address."""
        return SettingDefinition(
            name=self.name,
            type=str | None,
            default=None,
            doc=f"[NAME://]HOST:PORT of the {self.title} door, several with commas; port 0 picks a free one.",
            kafka=self.kafka_listener_setting,
            metavar="HOST:PORT",
            has_flag=True,
            usual=f"127.0.0.1:{self.port}",
        )

    @property
    def definitions(self) -> tuple[SettingDefinition, ...]:
        """All settings of the door."""
        return (self.address_setting, *self.settings)

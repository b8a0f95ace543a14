"""The contract of access control: who asks, for what, on which resource, and who answers.

Doors authenticate their clients and ask an `Authorizer` before each operation; they manage users and access
control lists by `AccessAdmin`. The words, numbers and rules are those of Apache Kafka's authorizer (KIP-11,
KIP-290), extended by the resources that Kafka does not have. Owns: these types and protocols, and the error
of a denial. Refuses: imports of an engine, the coordinator or a wire protocol, and passwords.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

from mainstem.promise import Promise
from mainstem.stream_errors import NotAuthorized

ANY_HOST = "*"
ANY_NAME = "*"
"""As the name of a literal pattern: every resource of the type. As the name of a principal: every user."""
CLUSTER_NAME = "kafka-cluster"
"""The name of the only resource of the type CLUSTER, as in Kafka."""
USER, ROLE = "User", "Role"
"""Types of principals. Kafka has only users; the groups of an identity provider are roles."""


class Operation(IntEnum):
    """What is done to a resource: Kafka's `AclOperation`, with its numbers."""

    ANY = 1
    """In filters only."""
    ALL = 2
    """In access control entries only: every operation."""
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12
    CREATE_TOKENS = 13
    DESCRIBE_TOKENS = 14
    TWO_PHASE_COMMIT = 15


class ResourceType(IntEnum):
    """The type of a resource: Kafka's `ResourceType` with its numbers, and from 100 on those that only
    mainstem has, which Kafka's protocol never names."""

    ANY = 1
    """In filters only."""
    TOPIC = 2
    GROUP = 3
    """Consumer groups and share groups."""
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    USER = 7
    SUBSCRIPTION = 100
    """A subscription of the queue engine; a share group is a GROUP."""
    EXCHANGE = 101
    MQTT_FILTER = 102


class PatternType(IntEnum):
    """How the name of a pattern is compared with that of a resource: Kafka's `PatternType`."""

    ANY = 1
    """In filters only: of either type, with exactly this name."""
    MATCH = 2
    """In filters only: every pattern that the name matches."""
    LITERAL = 3
    PREFIXED = 4


class Permission(IntEnum):
    """What an entry does: Kafka's `AclPermissionType`."""

    ANY = 1
    """In filters only."""
    DENY = 2
    ALLOW = 3


class Principal(NamedTuple):
    """Somebody who is authenticated, or a role of theirs."""

    type: str
    """USER or ROLE; in filters and entries of Apache Kafka clients any other word."""
    name: str

    @property
    def text(self) -> str:
        """`User:alice`, as in Kafka."""
        return f"{self.type}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> Principal:
        """The principal of `TYPE:NAME`. ValueError if there is no colon, or nothing on a side of it."""
        kind, colon, name = text.partition(":")
        if not (kind and colon and name):
            raise ValueError(f"{text!r} is not a principal; write TYPE:NAME, such as User:alice")
        return cls(kind, name)


EVERYBODY = Principal(USER, ANY_NAME)
"""In access control entries and masking rules: every user."""
ANONYMOUS = Principal(USER, "ANONYMOUS")
"""Kafka's name for a client that is not authenticated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester:
    """Who asks for an operation."""

    principal: Principal
    roles: frozenset[Principal] = frozenset()
    host: str
    """The client's IP address."""
    client_id: str = ""
    """The client's own name for itself, which proves nothing; for quotas and the audit."""
    scopes: frozenset[str] | None = None
    """What an API token is limited to; None: it is not limited."""


class Resource(NamedTuple):
    """One resource, such as the topic `orders`."""

    type: ResourceType
    name: str


class Acl(NamedTuple):
    """One access control entry: what a principal may do, or may not, to the resources of a pattern."""

    resource_type: ResourceType
    name: str
    """A name or, for a prefixed pattern, how names begin; `*` in a literal pattern: every resource."""
    pattern: PatternType
    """LITERAL or PREFIXED."""
    principal: Principal
    """`User:*` is everybody."""
    host: str
    """An IP address, or `*`."""
    operation: Operation
    permission: Permission


class AclFilter(NamedTuple):
    """A question for entries. None matches everything, as do the enumerations' ANY."""

    resource_type: ResourceType = ResourceType.ANY
    name: str | None = None
    pattern: PatternType = PatternType.ANY
    principal: Principal | None = None
    host: str | None = None
    operation: Operation = Operation.ANY
    permission: Permission = Permission.ANY


@dataclass(frozen=True, slots=True)
class AccessDecision:
    """The answer to a question for a right, and what decided it."""

    allowed: bool
    acl: Acl | None = None
    """The entry that decided; None: none did."""
    reason: str = ""
    """What decided if no entry did, such as that the requester is a super user, or that no entry matches."""


class Authorizer(Protocol):
    """Decides. Without access control it allows everything."""

    on_decision: Callable[[Requester, Operation, Resource, AccessDecision], None] | None
    """For the audit; None: there is none. Learns of every denial, of each allowed CREATE, DELETE, ALTER,
    ALTER_CONFIGS and CLUSTER_ACTION, and of other operations when they are decided for the first time since
    the last change. Does not raise."""
    on_change: list[Callable[[], None]]
    """Called when a change of entries or users is durable, and after these were loaded again: requests that
    wait have to ask again whether they are allowed."""

    @property
    def is_on(self) -> bool:
        """Whether access control is on: what no entry allows is then denied."""

    @property
    def version(self) -> int:
        """Rises with each change of an entry, a user or a role: decisions of an earlier version are void."""

    def allows(
        self, requester: Requester, operation: Operation, resource: Resource, *, is_filter: bool = False
    ) -> bool:
        """Whether the requester may do this. As in Kafka a right to READ, WRITE, DELETE or ALTER includes
        DESCRIBE, and ALTER_CONFIGS includes DESCRIBE_CONFIGS; a denial includes nothing. Decisions are cached
        until `version` rises. `is_filter`: a denial only hides the resource from a list, and the audit does
        not learn of it."""

    def decide(self, requester: Requester, operation: Operation, resource: Resource) -> AccessDecision:
        """As `allows`, with what decided: for people who ask why. It is no attempt, so the audit does not
        learn of it."""

    def allowed_operations(
        self, requester: Requester, operations: tuple[Operation, ...], resource: Resource
    ) -> tuple[Operation, ...]:
        """Those of these operations that the requester may do, for showing them: the audit does not learn of
        it. Cheap for many resources: names that the same patterns are about share an answer."""

    def allows_any(self, requester: Requester, operation: Operation, resource_type: ResourceType) -> bool:
        """Whether the requester may do this to at least one resource of the type, whether that exists or not
        (KIP-679's authorizeByResourceType)."""


class ScramMechanism(IntEnum):
    """A SCRAM mechanism (RFC 5802, 7677), with the number that Kafka's protocol gives it."""

    SHA_256 = 1
    SHA_512 = 2


@dataclass(frozen=True, slots=True)
class ScramVerifier:
    """What is kept of a password (RFC 5802, 3): it proves that a client knows the password, and does not
    reveal it."""

    mechanism: ScramMechanism
    salt: bytes
    iterations: int
    """ITERATIONS_MIN to ITERATIONS_MAX."""
    stored_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return f"ScramVerifier({self.mechanism.name}, iterations={self.iterations})"


ITERATIONS_MIN, ITERATIONS_MAX = 4_096, 16_384
"""As in Kafka."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserInfo:
    """A user of the server."""

    name: str
    mechanisms: Mapping[ScramMechanism, int]
    """The mechanisms that the user has a verifier for -> its iterations."""
    is_super: bool = False


class AccessAdmin(Protocol):
    """Users and entries, and their changes. A promise is done when the change is durable. The promises of
    `doors.contract.Access.admin` fail with InvalidArgument, NotReachable and NoSuchUser; those of the node's
    with the errors of the coordinator and the log."""

    on_user_deleted: list[Callable[[str], None]]
    """Called with the name of a user whose deletion is durable."""
    on_credentials_changed: list[Callable[[str], None]]
    """Called with the name of a user whose verifiers were set or deleted, when that is durable."""

    def users(self) -> Sequence[UserInfo]:
        """All users, by name."""

    def user(self, name: str) -> UserInfo | None:
        """The user of this name; None if there is none."""

    def verifier(self, user: str, mechanism: ScramMechanism) -> ScramVerifier | None:
        """What authenticates the user; None if there is no such user, or none for this mechanism."""

    def put_verifiers(self, user: str, verifiers: Sequence[ScramVerifier]) -> Promise[None]:
        """Set the user's verifiers of these mechanisms, and add the user if it is new."""

    def delete_verifiers(self, user: str, mechanisms: Sequence[ScramMechanism]) -> Promise[None]:
        """Remove these verifiers; a user without any is deleted, which ends their connections. NoSuchUser:
        the user has none of them."""

    def acls(self, filter_: AclFilter) -> Sequence[Acl]:
        """The entries that the filter matches, in order."""

    def create_acls(self, acls: Sequence[Acl]) -> Promise[None]:
        """Add these entries; those that exist stay as they are."""

    def delete_acls(self, acls: Sequence[Acl]) -> Promise[None]:
        """Remove these entries; those that do not exist are ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """What is known of an API token, which is not the token."""

    id: str
    user: str
    """Whose it is: who sends it has this user's rights, as far as the scopes go."""
    name: str
    """For people: what it is for."""
    scopes: frozenset[str]
    """See `coordinator/access/scopes.py`; empty: all of the user's rights."""
    created_ms: int
    expires_ms: int
    roles: frozenset[Principal] = frozenset()
    """Roles that who sends it has beside: those of the login by which it was made."""
    is_of_provider: bool = False
    """Whether its user logs in by a provider: there need not be a user of this name here."""


class ApiTokenStore(Protocol):
    """API tokens, which are known by their SHA-256 hash. The promises fail as those of `AccessAdmin`."""

    on_deleted: list[Callable[[str], None]]
    """Called with the id of a token whose deletion is durable, unless its user was deleted."""

    def tokens(self) -> Sequence[ApiToken]:
        """All tokens, by user and time. Some may have expired."""

    def find(self, digest: bytes) -> ApiToken | None:
        """The token with this hash, which may have expired; None: there is none."""

    def add(self, token: ApiToken, digest: bytes) -> Promise[None]:
        """Add a token. InvalidArgument: its user does not exist here and is none of a provider, its scopes or
        its time make no sense, or there are too many."""

    def delete(self, id_: str) -> Promise[None]:
        """Delete a token. NoSuchToken."""


class RequesterRights:
    """What one requester may do, asked of the authorizer anew each time."""

    __slots__ = ("_authorizer", "requester")

    def __init__(self, authorizer: Authorizer, requester: Requester) -> None:
        self._authorizer = authorizer
        self.requester = requester

    @property
    def version(self) -> int:
        """See `Authorizer.version`."""
        return self._authorizer.version

    @property
    def are_limited(self) -> bool:
        """Whether there may be something that the requester may not do."""
        return self._authorizer.is_on or self.requester.scopes is not None

    def allows(self, operation: Operation, resource_type: ResourceType, name: str = CLUSTER_NAME) -> bool:
        """Whether the requester may do this to the resource of this name. For choosing what to show: the
        audit does not learn of a denial."""
        return self._authorizer.allows(
            self.requester, operation, Resource(resource_type, name), is_filter=True
        )

    def require(self, operation: Operation, resource_type: ResourceType, name: str = CLUSTER_NAME) -> None:
        """Raise NotAuthorized, which does not say whether the resource exists, unless the requester may do
        this."""
        if not self._authorizer.allows(self.requester, operation, Resource(resource_type, name)):
            raise self._denial(operation, resource_type, name)

    def may_create(self, topic: str) -> bool:
        """Whether the requester may create this topic: as in Kafka by CREATE on the cluster or on the
        topic."""
        return self.allows(Operation.CREATE, ResourceType.CLUSTER) or self.allows(
            Operation.CREATE, ResourceType.TOPIC, topic
        )

    def require_creation(self, topic: str) -> None:
        """Raise NotAuthorized unless the requester may create this topic."""
        if not self.allows(Operation.CREATE, ResourceType.CLUSTER):
            self.require(Operation.CREATE, ResourceType.TOPIC, topic)

    def _denial(self, operation: Operation, resource_type: ResourceType, name: str) -> NotAuthorized:
        kind = resource_type.name.lower().replace("_", " ")
        subject = "the cluster" if resource_type is ResourceType.CLUSTER else f"{kind} {name}"
        return NotAuthorized(f"{self.requester.principal.text} may not {operation.name} {subject}")

"""The JSON of users and access control entries, and its translation to the words of the access contract.

Owns: the fields of these requests and replies, with their limits and descriptions. Refuses: passwords: a
client computes the verifiers and sends these (RFC 5802); and hosts that are no addresses, because an entry
for such a host would never match.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar, Literal, get_args

import msgspec
from msgspec import Meta

from mainstem.access_contract import (
    ANY_HOST,
    AccessDecision,
    Acl,
    AclFilter,
    Operation,
    PatternType,
    Permission,
    Principal,
    ResourceType,
    ScramMechanism,
    ScramVerifier,
    UserInfo,
)

ResourceWord = Literal[
    "TOPIC",
    "GROUP",
    "CLUSTER",
    "TRANSACTIONAL_ID",
    "DELEGATION_TOKEN",
    "USER",
    "SUBSCRIPTION",
    "EXCHANGE",
    "MQTT_FILTER",
]
OperationWord = Literal[
    "READ",
    "WRITE",
    "CREATE",
    "DELETE",
    "ALTER",
    "DESCRIBE",
    "CLUSTER_ACTION",
    "DESCRIBE_CONFIGS",
    "ALTER_CONFIGS",
    "IDEMPOTENT_WRITE",
    "CREATE_TOKENS",
    "DESCRIBE_TOKENS",
    "TWO_PHASE_COMMIT",
]
EntryOperationWord = Literal["ALL", OperationWord]
PatternWord = Literal["LITERAL", "PREFIXED"]
FilterPatternWord = Literal["LITERAL", "PREFIXED", "MATCH"]
PermissionWord = Literal["ALLOW", "DENY"]
MechanismWord = Literal["SCRAM-SHA-256", "SCRAM-SHA-512"]

MECHANISMS: dict[ScramMechanism, MechanismWord] = {
    ScramMechanism.SHA_256: "SCRAM-SHA-256",
    ScramMechanism.SHA_512: "SCRAM-SHA-512",
}
ACLS_OF_REQUEST_MAX = 500
UserName = Annotated[str, Meta(min_length=1, max_length=255)]
PrincipalText = Annotated[
    str, Meta(pattern=r"^[^:]+:.+$", max_length=4_096, description="TYPE:NAME, such as User:alice.")
]
NameText = Annotated[str, Meta(min_length=1, max_length=4_096)]
Host = Annotated[str, Meta(min_length=1, max_length=4_096, description="An IP address, or * for every one.")]
Base64 = Annotated[str, Meta(max_length=400)]


# --- users ------------------------------------------------------------------------------------------------


class VerifierJson(msgspec.Struct, forbid_unknown_fields=True):
    """A SCRAM verifier (RFC 5802): what is kept of a password. Bytes are base64."""

    mechanism: MechanismWord
    salt: Base64
    iterations: Annotated[int, Meta(ge=4_096, le=16_384)]
    stored_key: Base64
    server_key: Base64

    def __repr__(self) -> str:
        return f"VerifierJson({self.mechanism}, iterations={self.iterations})"


class NewUserJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to add a user."""

    user: UserName
    verifiers: Annotated[list[VerifierJson], Meta(min_length=1, max_length=2)]


class VerifiersJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to change the password of a user: its new verifiers, which replace all that it has."""

    verifiers: Annotated[list[VerifierJson], Meta(min_length=1, max_length=2)]


class MechanismJson(msgspec.Struct):
    """A mechanism by which a user can log in."""

    mechanism: MechanismWord
    iterations: int


class UserJson(msgspec.Struct):
    """A user of the server."""

    user: str
    mechanisms: list[MechanismJson]
    super: Annotated[bool, Meta(description="Whether the setting super_users lets it do everything.")]


class UsersQuery(msgspec.Struct):
    """Which users to list."""

    limit: Annotated[int, Meta(ge=1, le=1_000, description="Maximum number of users.")] = 500
    after: Annotated[str, Meta(description="Only names after this one: `next` of the previous page.")] = ""


class UsersJson(msgspec.Struct):
    """A page of users, sorted by name."""

    users: list[UserJson]
    next: str | None


class DeletedUserJson(msgspec.Struct):
    """The reply to the deletion of a user."""

    user: str
    dry_run: bool


# --- access control entries -------------------------------------------------------------------------------


class AclJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An access control entry: what a principal may do, or may not, to the resources of a pattern."""

    resource_type: ResourceWord
    name: Annotated[
        NameText,
        Meta(description="A name, or how names begin if the pattern is PREFIXED; *: every name."),
    ]
    principal: PrincipalText
    operation: EntryOperationWord
    permission: PermissionWord
    pattern: PatternWord = "LITERAL"
    host: Host = ANY_HOST


class AclsQuery(msgspec.Struct):
    """Which access control entries to list; what is left out matches everything."""

    resource_type: ResourceWord | None = None
    name: NameText | None = None
    pattern: Annotated[
        FilterPatternWord | None,
        Meta(description="MATCH: entries about a resource of this name, also of a prefix of it and of *."),
    ] = None
    principal: PrincipalText | None = None
    host: Host | None = None
    operation: EntryOperationWord | None = None
    permission: PermissionWord | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000, description="Maximum number of entries.")] = 500
    skip: Annotated[int, Meta(ge=0, le=1_000_000, description="`next` of the previous page.")] = 0


class AclsJson(msgspec.Struct):
    """A page of access control entries, in order."""

    acls: list[AclJson]
    next: int | None


class ChangeAclsJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to add or to delete access control entries: all of them, or none after an error."""

    JSON_SCHEMA: ClassVar = {
        "examples": [
            {
                "acls": [
                    {
                        "resource_type": "TOPIC",
                        "name": "orders",
                        "principal": "User:alice",
                        "operation": "READ",
                        "permission": "ALLOW",
                    }
                ],
                "dry_run": True,
            }
        ]
    }

    acls: Annotated[list[AclJson], Meta(min_length=1, max_length=ACLS_OF_REQUEST_MAX)]
    dry_run: Annotated[bool, Meta(description="Only report what would be done.")] = False


class ChangedAclsJson(msgspec.Struct):
    """The reply to a change of entries: those that are new, or those that are deleted, or would be."""

    acls: list[AclJson]
    dry_run: bool


class AccessQuestionJson(msgspec.Struct, forbid_unknown_fields=True):
    """The question whether somebody may do something."""

    principal: PrincipalText
    operation: OperationWord
    resource_type: ResourceWord
    name: NameText
    host: Annotated[str, Meta(max_length=100, description="The client's IP address.")] = "127.0.0.1"
    roles: Annotated[
        list[PrincipalText], Meta(max_length=100, description="Such as Role:ops: what a login would give.")
    ] = []


class AccessAnswerJson(msgspec.Struct):
    """The answer, and what decided it."""

    allowed: bool
    acl: Annotated[AclJson | None, Meta(description="The entry that decided; null: `reason` says why.")]
    reason: str


# --- translation ------------------------------------------------------------------------------------------


def verifier_of(body: VerifierJson) -> ScramVerifier:
    """The verifier. ValueError: its salt or a key is not base64."""
    mechanism = next(kind for kind, word in MECHANISMS.items() if word == body.mechanism)
    try:
        salt, stored_key, server_key = (
            b64decode(text, validate=True) for text in (body.salt, body.stored_key, body.server_key)
        )
    except (binascii.Error, ValueError):
        raise ValueError("salt, stored_key and server_key of a verifier are base64") from None
    return ScramVerifier(mechanism, salt, body.iterations, stored_key, server_key)


def verifier_json(verifier: ScramVerifier) -> VerifierJson:
    """The JSON of a verifier."""
    return VerifierJson(
        MECHANISMS[verifier.mechanism],
        b64encode(verifier.salt).decode(),
        verifier.iterations,
        b64encode(verifier.stored_key).decode(),
        b64encode(verifier.server_key).decode(),
    )


def user_json(info: UserInfo) -> UserJson:
    """The JSON of a user, without its verifiers."""
    mechanisms = [
        MechanismJson(MECHANISMS[mechanism], iterations)
        for mechanism, iterations in sorted(info.mechanisms.items())
    ]
    return UserJson(info.name, mechanisms, info.is_super)


def acl_of(body: AclJson) -> Acl:
    """The entry."""
    return Acl(
        ResourceType[body.resource_type],
        body.name,
        PatternType[body.pattern],
        Principal.parse(body.principal),
        body.host,
        Operation[body.operation],
        Permission[body.permission],
    )


def acl_json(acl: Acl) -> AclJson:
    """The JSON of an entry."""
    fields: dict[str, Any] = {
        "resource_type": acl.resource_type.name,
        "name": acl.name,
        "principal": acl.principal.text,
        "operation": acl.operation.name,
        "permission": acl.permission.name,
        "pattern": acl.pattern.name,
        "host": acl.host,
    }
    return AclJson(**fields)


def filter_of(query: AclsQuery) -> AclFilter:
    """The filter of a query."""
    return AclFilter(
        resource_type=ResourceType[query.resource_type or "ANY"],
        name=query.name,
        pattern=PatternType[query.pattern or "ANY"],
        principal=None if query.principal is None else Principal.parse(query.principal),
        host=query.host,
        operation=Operation[query.operation or "ANY"],
        permission=Permission[query.permission or "ANY"],
    )


def answer_json(decision: AccessDecision) -> AccessAnswerJson:
    """The JSON of a decision."""
    acl = None if decision.acl is None else acl_json(decision.acl)
    return AccessAnswerJson(decision.allowed, acl, decision.reason)


def check_hosts(hosts: Iterable[str]) -> None:
    """ValueError: the host of a new entry is neither an IP address nor `*`."""
    for host in hosts:
        try:
            if host != ANY_HOST:
                ip_address(host)
        except ValueError:
            raise ValueError(f"host {host!r} is no IP address; write one, or * for every host") from None


def words(kind: object) -> tuple[str, ...]:
    """The words of one of the kinds above, such as `PermissionWord`."""
    return tuple(word for arg in get_args(kind) for word in (words(arg) if get_args(arg) else (str(arg),)))

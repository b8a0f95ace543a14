"""Converts access control entries and filters to and from Kafka's messages.

Owns: which numbers and texts a client may send. Refuses: resources that Kafka does not have, which are
neither accepted nor shown, and to decide or store anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final, TypeVar

from mainstem.access_contract import (
    Acl,
    AclFilter,
    Operation,
    PatternType,
    Permission,
    Principal,
    ResourceType,
)
from mainstem.coordinator.access.acls import check_acl
from mainstem.coordinator.errors import InvalidAcl, InvalidRequest
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.kafka_protocol.message import Message

FIRST_OF_MAINSTEM: Final = 100
"""Types of resources from this number on are not Kafka's."""
DISABLED: Final = (
    ErrorCode.SECURITY_DISABLED,
    "Access control is off on this server: start it with the setting access_control.",
)
"""The answer while entries are not enforced, as from a Kafka broker without an authorizer."""

E = TypeVar("E", bound=IntEnum)


def _known(kind: type[E], number: int, name: str) -> E:
    """The member of an enumeration. ValueError if Kafka has none of this number."""
    try:
        member = kind(number)
    except ValueError:
        raise ValueError(f"Unknown {name} {number}") from None
    if kind is ResourceType and number >= FIRST_OF_MAINSTEM:
        raise ValueError(f"Unknown {name} {number}")
    return member


def acl_of(creation: Message) -> Acl:
    """The entry that a client asks to create. InvalidAcl."""
    try:
        acl = Acl(
            _known(ResourceType, creation.resource_type, "resource type"),
            creation.resource_name,
            _known(PatternType, creation.resource_pattern_type, "pattern type"),
            Principal.parse(creation.principal),
            creation.host,
            _known(Operation, creation.operation, "operation"),
            _known(Permission, creation.permission_type, "permission type"),
        )
    except ValueError as error:
        raise InvalidAcl(str(error)) from None
    check_acl(acl)
    return acl


def filter_of(message: Message) -> AclFilter | None:
    """The filter of a request. None: it matches nothing, because no principal has this form.
    InvalidRequest: Kafka has no such number."""
    try:
        filter_ = AclFilter(
            _known(ResourceType, message.resource_type_filter, "resource type"),
            message.resource_name_filter,
            _known(PatternType, message.pattern_type_filter, "pattern type"),
            None,
            message.host_filter,
            _known(Operation, message.operation, "operation"),
            _known(Permission, message.permission_type, "permission type"),
        )
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    if message.principal_filter is None:
        return filter_
    try:
        return filter_._replace(principal=Principal.parse(message.principal_filter))
    except ValueError:
        return None


def of_kafka(acls: Iterable[Acl]) -> Sequence[Acl]:
    """Those entries whose resources Kafka has."""
    return [acl for acl in acls if acl.resource_type < FIRST_OF_MAINSTEM]


def entry_message(acl: Acl) -> Message:
    """What an entry says, without its resource."""
    return Message(
        principal=acl.principal.text,
        host=acl.host,
        operation=int(acl.operation),
        permission_type=int(acl.permission),
    )


def matching_message(acl: Acl) -> Message:
    """An entry that was deleted, in a reply to DeleteAcls."""
    return Message(
        error_message=None,
        resource_type=int(acl.resource_type),
        resource_name=acl.name,
        pattern_type=int(acl.pattern),
        **vars(entry_message(acl)),
    )

"""Users and their permissions, as the management API sees them: the server's own.

Owns: tags, which are entries for the cluster: ALTER is administrator, DESCRIBE is monitoring. Refuses: to
give the hash of a password: the server does not have it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mainstem.access_contract import (
    ANY_HOST,
    CLUSTER_NAME,
    USER,
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
from mainstem.authentication.rabbitmq_hashes import DEFAULT_ALGORITHM, verifiers_of_hash
from mainstem.authentication.scram import SALT_BYTES, make_verifier
from mainstem.doors.rabbitmq_management import bodies
from mainstem.doors.rabbitmq_management.callers import GUEST
from mainstem.doors.rabbitmq_management.permission_entries import (
    UserPermissions,
    entries_of,
    own_entries,
    permissions_of,
)
from mainstem.doors.rabbitmq_management.refusals import bad_request

if TYPE_CHECKING:
    from mainstem.doors.rabbitmq_management.request import ManagementRequest

OPERATION_OF_TAG = {"administrator": Operation.ALTER, "monitoring": Operation.DESCRIBE}
VerifierMakers = Sequence[Callable[[], ScramVerifier]]
"""What makes verifiers, in a thread: each takes milliseconds."""
TAGS = ("administrator", "monitoring", "policymaker", "management", "impersonator")


def _entries(request: ManagementRequest, user: str) -> Sequence[Acl]:
    return request.context.door.access.admin.acls(AclFilter(principal=Principal(USER, user)))


def _tag_entry(user: str, tag: str) -> Acl:
    return Acl(
        ResourceType.CLUSTER,
        CLUSTER_NAME,
        PatternType.LITERAL,
        Principal(USER, user),
        ANY_HOST,
        OPERATION_OF_TAG[tag],
        Permission.ALLOW,
    )


def user_names(request: ManagementRequest) -> list[str]:
    """The users; without access control also the one that need not log in."""
    access = request.context.door.access
    names = {info.name for info in access.admin.users()}
    return sorted(names if access.authorizer.is_on else names | {GUEST})


def user_json(request: ManagementRequest, name: str) -> dict[str, Any]:
    """A user. The hash is empty, for there is none."""
    access = request.context.door.access
    return {
        "name": name,
        "password_hash": "",
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": _tags(access.admin.user(name), _entries(request, name), is_open=not access.authorizer.is_on),
        "limits": {},
    }


def _tags(info: UserInfo | None, entries: Sequence[Acl], *, is_open: bool) -> list[str]:
    operations = {
        entry.operation
        for entry in entries
        if entry.resource_type is ResourceType.CLUSTER and entry.permission is Permission.ALLOW
    }
    if (info is not None and info.is_super) or (info is None and is_open):
        operations.add(Operation.ALL)
    if operations & {Operation.ALL, Operation.ALTER}:
        return ["administrator"]
    return ["monitoring" if Operation.DESCRIBE in operations else "management"]


async def put_user(request: ManagementRequest, name: str, body: dict[str, Any]) -> None:
    """Add or change a user as a body says. ApiRefusal: it has no password for a new user, a hash that cannot
    be used, or an unknown tag."""
    admin = request.context.door.access.admin
    tags = tags_of(body)
    password = bodies.text(body, "password") if "password" in body else None
    try:
        makers = _makers(request, password) if password else makers_of_hash(request, body)
    except ValueError as error:
        raise bad_request(str(error)) from None
    if not makers and (admin.user(name) is None or password is not None):
        raise bad_request("a user needs a password here")
    if makers:
        loop = asyncio.get_running_loop()
        verifiers = [await loop.run_in_executor(None, make) for make in makers]
        await admin.put_verifiers(name, verifiers)
    wanted = [_tag_entry(name, tag) for tag in tags if tag in OPERATION_OF_TAG]
    every = [_tag_entry(name, tag) for tag in OPERATION_OF_TAG]
    await admin.delete_acls([entry for entry in every if entry not in wanted])
    await admin.create_acls(wanted)


def tags_of(body: dict[str, Any]) -> list[str]:
    """The tags of a body, a list or text with commas. ApiRefusal: an unknown one."""
    given = body.get("tags", "")
    names = given if isinstance(given, list) else str(given).split(",")
    tags = [str(name).strip() for name in names if str(name).strip()]
    for tag in tags:
        if tag not in TAGS:
            raise bad_request(["unknown_tag", tag])
    return tags


def _makers(request: ManagementRequest, password: str) -> VerifierMakers:
    random_bytes = request.context.door.access.authentication.random_bytes
    return [
        partial(make_verifier, mechanism, password, random_bytes(SALT_BYTES)) for mechanism in ScramMechanism
    ]


def makers_of_hash(request: ManagementRequest, body: dict[str, Any]) -> VerifierMakers:
    """What makes verifiers of the hash in a body, if there is one. ValueError: it cannot be used."""
    if not body.get("password_hash"):
        return ()
    algorithm = body.get("hashing_algorithm") or DEFAULT_ALGORITHM
    random_bytes = request.context.door.access.authentication.random_bytes
    return verifiers_of_hash(bodies.text(body, "password_hash"), str(algorithm), random_bytes)


async def delete_user(request: ManagementRequest, name: str) -> None:
    """Delete a user with its entries."""
    admin = request.context.door.access.admin
    info = admin.user(name)
    await admin.delete_acls(_entries(request, name))
    if info is not None:
        await admin.delete_verifiers(name, list(info.mechanisms))


# --- permissions ------------------------------------------------------------------------------------------


def permissions_json(
    request: ManagementRequest, users: Sequence[str], vhosts: Sequence[str]
) -> list[dict[str, Any]]:
    """The permissions of these users in these virtual hosts."""
    items = []
    is_open = not request.context.door.access.authorizer.is_on
    for user in users:
        entries = _entries(request, user)
        for vhost in vhosts:
            permissions = permissions_of(entries, request.broker.resource_name(vhost, ""))
            if permissions is None and user == GUEST and is_open:
                permissions = UserPermissions(configure=".*", write=".*", read=".*")
            if permissions is not None:
                items.append(
                    {
                        "user": user,
                        "vhost": vhost,
                        "configure": permissions.configure,
                        "write": permissions.write,
                        "read": permissions.read,
                    }
                )
    return items


def permissions_in(body: dict[str, Any]) -> UserPermissions:
    """The permissions of a body."""
    bodies.require_keys(body, "configure", "write", "read")
    return UserPermissions(
        configure=bodies.text(body, "configure"),
        write=bodies.text(body, "write"),
        read=bodies.text(body, "read"),
    )


async def put_permissions(
    request: ManagementRequest, user: str, vhost: str, permissions: UserPermissions
) -> None:
    """Set the permissions of a user in a virtual host, in the place of those before. ApiRefusal: they cannot
    be entries."""
    admin = request.context.door.access.admin
    prefix = request.broker.resource_name(vhost, "")
    try:
        wanted = entries_of(user, prefix, permissions)
    except ValueError as error:
        raise bad_request(str(error)) from None
    before = own_entries(_entries(request, user), prefix)
    await admin.create_acls(wanted)
    await admin.delete_acls([entry for entry in before if entry not in wanted])


async def delete_permissions(request: ManagementRequest, user: str, vhost: str) -> None:
    """Remove the permissions of a user in a virtual host."""
    prefix = request.broker.resource_name(vhost, "")
    await request.context.door.access.admin.delete_acls(own_entries(_entries(request, user), prefix))

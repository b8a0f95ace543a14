"""The service `google.iam.v1.IAMPolicy`: policies of resources, and what who calls may do.

A policy is kept as it was set, and shown: tools such as Terraform need both. It grants nothing: rights are
those of access control (docs/SECURITY.md), and TestIamPermissions asks for these.

Owns: its methods, the notes of policies, and which right a permission is. Refuses: to change rights. Source:
google/iam/v1/iam_policy.proto.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from google.protobuf import json_format

from mainstem.access_contract import Operation, RequesterRights, ResourceType
from mainstem.doors.pubsub.calls import Code, RpcCall, RpcError, RpcMethod
from mainstem.doors.pubsub.door_notes import NAMESPACE, notes, set_note
from mainstem.doors.pubsub.refusals import arguments, invalid_argument, not_found
from mainstem.doors.pubsub.schema_catalog import SchemaCatalog
from mainstem.doors.pubsub.snapshots import SnapshotService
from mainstem.doors.pubsub.subscriber import default_project_of
from mainstem.doors.pubsub.subscription_catalog import SubscriptionCatalog, queues_of
from mainstem.doors.pubsub.topic_catalog import PubsubTopics
from mainstem.pubsub.messages import message, pool
from mainstem.pubsub.names import parse_name

if TYPE_CHECKING:
    from mainstem.doors.contract import DoorContext

PREFIX = "policy "
NO_POLICY_ETAG = b"\0\x20\x01"
"""The etag of a resource whose policy was never set."""
BINDINGS_MAX = 1_500
VERSIONS = (0, 1, 3)
PERMISSIONS_MAX = 100
DEFAULT_MASK = ("bindings", "etag")
MASKED = ("bindings", "etag", "version", "audit_configs")
OPERATIONS: Mapping[str, Operation] = {
    "attach": Operation.DESCRIBE,
    "attachSubscription": Operation.READ,
    "commit": Operation.ALTER,
    "consume": Operation.READ,
    "delete": Operation.DELETE,
    "detachSubscription": Operation.ALTER,
    "get": Operation.DESCRIBE,
    "getIamPolicy": Operation.DESCRIBE,
    "list": Operation.DESCRIBE,
    "listRevisions": Operation.DESCRIBE,
    "publish": Operation.WRITE,
    "rollback": Operation.ALTER,
    "seek": Operation.READ,
    "setIamPolicy": Operation.ALTER,
    "update": Operation.ALTER,
    "updateTag": Operation.ALTER,
    "validate": Operation.DESCRIBE,
}
"""The right that a permission `pubsub.COLLECTION.VERB` is, by its verb."""


class StoredPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The note of a policy."""

    policy: dict[str, Any]
    """As JSON of its message, without the etag."""
    of: str
    """Which resource of that name it is of: another one may have its name later."""
    number: int
    """Rises with each change."""

    @property
    def etag(self) -> bytes:
        """The version of the policy for who reads and changes it."""
        return hashlib.sha256(msgspec.json.encode(self)).digest()[:8]


class IamResource(msgspec.Struct, frozen=True):
    """A resource that there is."""

    name: str
    id: str
    """Differs if it was deleted and made again."""
    kind: ResourceType
    stored: str
    """The name that access control knows it by."""


class IamService:
    """The methods."""

    def __init__(self, context: DoorContext) -> None:
        self._context = context
        project = default_project_of(context)
        self._topics = PubsubTopics(context, project)
        self._subscriptions = SubscriptionCatalog(context, project)
        self._schemas = SchemaCatalog(context)
        self._snapshots = SnapshotService(context)

    async def _resource(self, text: str, rights: RequesterRights) -> IamResource:
        """The resource of a full name. RpcError: the name is none, or it does not exist, which not everybody
        learns."""
        try:
            return await self._find(text)
        except RpcError as error:
            is_open = not rights.are_limited or rights.allows(Operation.DESCRIBE, ResourceType.CLUSTER)
            if error.code != Code.NOT_FOUND or is_open:
                raise
        who = rights.requester.principal.text
        text = f"{who} has no rights to the resource (or it may not exist): {text}"
        raise RpcError(Code.PERMISSION_DENIED, text)

    async def _find(self, text: str) -> IamResource:
        engine = self._context.engine
        collection = text.split("/")[2] if text.count("/") == 3 else ""
        match collection:
            case "topics":
                topic = await self._topics.find(engine, text)
                return IamResource(text, topic.uid, ResourceType.TOPIC, topic.stored_name)
            case "subscriptions":
                queue = (await self._subscriptions.find(text)).queue
                created_ms = (await queues_of(engine).subscription(queue)).created_ms
                return IamResource(text, str(created_ms), ResourceType.SUBSCRIPTION, queue)
            case "snapshots":
                snapshot, subscription = await self._snapshots.find(text)
                return IamResource(text, snapshot.topic, ResourceType.SUBSCRIPTION, subscription.queue)
            case "schemas":
                with arguments():
                    parse_name(text, "schemas")
                first = (await self._schemas.revisions(engine, text))[0]
                return IamResource(text, str(first.created_ms), ResourceType.SUBSCRIPTION, f"{NAMESPACE}/")
            case _:
                with arguments():
                    parse_name(text, "topics")
                raise not_found(text)

    def _rights(self, call: RpcCall) -> RequesterRights:
        return RequesterRights(self._context.access.authorizer, call.requester)

    async def _stored(self, resource: IamResource) -> StoredPolicy | None:
        stored = await notes(
            self._context.engine,
            PREFIX + resource.name,
            lambda data: msgspec.json.decode(data, type=StoredPolicy),
        )
        policy = stored.get("")
        return policy if policy is not None and policy.of == resource.id else None

    async def get_policy(self, call: RpcCall, data: bytes) -> bytes:
        """GetIamPolicy."""
        rights = self._rights(call)
        resource = await self._resource(_message("GetIamPolicyRequest").FromString(data).resource, rights)
        rights.require(Operation.DESCRIBE, resource.kind, resource.stored)
        return _encoded(await self._stored(resource))

    async def set_policy(self, call: RpcCall, data: bytes) -> bytes:
        """SetIamPolicy: with an etag, only if it is still as it was when it was read."""
        request = _message("SetIamPolicyRequest").FromString(data)
        rights = self._rights(call)
        resource = await self._resource(request.resource, rights)
        rights.require(Operation.ALTER, resource.kind, resource.stored)
        stored = await self._stored(resource)
        asked, present = request.policy, _policy_message(stored)
        if asked.etag and asked.etag != present.etag:
            raise RpcError(
                Code.ABORTED,
                "There were concurrent policy changes. Please retry the whole read-modify-write.",
            )
        changed = _message("Policy")()
        changed.CopyFrom(present)
        changed.version = asked.version
        for field in request.update_mask.paths or DEFAULT_MASK:
            if field not in MASKED:
                raise invalid_argument(f"a policy has no field {field[:100]}")
            if field in ("bindings", "audit_configs"):
                changed.ClearField(field)
                getattr(changed, field).MergeFrom(getattr(asked, field))
        _check(changed)
        changed.ClearField("etag")
        new = StoredPolicy(
            policy=json_format.MessageToDict(changed, descriptor_pool=pool()),
            of=resource.id,
            number=1 if stored is None else stored.number + 1,
        )
        engine = self._context.engine
        await set_note(engine, engine, PREFIX + resource.name, new)
        return _encoded(new)

    async def test_permissions(self, call: RpcCall, data: bytes) -> bytes:
        """TestIamPermissions: those that who calls has."""
        request = _message("TestIamPermissionsRequest").FromString(data)
        if not 0 < len(request.permissions) <= PERMISSIONS_MAX:
            raise invalid_argument(f"1 to {PERMISSIONS_MAX} permissions are tested at once")
        for permission in request.permissions:
            if "*" in permission or permission.count(".") != 2:
                raise invalid_argument(f"Permission {permission[:100]} is not valid for this resource.")
        rights = self._rights(call)
        resource = await self._resource(request.resource, rights)
        response = _message("TestIamPermissionsResponse")()
        response.permissions.extend(
            permission for permission in request.permissions if _allows(rights, resource, permission)
        )
        return bytes(response.SerializeToString())


def handlers(context: DoorContext) -> Mapping[str, RpcMethod]:
    """The methods, by path. They check the rights to the resource themselves."""
    service = IamService(context)
    return {
        "/google.iam.v1.IAMPolicy/GetIamPolicy": RpcMethod(unary=service.get_policy, rights=()),
        "/google.iam.v1.IAMPolicy/SetIamPolicy": RpcMethod(unary=service.set_policy, rights=(), changes=True),
        "/google.iam.v1.IAMPolicy/TestIamPermissions": RpcMethod(unary=service.test_permissions, rights=()),
    }


def _allows(rights: RequesterRights, resource: IamResource, permission: str) -> bool:
    if not rights.are_limited:
        return True
    service, collection, verb = permission.split(".")
    operation = OPERATIONS.get(verb)
    if service != "pubsub" or collection != resource.name.split("/")[2] or operation is None:
        return False
    return rights.allows(operation, resource.kind, resource.stored)


def _check(policy: Any) -> None:
    if policy.version not in VERSIONS:
        raise invalid_argument("the version of a policy is 1 or 3")
    if len(policy.bindings) > BINDINGS_MAX:
        raise invalid_argument(f"a policy has at most {BINDINGS_MAX:,} bindings")
    for binding in policy.bindings:
        if "roles/" not in binding.role:
            raise invalid_argument(f"Role {binding.role[:100]} is not supported for this resource.")
        for member in binding.members:
            if ":" not in member and member not in ("allUsers", "allAuthenticatedUsers"):
                raise invalid_argument(f"The member {member[:100]} is of an unknown type.")


def _message(name: str) -> Any:
    return message(f"google.iam.v1.{name}")


def _encoded(stored: StoredPolicy | None) -> bytes:
    return bytes(_policy_message(stored).SerializeToString())


def _policy_message(stored: StoredPolicy | None) -> Any:
    policy = _message("Policy")()
    if stored is None:
        policy.etag = NO_POLICY_ETAG
        return policy
    json_format.ParseDict(stored.policy, policy, ignore_unknown_fields=True, descriptor_pool=pool())
    policy.etag = stored.etag
    return policy

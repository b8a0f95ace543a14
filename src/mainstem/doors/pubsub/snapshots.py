"""Snapshots, and Seek: methods of the services `google.pubsub.v1.Subscriber` and `Publisher`.

A snapshot is a named snapshot of a subscription of the log, and a note with what Pub/Sub knows of it beside.

Owns: these methods, the notes, and when snapshots are over. Refuses: what a seek to a time delivers
(`seeking.py`). Source: google/pubsub/v1/pubsub.proto.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from mainstem.access_contract import Operation, RequesterRights, ResourceType
from mainstem.doors.pubsub.calls import Code, RpcCall, RpcError, RpcMethod, engine_of
from mainstem.doors.pubsub.door_notes import notes, set_note
from mainstem.doors.pubsub.refusals import (
    already_exists,
    arguments,
    failed_precondition,
    invalid_argument,
    not_found,
)
from mainstem.doors.pubsub.seeking import seek_to_time, set_discarded_until
from mainstem.doors.pubsub.subscriber import default_project_of
from mainstem.doors.pubsub.subscription_catalog import (
    PubsubSubscription,
    SubscriptionCatalog,
    queues_of,
    topic_shown,
)
from mainstem.doors.pubsub.subscription_fields import labels_of
from mainstem.doors.pubsub.topic_catalog import PubsubTopics
from mainstem.pubsub.durations import milliseconds_of, set_milliseconds
from mainstem.pubsub.field_masks import merge_masked
from mainstem.pubsub.messages import pubsub_message
from mainstem.pubsub.names import ResourceName, parse_name, parse_project, stored_name
from mainstem.pubsub.pages import page_of
from mainstem.queue_contract import NoSuchSnapshot, NoSuchSubscription, SnapshotName, SnapshotNameTaken
from mainstem.queues.settings import DAY_MS

if TYPE_CHECKING:
    from mainstem.doors.contract import DoorContext

PREFIX = "snapshot "
LIFE_MS = 7 * DAY_MS
"""How long a snapshot lives, less the age of the oldest message in it."""
LIFE_MS_MIN = 3_600_000
"""A snapshot that would live for a shorter time is not made."""
CHANGEABLE = ("labels", "expire_time")


class StoredSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The note of a snapshot."""

    name: str
    """The full name."""
    stored: str
    """The name of the subscription's snapshot in the log."""
    subscription: str
    """The full name."""
    topic: str
    """The full name."""
    expires_ms: int
    labels: dict[str, str]

    @property
    def note(self) -> str:
        """The name of the note."""
        return PREFIX + self.name


class SnapshotService:
    """The methods."""

    def __init__(self, context: DoorContext) -> None:
        self._context = context
        self._default_project = default_project_of(context)
        self._subscriptions = SubscriptionCatalog(context, self._default_project)
        self._topics = PubsubTopics(context, self._default_project)
        self._random = random.Random()

    # --- notes ----------------------------------------------------------------------------------------------

    async def _all(self) -> dict[str, StoredSnapshot]:
        """The notes of all snapshots, by full name, also of those that are over."""
        return await notes(
            self._context.engine, PREFIX, lambda data: msgspec.json.decode(data, type=StoredSnapshot)
        )

    async def _store(self, note: str, snapshot: StoredSnapshot | None) -> None:
        await set_note(self._context.engine, self._context.engine, note, snapshot)

    async def _of(self, snapshot: StoredSnapshot) -> PubsubSubscription | None:
        """The subscription of a snapshot; None: the snapshot is over, and removed."""
        queues = queues_of(self._context.engine)
        subscription: PubsubSubscription | None
        try:
            subscription = await self._subscriptions.find(snapshot.subscription)
            names = [info.name for info in await queues.snapshots(subscription.queue)]
        except NoSuchSubscription:
            subscription, names = None, []
        except RpcError as error:
            if error.code != Code.NOT_FOUND:
                raise
            subscription, names = None, []
        if subscription is not None and snapshot.stored in names:
            if snapshot.expires_ms > self._context.clock.wall_ms():
                return subscription
            await queues.delete_snapshot(subscription.queue, snapshot.stored)
        await self._store(snapshot.note, None)
        return None

    async def find(self, text: str) -> tuple[StoredSnapshot, PubsubSubscription]:
        """A snapshot and its subscription. RpcError: it does not exist."""
        with arguments():
            name = parse_name(text, "snapshots")
        snapshot = (await self._all()).get(str(name))
        subscription = None if snapshot is None else await self._of(snapshot)
        if snapshot is None or subscription is None:
            raise not_found(text)
        return snapshot, subscription

    async def find_for(self, call: RpcCall, text: str) -> tuple[StoredSnapshot, PubsubSubscription]:
        """The same for who may describe the subscription; for others, the snapshot does not exist."""
        snapshot, subscription = await self.find(text)
        requester = call.requester
        if self._context.views.limit(requester):
            rights = RequesterRights(self._context.access.authorizer, requester)
            if not rights.allows(Operation.DESCRIBE, ResourceType.SUBSCRIPTION, subscription.queue):
                raise not_found(text)
        return snapshot, subscription

    def _shown(
        self, call: RpcCall, snapshot: StoredSnapshot, subscription: PubsubSubscription
    ) -> StoredSnapshot:
        topic = topic_shown(self._context, call, snapshot.topic, subscription.stored.stored_topic)
        return msgspec.structs.replace(snapshot, topic=topic)

    # --- methods --------------------------------------------------------------------------------------------

    async def create(self, call: RpcCall, data: bytes) -> bytes:
        """CreateSnapshot."""
        request = pubsub_message("CreateSnapshotRequest").FromString(data)
        subscription = await self._subscriptions.find_for(call, request.subscription)
        name = self._new_name(request.name, subscription)
        labels, queues = labels_of(request.labels), queues_of(engine_of(self._context, call))
        present = (await self._all()).get(str(name))
        if present is not None and await self._of(present) is not None:
            raise already_exists(name)
        now_ms = self._context.clock.wall_ms()
        oldest_ms = (await queues.subscription(subscription.queue)).oldest_ms
        expires_ms = min(now_ms, now_ms if oldest_ms is None else oldest_ms) + LIFE_MS
        if expires_ms - now_ms < LIFE_MS_MIN:
            raise failed_precondition(
                "the oldest message that is not acknowledged is old: the snapshot would end within an hour"
            )
        snapshot = StoredSnapshot(
            name=str(name),
            stored=stored_name(name, self._default_project),
            subscription=subscription.stored.name,
            topic=subscription.stored.topic,
            expires_ms=expires_ms,
            labels=labels,
        )
        try:
            await queues.take_snapshot(subscription.queue, snapshot.stored)
        except SnapshotNameTaken:  # without a note: the server was killed between the two
            await queues.delete_snapshot(subscription.queue, snapshot.stored)
            await queues.take_snapshot(subscription.queue, snapshot.stored)
        await self._store(snapshot.note, snapshot)
        return _encoded(self._shown(call, snapshot, subscription))

    def _new_name(self, text: str, subscription: PubsubSubscription) -> ResourceName:
        if not text:
            id_ = f"s-{self._random.getrandbits(64):016x}"
            return ResourceName(subscription.stored.project, "snapshots", id_)
        with arguments():
            return parse_name(text, "snapshots")

    async def get(self, call: RpcCall, data: bytes) -> bytes:
        """GetSnapshot."""
        snapshot, subscription = await self.find_for(
            call, pubsub_message("GetSnapshotRequest").FromString(data).snapshot
        )
        await queues_of(engine_of(self._context, call)).subscription_settings(subscription.queue)
        return _encoded(self._shown(call, snapshot, subscription))

    async def update(self, call: RpcCall, data: bytes) -> bytes:
        """UpdateSnapshot: its labels, and when it expires."""
        request = pubsub_message("UpdateSnapshotRequest").FromString(data)
        snapshot, subscription = await self.find_for(call, request.snapshot.name)
        queues = queues_of(engine_of(self._context, call))
        await queues.alter_subscription(subscription.queue, subscription.settings, dry_run=True)  # the right
        changed = _snapshot_message(snapshot)
        with arguments():
            merge_masked(
                changed,
                request.snapshot,
                request.update_mask.paths,
                changeable=CHANGEABLE,
                request="UpdateSnapshotRequest",
            )
        now_ms, expires_ms = self._context.clock.wall_ms(), milliseconds_of(changed.expire_time)
        if not now_ms < expires_ms <= now_ms + LIFE_MS:
            raise invalid_argument("Invalid expire_time given: it is within the next 7 days")
        snapshot = msgspec.structs.replace(snapshot, labels=labels_of(changed.labels), expires_ms=expires_ms)
        await self._store(snapshot.note, snapshot)
        return _encoded(snapshot)

    async def delete(self, call: RpcCall, data: bytes) -> bytes:
        """DeleteSnapshot."""
        snapshot, subscription = await self.find_for(
            call, pubsub_message("DeleteSnapshotRequest").FromString(data).snapshot
        )
        try:
            queues = queues_of(engine_of(self._context, call))
            await queues.delete_snapshot(subscription.queue, snapshot.stored)
        except NoSuchSnapshot:
            pass
        await self._store(snapshot.note, None)
        return b""

    async def list_all(self, call: RpcCall, data: bytes) -> bytes:
        """ListSnapshots."""
        request = pubsub_message("ListSnapshotsRequest").FromString(data)
        with arguments():
            project = parse_project(request.project)
        by_name = {
            snapshot.name: snapshot
            for snapshot in await self._visible(call)
            if snapshot.name.startswith(f"projects/{project}/")
        }
        with arguments():
            page, token = page_of(
                sorted(by_name), request.page_size, request.page_token, f"snapshots {project}"
            )
        response = pubsub_message("ListSnapshotsResponse")(next_page_token=token)
        response.snapshots.extend([_snapshot_message(by_name[name]) for name in page])
        return bytes(response.SerializeToString())

    async def list_of_topic(self, call: RpcCall, data: bytes) -> bytes:
        """ListTopicSnapshots, a method of the Publisher."""
        request = pubsub_message("ListTopicSnapshotsRequest").FromString(data)
        topic = await self._topics.find(engine_of(self._context, call), request.topic)
        names = sorted(
            snapshot.name for snapshot in await self._visible(call) if snapshot.topic == topic.name
        )
        with arguments():
            page, token = page_of(
                names, request.page_size, request.page_token, f"topic snapshots {topic.name}"
            )
        response = pubsub_message("ListTopicSnapshotsResponse")(snapshots=page, next_page_token=token)
        return bytes(response.SerializeToString())

    async def _visible(self, call: RpcCall) -> list[StoredSnapshot]:
        """The snapshots of subscriptions that the requester may see."""
        visible = set(await queues_of(engine_of(self._context, call)).subscriptions())
        snapshots = []
        for snapshot in (await self._all()).values():
            subscription = await self._of(snapshot)
            if subscription is not None and subscription.queue in visible:
                snapshots.append(self._shown(call, snapshot, subscription))
        return snapshots

    async def seek(self, call: RpcCall, data: bytes) -> bytes:
        """Seek: to a snapshot or a time."""
        request = pubsub_message("SeekRequest").FromString(data)
        engine = engine_of(self._context, call)
        self._subscriptions.forget(request.subscription)
        subscription = await self._subscriptions.find_for(call, request.subscription)
        match request.WhichOneof("target"):
            case "snapshot":
                snapshot, other = await self.find_for(call, request.snapshot)
                if other.queue != subscription.queue:
                    raise failed_precondition(
                        f"the snapshot was taken of the subscription {snapshot.subscription}:"
                        " another one cannot be set to it"
                    )
                await set_discarded_until(self._subscriptions, engine, subscription, 0)
                await queues_of(engine).seek(subscription.queue, SnapshotName(snapshot.stored))
            case "time":
                await seek_to_time(
                    self._subscriptions,
                    engine,
                    subscription,
                    milliseconds_of(request.time),
                    self._context.clock.wall_ms(),
                    retains_acked=await self._retains_acked(subscription),
                )
            case _:
                raise invalid_argument("a seek is to a time or to a snapshot")
        return b""

    async def _retains_acked(self, subscription: PubsubSubscription) -> bool:
        stored = subscription.stored
        if stored.retains_acked or stored.is_topic_deleted:
            return stored.retains_acked
        topic = await self._topics.find(self._context.engine, stored.topic)
        return bool(topic.record.HasField("message_retention_duration"))


def handlers(context: DoorContext) -> Mapping[str, RpcMethod]:
    """The methods, by path."""
    service = SnapshotService(context)
    reads = ((Operation.READ, ResourceType.SUBSCRIPTION),)
    alters = ((Operation.ALTER, ResourceType.SUBSCRIPTION),)
    methods = {
        "Subscriber/CreateSnapshot": RpcMethod(unary=service.create, rights=alters, changes=True),
        "Subscriber/GetSnapshot": RpcMethod(unary=service.get, rights=()),
        "Subscriber/UpdateSnapshot": RpcMethod(unary=service.update, rights=alters, changes=True),
        "Subscriber/ListSnapshots": RpcMethod(unary=service.list_all, rights=()),
        "Subscriber/DeleteSnapshot": RpcMethod(unary=service.delete, rights=alters, changes=True),
        "Subscriber/Seek": RpcMethod(unary=service.seek, rights=reads, changes=True),
        "Publisher/ListTopicSnapshots": RpcMethod(unary=service.list_of_topic, rights=()),
    }
    return {f"/google.pubsub.v1.{name}": method for name, method in methods.items()}


def _encoded(snapshot: StoredSnapshot) -> bytes:
    return bytes(_snapshot_message(snapshot).SerializeToString())


def _snapshot_message(snapshot: StoredSnapshot) -> Any:
    shown = pubsub_message("Snapshot")(name=snapshot.name, topic=snapshot.topic, labels=snapshot.labels)
    set_milliseconds(shown.expire_time, snapshot.expires_ms)
    return shown

"""The subscriptions of a mainstem server, through its HTTP door and in its JSON.

Owns: the requests, and decoding their replies, whose types are those of `mainstem.http_api`. Refuses: replies
that are not those of a mainstem server, with NotReachable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal, TypeVar
from urllib.parse import quote, urlencode

from mainstem.engines.remote.http_client import HttpDoorClient
from mainstem.http_api.deliveries import (
    AckJson,
    DeliveryJson,
    ExtendJson,
    NackJson,
    PulledJson,
    PullJson,
    RejectJson,
    VerdictsJson,
)
from mainstem.http_api.subscriptions import (
    BrowsedEventJson,
    BrowsedPageJson,
    CancelJson,
    ChangedSubscriptionJson,
    DeletedSnapshotJson,
    DeletedSubscriptionJson,
    NewSnapshotJson,
    NewSubscriptionJson,
    PurgeJson,
    RedriveJson,
    SeekJson,
    SettledEventsJson,
    SnapshotJson,
    SnapshotsJson,
    SoughtJson,
    SubscriptionDetailJson,
    SubscriptionJson,
    SubscriptionsJson,
    WakeJson,
)
from mainstem.queue_answers import Verdict

T = TypeVar("T")
PATH = "/api/v1/subscriptions"
PAGE_ROWS = 500
OFFSET_MAX = (1 << 63) - 1
BROWSED_EVENTS_MAX = 1_000
"""Most events that the HTTP door shows at once."""


class SubscriptionCalls:
    """The subscriptions behind an HTTP door, as its JSON has them. Every call may raise StreamError."""

    def __init__(self, door: HttpDoorClient) -> None:
        self._door = door

    async def list(self) -> AsyncIterator[SubscriptionJson]:
        """All subscriptions, sorted by name."""
        after: str | None = ""
        while after is not None:
            query = urlencode({"limit": PAGE_ROWS, "after": after})
            page = await self._request("GET", f"{PATH}?{query}", None, SubscriptionsJson)
            for row in page.subscriptions:
                yield row
            after = page.next

    async def create(self, subscription: NewSubscriptionJson) -> SubscriptionDetailJson:
        """Create a subscription."""
        return await self._request("POST", PATH, subscription, SubscriptionDetailJson)

    async def alter(self, name: str, change: ChangedSubscriptionJson) -> SubscriptionDetailJson:
        """Change a subscription. Returns it as it is then, or in a dry run would be."""
        return await self._request("PATCH", _path(name), change, SubscriptionDetailJson)

    async def describe(self, name: str) -> SubscriptionDetailJson:
        """A subscription with its settings, counters and consumers."""
        return await self._request("GET", _path(name), None, SubscriptionDetailJson)

    async def delete(self, name: str, *, dry_run: bool = False) -> DeletedSubscriptionJson:
        """Delete a subscription."""
        query = "?dry_run=true" if dry_run else ""
        return await self._request("DELETE", _path(name) + query, None, DeletedSubscriptionJson)

    async def browse(
        self, name: str, state: str | None, after: str | None, count: int, consumer: str | None = None
    ) -> AsyncIterator[BrowsedEventJson]:
        """Outstanding events, at most `count`, with keys and payloads as base64."""
        while count > 0:
            query = {"limit": str(min(count, BROWSED_EVENTS_MAX)), "encoding": "base64"}
            if state is not None:
                query["state"] = state
            if consumer is not None:
                query["consumer"] = consumer
            if after is not None:
                query["after"] = after
            page = await self._request(
                "GET", f"{_path(name)}:browse?{urlencode(query)}", None, BrowsedPageJson
            )
            for event in page.events:
                yield event
            count -= len(page.events)
            after = page.next
            if after is None:
                return

    async def seek(self, name: str, to: str | None, snapshot: str | None, *, dry_run: bool) -> SoughtJson:
        """Let a subscription continue at another place, or at a snapshot."""
        body = SeekJson(to, snapshot, dry_run)
        return await self._request("POST", _path(name) + ":seek", body, SoughtJson)

    async def snapshots(self, name: str) -> Sequence[SnapshotJson]:
        """The snapshots of a subscription, sorted by name."""
        return (await self._request("GET", _path(name) + "/snapshots", None, SnapshotsJson)).snapshots

    async def take_snapshot(self, name: str, snapshot: str) -> SnapshotJson:
        """Take a snapshot of a subscription."""
        body = NewSnapshotJson(snapshot)
        return await self._request("POST", _path(name) + ":snapshot", body, SnapshotJson)

    async def delete_snapshot(self, name: str, snapshot: str) -> None:
        """Delete a snapshot of a subscription."""
        path = f"{_path(name)}/snapshots/{quote(snapshot, safe='')}"
        await self._request("DELETE", path, None, DeletedSnapshotJson)

    async def purge(self, name: str, *, dry_run: bool) -> SettledEventsJson:
        """Let all outstanding events be done."""
        return await self._request("POST", _path(name) + ":purge", PurgeJson(dry_run), SettledEventsJson)

    async def redrive(self, name: str, body: RedriveJson) -> SettledEventsJson:
        """Deliver dead letters again."""
        return await self._request("POST", _path(name) + ":redrive", body, SettledEventsJson)

    async def change_events(
        self, name: str, verb: Literal["wake", "cancel"], body: WakeJson | CancelJson
    ) -> SettledEventsJson:
        """Wake or cancel events."""
        return await self._request("POST", f"{_path(name)}:{verb}", body, SettledEventsJson)

    async def pull(self, name: str, consumer: str, max_events: int, wait_ms: int) -> Sequence[DeliveryJson]:
        """The next events, with keys and payloads as base64. Cancelling the call leaves nothing leased."""
        body = PullJson(consumer, max_events, wait_ms=wait_ms, encoding="base64")
        return await self.pull_as(name, body)

    async def pull_as(self, name: str, body: PullJson) -> Sequence[DeliveryJson]:
        """As `pull`, with all that a pull can say. A reply that a broken connection loses leaves its events
        leased until their locks expire."""
        path = _path(name) + ":pull"
        return (await self._request("POST", path, body, PulledJson, repeatable=True)).deliveries

    async def ack(self, name: str, body: AckJson) -> Sequence[Verdict]:
        """Acknowledge deliveries. As the three below, returns the verdict on each token."""
        return await self._settle(name, "ack", body)

    async def nack(self, name: str, body: NackJson) -> Sequence[Verdict]:
        """Give deliveries back."""
        return await self._settle(name, "nack", body)

    async def reject(self, name: str, body: RejectJson) -> Sequence[Verdict]:
        """Give events up."""
        return await self._settle(name, "reject", body)

    async def extend(self, name: str, body: ExtendJson) -> Sequence[Verdict]:
        """Move the deadline of deliveries."""
        return await self._settle(name, "extend", body)

    async def is_done(self, name: str, topic: str, partition: int, offset: int) -> bool:
        """Whether an event is done for a subscription. False also if that is not known: while a filter has
        not been applied to all events."""
        if (await self.describe(name)).depth.ahead:
            return False
        after: str | None = None
        if offset:
            after = f"{topic}/{partition}/{offset - 1}"
        elif partition:
            after = f"{topic}/{partition - 1}/{OFFSET_MAX}"
        count = BROWSED_EVENTS_MAX if after is None else 1
        rows = [row.event async for row in self.browse(name, None, after, count)]
        is_shown = any((row.topic, row.partition, row.offset) == (topic, partition, offset) for row in rows)
        return not is_shown and (after is not None or len(rows) < count)

    async def _settle(self, name: str, verb: str, body: object) -> Sequence[Verdict]:
        """A settlement that is sent twice has the verdict `stale` for what the first one has done."""
        path = f"{_path(name)}:{verb}"
        return (await self._request("POST", path, body, VerdictsJson, repeatable=True)).verdicts

    async def _request(
        self, method: str, path: str, body: object, reply_type: type[T], *, repeatable: bool = False
    ) -> T:
        is_repeatable = repeatable or method == "GET"
        return await self._door.request_json(method, path, body, reply_type, repeatable=is_repeatable)


def _path(name: str) -> str:
    return f"{PATH}/{quote(name, safe='')}"

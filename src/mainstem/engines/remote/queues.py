"""The subscriptions of a mainstem server as the contract of queues has them: the part that clients need.

Owns: converting settings, deliveries, outcomes and verdicts to the JSON of the HTTP door and back, within its
limits. Refuses: what only administration calls; the command line uses `SubscriptionCalls` for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from mainstem.contract import InvalidArgument
from mainstem.engines.remote.event_decoding import decode_event
from mainstem.engines.remote.http_client import HttpDoorClient
from mainstem.engines.remote.subscription_calls import SubscriptionCalls
from mainstem.http_api.deliveries import (
    PULLED_BYTES_MAX,
    PULLED_EVENTS_MAX,
    TOKENS_MAX,
    WAIT_MS_MAX,
    AckJson,
    ExtendJson,
    NackJson,
    PullJson,
    RejectJson,
)
from mainstem.http_api.subscriptions import (
    ChangedSubscriptionJson,
    NewSubscriptionJson,
    RedriveJson,
    SubscriptionDetailJson,
    SubscriptionSettingsJson,
)
from mainstem.queue_contract import (
    PULL_BYTES_MAX,
    Ack,
    Delivery,
    Extend,
    Nack,
    NoSuchSubscription,
    Outcome,
    QueueDepth,
    Reject,
    SettingsHaveChanged,
    SubscriptionSettings,
    SubscriptionTotals,
    Verdict,
)
from mainstem.search.query.errors import QueryError
from mainstem.timespec import format_iso

SETTINGS = tuple(name for name in SubscriptionSettingsJson.__struct_fields__ if name != "push")


class RemoteQueues:
    """The subscriptions behind an HTTP door. See `queue_contract.Queues` for each call.

    Settings of pushing are not shown by the door as they are, so they are not seen here, and kept as they
    are. A settlement that had to be repeated has the verdict `stale` for what its first sending has done.
    """

    def __init__(self, door: HttpDoorClient) -> None:
        self._calls = SubscriptionCalls(door)

    async def subscription_settings(self, name: str) -> SubscriptionSettings:
        """See the contract."""
        return _settings(await self._calls.describe(name))

    async def subscription_totals(self, names: Sequence[str]) -> list[SubscriptionTotals]:
        """See the contract. Dead letters and dropped events are counted under the empty reason, as the door
        does not say which there were."""
        totals = []
        for name in sorted(set(names)):
            try:
                totals.append(_totals(await self._calls.describe(name)))
            except NoSuchSubscription:
                continue
        return totals

    async def create_subscription(self, name: str, settings: SubscriptionSettings) -> None:
        """See the contract."""
        _refuse_push(settings)
        values = {field: getattr(settings, field) for field in SETTINGS}
        if not values["lock_ms"]:
            raise InvalidArgument("a subscription whose locks never expire cannot be made through HTTP")
        body = NewSubscriptionJson(name, list(settings.topics), SubscriptionSettingsJson(**values))
        try:
            await self._calls.create(body)
        except QueryError as error:
            raise InvalidArgument(f"filter: {error}") from None

    async def alter_subscription(
        self,
        name: str,
        settings: SubscriptionSettings,
        *,
        expected: SubscriptionSettings | None = None,
        dry_run: bool = False,
    ) -> None:
        """See the contract. What the settings have in common with the present ones is not sent."""
        _refuse_push(settings)
        present = await self.subscription_settings(name)
        if expected is not None and replace(expected, push=None) != present:
            raise SettingsHaveChanged(f"the settings of subscription {name} have changed meanwhile")
        changes: dict[str, Any] = {
            field: getattr(settings, field)
            for field in SETTINGS
            if getattr(settings, field) != getattr(present, field)
        }
        topics = UNSET if settings.topics == present.topics else list(settings.topics)
        if changes or topics is not UNSET:
            body = ChangedSubscriptionJson(topics, SubscriptionSettingsJson(**changes), dry_run)
            await self._calls.alter(name, body)

    async def delete_subscription(self, name: str) -> None:
        """See the contract."""
        await self._calls.delete(name)

    async def pull(
        self,
        name: str,
        consumer: str,
        *,
        max_events: int = 100,
        wait_ms: int = 0,
        max_bytes: int = PULL_BYTES_MAX,
        lock_ms: int | None = None,
    ) -> list[Delivery]:
        """See the contract. At most 1,000 events, 16 MiB and a wait of 60 s, whatever is asked for."""
        body = PullJson(
            consumer,
            min(max_events, PULLED_EVENTS_MAX),
            min(max_bytes, PULLED_BYTES_MAX),
            min(wait_ms, WAIT_MS_MAX),
            lock_ms,
            "base64",
        )
        return [
            Delivery(decode_event(delivery.event), delivery.token, delivery.attempt, delivery.deadline_ms)
            for delivery in await self._calls.pull_as(name, body)
        ]

    async def settle(self, name: str, outcomes: Sequence[Outcome]) -> list[Verdict]:
        """See the contract. Outcomes that are alike are sent together."""
        alike: dict[Outcome, list[int]] = {}
        if all(isinstance(outcome, Ack) for outcome in outcomes):  # most are
            alike[Ack("")] = list(range(len(outcomes)))
        else:
            for index, outcome in enumerate(outcomes):
                alike.setdefault(msgspec.structs.replace(outcome, token=""), []).append(index)
        verdicts: list[Verdict] = ["invalid"] * len(outcomes)
        for kind, indexes in alike.items():
            for start in range(0, len(indexes), TOKENS_MAX):
                part = indexes[start : start + TOKENS_MAX]
                tokens = [outcomes[index].token for index in part]
                for index, verdict in zip(part, await self._settle(name, kind, tokens), strict=True):
                    verdicts[index] = verdict
        return verdicts

    async def _settle(self, name: str, kind: Outcome, tokens: list[str]) -> Sequence[Verdict]:
        match kind:
            case Ack():
                return await self._calls.ack(name, AckJson(tokens))
            case Nack():
                body = NackJson(tokens, kind.delay_ms, kind.counts, kind.reason, kind.delivered)
                return await self._calls.nack(name, body)
            case Reject():
                return await self._calls.reject(name, RejectJson(tokens, kind.reason))
            case Extend():
                if kind.alone:
                    raise InvalidArgument("a remote engine extends all events of a pull")
                return await self._calls.extend(name, ExtendJson(tokens, kind.lock_ms))

    async def seek(self, name: str, to: Literal["earliest", "latest"] | int) -> int:
        """See the contract. An integer is a time; events before 1970 there are none."""
        place = to if isinstance(to, str) else format_iso(max(0, to))
        return (await self._calls.seek(name, place, None, dry_run=False)).events

    async def redrive_letters(
        self, name: str, *, where: str = "", since_ms: int | None = None, dry_run: bool = False
    ) -> int:
        """Deliver the events of dead letters again, of all or of those that match a query and have this time
        or a later one; or in a dry run only count them. The server refuses more than 10,000 at once with
        InvalidArgument."""
        body = RedriveJson(None, since_ms, q=where, dry_run=dry_run)
        try:
            return (await self._calls.redrive(name, body)).events
        except QueryError as error:
            raise InvalidArgument(str(error)) from None


def _refuse_push(settings: SubscriptionSettings) -> None:
    if settings.push is not None:
        raise InvalidArgument("push is set by `mainstem queues`, not by a client that pulls")


def _settings(detail: SubscriptionDetailJson) -> SubscriptionSettings:
    values = {name: getattr(detail.settings, name) for name in SETTINGS}
    known = {name: value for name, value in values.items() if value is not UNSET}
    return SubscriptionSettings(topics=tuple(detail.topics), **known)


def _totals(detail: SubscriptionDetailJson) -> SubscriptionTotals:
    depth = detail.depth
    return SubscriptionTotals(
        name=detail.subscription,
        topics=tuple(detail.topics),
        depth=QueueDepth(depth.ready, depth.leased, depth.waiting, depth.parked, depth.dying, depth.ahead),
        oldest_ms=None,
        consumers=len(detail.consumers),
        delivered=detail.delivered,
        redelivered=detail.redelivered,
        acked=detail.acked,
        nacked=detail.nacked,
        rejected=detail.rejected,
        expired=detail.expired,
        dead_lettered={"": detail.dead_lettered} if detail.dead_lettered else {},
        dropped={"": detail.dropped} if detail.dropped else {},
        trimmed=detail.trimmed,
        unreadable=detail.unreadable,
        expiring=detail.expiring,
        problems=tuple(detail.problems),
    )

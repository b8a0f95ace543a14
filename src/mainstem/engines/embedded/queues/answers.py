"""The answers of one call of `Queues.settle`: from tokens to settlements, and from results to verdicts.

Owns: this translation. Answers with the same lease and the same words become one settlement. Refuses: to
write anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from mainstem.attach_contract import DeliveryState
from mainstem.contract import InvalidArgument
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.queues.types import Settlement
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.counters import QueueCounters
from mainstem.engines.embedded.queues.events import positions_of
from mainstem.engines.embedded.queues.tokens import DeliveryToken, decode_tokens
from mainstem.promise import Promise
from mainstem.queue_contract import Ack, Extend, Nack, Outcome, Reject, Verdict
from mainstem.queues.pages import PositionState
from mainstem.queues.runs import Run, count_positions, runs_of
from mainstem.queues.settings import DELAY_MS_MAX, LOCK_MS_MAX

REASON_CHARS_MAX = 1_000
_ANY_ACK = Ack("")


class _SettlementKey(NamedTuple):
    """What answers have in common that become one settlement."""

    view: int
    lease: int
    epoch: int
    verb: Literal["ack", "nack", "reject"]
    counts: bool
    delay_ms: int | None
    text: str


class Answers:
    """The answers of one call. InvalidArgument: a delay, a lock or a reason is out of range."""

    def __init__(self, machine: Subscriptions, subscription: int, outcomes: Sequence[Outcome]) -> None:
        self._machine = machine
        self.extended: Promise[None] = Promise.resolved(None)
        """Done when the deadlines of durable leases are on the disk."""
        self.verdicts: list[Verdict] = ["stale"] * len(outcomes)
        self._extending: list[tuple[int, DeliveryToken, Extend]] = []
        """(number of the answer, token, what it asks for)."""
        self._withdrawing: list[tuple[int, DeliveryToken]] = []
        """(number of the answer, token) of events that never reached their consumer."""
        self._parts: dict[_SettlementKey, dict[int, int]] = {}
        """Position -> number of the answer."""
        tokens = decode_tokens([outcome.token for outcome in outcomes])
        if machine.durable_leases.has_restored:
            tokens = [present_token(machine, token) for token in tokens]
        if any(view.sequence.leases.has_parts for view in machine.views.of_subscription(subscription)):
            tokens = [_token_of_part(machine, token) for token in tokens]
        if set(map(type, outcomes)) == {Ack}:
            self._sort_acks(tokens, subscription)
        else:
            self._sort(outcomes, tokens, subscription)
        self.settlements = [self._settlement(key, positions) for key, positions in self._parts.items()]
        self._live = [self._live_runs(settlement) for settlement in self.settlements]
        """Of each settlement, what its lease still has: an acknowledgement of the rest is late."""

    def _sort_acks(self, tokens: Sequence[DeliveryToken | None], subscription: int) -> None:
        """As `_sort`, where all of them are acknowledgements. Most are of a few leases, one after another."""
        previous: tuple[int, int, int] | None = None
        part: dict[int, int] | None = None
        views, parts = self._machine.views, self._parts
        for number, token in enumerate(tokens):
            if token is None:
                self.verdicts[number] = "invalid"
                continue
            lease = (token.view, token.lease, token.epoch)
            if lease != previous:
                previous, view = lease, views.get(token.view)
                is_known = view is not None and view.subscription == subscription
                part = parts.setdefault(_key(token, _ANY_ACK), {}) if is_known else None
            if part is None:
                self.verdicts[number] = "invalid"
            else:
                part.setdefault(token.position, number)

    def _sort(
        self, outcomes: Sequence[Outcome], tokens: Sequence[DeliveryToken | None], subscription: int
    ) -> None:
        """Sort the answers by what becomes one settlement. InvalidArgument."""
        machine = self._machine
        seen: set[str] = set()
        for number, (outcome, token) in enumerate(zip(outcomes, tokens, strict=True)):
            check_ranges(outcome)
            view = machine.views.get(token.view) if token is not None else None
            if token is None or view is None or view.subscription != subscription:
                self.verdicts[number] = "invalid"
            elif isinstance(outcome, Extend):
                self._extending.append((number, token, outcome))
            elif outcome.token in seen:
                continue
            elif isinstance(outcome, Nack) and not outcome.delivered:
                seen.add(outcome.token)
                self._withdrawing.append((number, token))
            else:
                seen.add(outcome.token)
                self._parts.setdefault(_key(token, outcome), {})[token.position] = number

    def is_about_events_of(self, consumer: str | None) -> bool:
        """Whether one of them is about an event that this consumer has."""
        if consumer is None:
            return False
        leases = [
            (settlement.view, settlement.lease)
            for settlement, live in zip(self.settlements, self._live, strict=True)
            if live
        ]
        leases += [(token.view, token.lease) for _, token, _ in self._extending if self._is_present(token)]
        return any(self._consumer_of(*lease) == consumer for lease in leases)

    def _is_present(self, token: DeliveryToken) -> bool:
        return token.epoch == self._machine.epoch

    def _consumer_of(self, view_id: int, lease_id: int) -> str | None:
        view = self._machine.views.get(view_id)
        lease = view.sequence.lease(lease_id) if view is not None else None
        return None if lease is None else lease.consumer

    @staticmethod
    def _settlement(key: _SettlementKey, positions: dict[int, int]) -> Settlement:
        runs = tuple(runs_of(positions))
        return Settlement(
            key.view,
            key.lease,
            key.epoch,
            runs,
            key.verb,
            counts=key.counts,
            delay_ms=key.delay_ms,
            text=key.text,
        )

    def _live_runs(self, settlement: Settlement) -> list[Run]:
        view = self._machine.views.get(settlement.view)
        if view is None or settlement.epoch != self._machine.epoch:
            return []
        return view.sequence.releasable(settlement.lease, settlement.runs)

    def extend(self, now_ms: int) -> list[SubscriptionView]:
        """Extend leases; those that survive a restart are extended once `extended` is done. Returns the views
        that have some."""
        machine = self._machine
        extended: dict[tuple[int, int], SubscriptionView] = {}
        alone: dict[tuple[int, int], tuple[SubscriptionView, set[int]]] = {}
        for number, token, asked in self._extending:
            view = machine.views.get(token.view)
            if view is None or token.epoch != machine.epoch:
                continue
            if not view.sequence.is_leased(token.lease, token.position):
                continue
            self.verdicts[number] = "done"
            if asked.alone:
                _, positions = alone.setdefault((view.id, asked.lock_ms), (view, set()))
                positions.add(token.position)
            else:
                view.sequence.extend(token.lease, now_ms, asked.lock_ms)
                extended[token.view, token.lease] = view
        for (_, lock_ms), (view, positions) in alone.items():
            for renewed in view.sequence.renew(runs_of(sorted(positions)), now_ms, lock_ms):
                extended[view.id, renewed.id] = view
        records = [
            record
            for (_, id_), view in extended.items()
            if (lease := view.sequence.lease(id_)) is not None
            for record in machine.durable_leases.records_of(view, [lease], machine.epoch)
        ]
        if records:
            self.extended = machine.runtime.write(lambda: (records, None))
        return list(extended.values())

    def withdraw(self) -> bool:
        """Take back the events that never reached their consumer. Whether there were some."""
        for number, token in self._withdrawing:
            view = self._machine.views.get(token.view)
            if view is None or token.epoch != self._machine.epoch:
                continue
            if view.sequence.withdraw(token.lease, [(token.position, token.position + 1)]):
                self.verdicts[number] = "done"
        return bool(self._withdrawing)

    def take(self, settled: Sequence[Sequence[Run]], counters: QueueCounters) -> None:
        """Set the verdicts from the positions that each settlement has settled, and count them."""
        for (key, positions), runs, live in zip(self._parts.items(), settled, self._live, strict=True):
            count = count_positions(runs)
            if count == len(positions) == count_positions(live):
                for number in positions.values():
                    self.verdicts[number] = "done"
            else:
                live_positions = set(positions_of(live))
                for position in positions_of(runs):
                    self.verdicts[positions[position]] = "done" if position in live_positions else "late"
            if key.verb == "ack":
                counters.acked += count
                continue
            if key.verb == "nack":
                counters.nacked += count
            else:
                counters.rejected += count
            if key.counts:
                counters.failed += count


def present_token(machine: Subscriptions, token: DeliveryToken | None) -> DeliveryToken | None:
    """A token as one of the present epoch, if its lease has survived a restart."""
    if token is None or not machine.durable_leases.is_present(token.view, token.lease, token.epoch):
        return token
    return DeliveryToken(token.view, token.position, token.lease, machine.epoch)


def _token_of_part(machine: Subscriptions, token: DeliveryToken | None) -> DeliveryToken | None:
    """A token of the present epoch with the lease that its position has now, where that is a part of its
    own."""
    view = machine.views.get(token.view) if token is not None and token.epoch == machine.epoch else None
    if token is None or view is None:
        return token
    lease = view.sequence.present_lease(token.lease, token.position)
    return token if lease == token.lease else DeliveryToken(token.view, token.position, lease, token.epoch)


def delivery_states(machine: Subscriptions, subscription: int, texts: Sequence[str]) -> list[DeliveryState]:
    """See `AttachedConsumers.delivery_states`."""
    states: list[DeliveryState] = []
    for decoded in decode_tokens(texts):
        token = _token_of_part(machine, present_token(machine, decoded))
        view = machine.views.get(token.view) if token is not None else None
        if token is None or view is None or view.subscription != subscription:
            states.append("over")
        elif token.epoch == machine.epoch and view.sequence.is_leased(token.lease, token.position):
            states.append("leased")
        elif view.sequence.state(token.position) is not PositionState.DONE:
            states.append("over")
        else:
            is_of_this_run = decoded is not None and decoded.epoch == machine.epoch
            states.append("done" if is_of_this_run else "done_earlier")
    return states


def _key(token: DeliveryToken, outcome: Ack | Nack | Reject) -> _SettlementKey:
    verb: Literal["ack", "nack", "reject"] = "ack"
    counts, delay_ms, text = True, None, ""
    if isinstance(outcome, Nack):
        verb, counts, delay_ms, text = "nack", outcome.counts, outcome.delay_ms, outcome.reason
    elif isinstance(outcome, Reject):
        verb, text = "reject", outcome.reason
    return _SettlementKey(token.view, token.lease, token.epoch, verb, counts, delay_ms, text)


def check_ranges(outcome: Outcome) -> None:
    """Raise InvalidArgument if a delay, a lock or a reason is out of range."""
    if isinstance(outcome, Nack | Reject) and len(outcome.reason) > REASON_CHARS_MAX:
        raise InvalidArgument(f"a reason has at most {REASON_CHARS_MAX:,} characters")
    if isinstance(outcome, Nack) and outcome.delay_ms is not None:
        if not 0 <= outcome.delay_ms <= DELAY_MS_MAX:
            raise InvalidArgument(f"a delay of {outcome.delay_ms:,} ms; it is from 0 to {DELAY_MS_MAX:,}")
    elif isinstance(outcome, Extend) and not 1 <= outcome.lock_ms <= LOCK_MS_MAX:
        raise InvalidArgument(f"a lock of {outcome.lock_ms:,} ms; it is from 1 to {LOCK_MS_MAX:,}")

"""The list of the coordinator's state machines.

Owns: which machines there are, how they are created, and on which state log each runs. The node runs them;
`doctor` reads their records without running them.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, get_type_hints

import msgspec

from mainstem.clock import Clock
from mainstem.coordinator.access.acls import Acls
from mainstem.coordinator.access.mask_rules import MaskRules
from mainstem.coordinator.access.quotas import Quotas
from mainstem.coordinator.access.tokens import ApiTokens
from mainstem.coordinator.access.users import Users
from mainstem.coordinator.groups.group_settings import GroupSettings
from mainstem.coordinator.groups.groups import Groups
from mainstem.coordinator.groups.share_groups import ShareGroups
from mainstem.coordinator.producer_ids import ProducerIds
from mainstem.coordinator.publishers import Publishers
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.coordinator.runtime.state_log import QUEUE_LOG, STATE_LOG, StateLogKind
from mainstem.coordinator.topics.topics import Topics
from mainstem.settings import Settings


class StateMachines(NamedTuple):
    """All state machines of one coordinator. A new machine is a new field here, and a name in `FIELDS`."""

    topics: Topics
    producer_ids: ProducerIds
    groups: Groups
    subscriptions: Subscriptions
    group_settings: GroupSettings
    share_groups: ShareGroups
    publishers: Publishers
    users: Users
    acls: Acls
    mask_rules: MaskRules
    quotas: Quotas
    api_tokens: ApiTokens

    @classmethod
    def create(cls, settings: Settings, clock: Clock, rng: random.Random) -> StateMachines:
        """Create the machines without any state. Call `connect` before the first request."""
        topics = Topics(settings, rng)
        users = Users()
        groups = Groups(settings, clock, rng, topics)
        subscriptions = Subscriptions(clock, rng)
        group_settings = GroupSettings(subscriptions)
        share_groups = ShareGroups(settings, clock, topics, subscriptions, group_settings, groups)
        return cls(
            topics,
            ProducerIds(rng),
            groups,
            subscriptions,
            group_settings,
            share_groups,
            Publishers(clock),
            users,
            Acls(),
            MaskRules(rng),
            Quotas(),
            ApiTokens(users),
        )

    def of(self, kind: StateLogKind) -> list[Any]:
        """The machines that run on a state log."""
        return [getattr(self, name) for name in FIELDS[kind]]

    def connect(self, runtimes: Iterable[Runtime]) -> None:
        """Set the runtimes that write the machines' records, one of each state log."""
        for runtime in runtimes:
            for machine in self.of(runtime.kind):
                machine.runtime = runtime

    @classmethod
    def record_types(cls, kind: StateLogKind) -> list[type[msgspec.Struct]]:
        """The types of all records of a state log."""
        machines = get_type_hints(cls)
        return [record_type for name in FIELDS[kind] for record_type in machines[name].RECORDS]


FIELDS: Mapping[StateLogKind, tuple[str, ...]] = {
    STATE_LOG: ("topics", "producer_ids", "groups", "users", "acls", "mask_rules", "quotas", "api_tokens"),
    QUEUE_LOG: ("subscriptions", "group_settings", "share_groups", "publishers"),
}
"""The fields of `StateMachines` whose machines run on each state log."""

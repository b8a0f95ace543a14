"""The state machine of the settings of groups, which may be set before there is such a group.

Owns: what is set for each name, and that the settings of a subscription that is a share group follow in the
same batch. Where such a setting was changed by another way than Kafka's, the subscription's value is shown.
Refuses: which settings there are (`group_configs.py`), members (`share_groups.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.groups import group_configs
from mainstem.coordinator.groups.group_configs import ShareGroupSettings
from mainstem.coordinator.groups.share_types import GROUP_NAME_MAX, GroupConfigured
from mainstem.coordinator.queues.records import SubscriptionConfigured
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.coordinator.topics.topic_configs import ConfigEntry
from mainstem.coordinator.topics.types import ConfigChange
from mainstem.promise import Promise
from mainstem.queues.settings import SubscriptionSettings

CONFIGURED_MAX = 100_000
"""Names for which something may be set."""


class GroupSettings:
    """The state machine of the settings of groups. `runtime`, that of the state log of queues, is set once,
    before the first write."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]] = (GroupConfigured,)
    runtime: Runtime

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions
        self.on_configured: list[Callable[[str], None]] = []
        """Callbacks for a group whose settings have changed. Durable."""
        self.reset()

    # --- the state machine --------------------------------------------------------------------------------

    def reset(self) -> None:
        """See `StateMachine`."""
        self._configs: dict[str, dict[str, str]] = {}

    def apply(self, record: Any) -> None:
        """See `StateMachine`."""
        assert isinstance(record, GroupConfigured), "the only record of this machine"
        self._configs.pop(record.group_id, None)
        if record.configs:
            self._configs[record.group_id] = record.configs

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """See `StateMachine`."""
        return (GroupConfigured(group_id, configs) for group_id, configs in list(self._configs.items()))

    # --- reading ------------------------------------------------------------------------------------------

    def of(self, group_id: str) -> ShareGroupSettings:
        """The settings of a share group, also of one that does not exist."""
        return group_configs.share_group_settings(self._shown(group_id))

    def of_new_subscription(self, group_id: str) -> SubscriptionSettings:
        """The settings of the subscription that the share group of that name is to be."""
        configs = self._configs.get(group_id, {})
        return group_configs.with_configs(group_configs.SHARE_GROUP_DEFAULTS, configs)

    def configured(self) -> list[str]:
        """The names of all groups for which something is set, sorted."""
        return sorted(self._configs)

    def describe(self, group_id: str, names: Iterable[str] | None = None) -> list[ConfigEntry]:
        """The settings of a group and their sources; with `names`, only those of these names."""
        return group_configs.describe_group_configs(self._shown(group_id), names)

    def _shown(self, group_id: str) -> Mapping[str, str]:
        group = self._subscriptions.share_group(group_id)
        configs = self._configs.get(group_id, {})
        return configs if group is None else group_configs.shown_configs(configs, group.settings)

    # --- writing ------------------------------------------------------------------------------------------

    def alter(
        self, group_id: str, changes: Sequence[ConfigChange], *, validate_only: bool = False
    ) -> Promise[None]:
        """Change some settings of a group and leave the others. Fails with InvalidRequest, InvalidConfig,
        StorageError."""
        names = {change.name for change in changes}
        return self._write(
            group_id, lambda old: group_configs.changed_configs(old, changes), names, validate_only
        )

    def replace(
        self, group_id: str, configs: Mapping[str, str], *, validate_only: bool = False
    ) -> Promise[None]:
        """Replace all settings of a group. Fails as `alter`."""
        return self._write(group_id, lambda _: dict(configs), set(group_configs.GROUP_CONFIGS), validate_only)

    def _write(
        self,
        group_id: str,
        new: Callable[[Mapping[str, str]], dict[str, str]],
        names: set[str],
        validate_only: bool,
    ) -> Promise[None]:
        """`names`: the settings that are requested. A subscription's are set to them even if they are the
        same, for it may have been changed by another way."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            old = self._configs.get(group_id, {})
            if not group_id:
                raise InvalidRequest("Default group resources are not allowed.")
            if len(group_id) > GROUP_NAME_MAX:
                raise InvalidRequest(f"the name of a group has {GROUP_NAME_MAX:,} characters at most")
            if not old and len(self._configs) >= CONFIGURED_MAX:
                raise InvalidRequest(f"{CONFIGURED_MAX:,} groups have settings already")
            configs = {name: text.strip() for name, text in new(old).items()}
            group_configs.check_group_configs(configs)
            records: list[msgspec.Struct] = []
            if configs != old:
                records.append(GroupConfigured(group_id, configs))
            group = self._subscriptions.share_group(group_id)
            if group is not None:
                changed = {name: configs.get(name) for name in names}
                settings = group_configs.with_configs(group.settings, changed)
                if settings != group.settings:
                    records.append(SubscriptionConfigured(group.id, settings))
            return (() if validate_only else records), None

        written = self.runtime.write(decide)
        if not validate_only:
            written.then(lambda done: self._notify(done, group_id))
        return written

    def _notify(self, done: Promise[None], group_id: str) -> None:
        if done.error is None:
            for callback in self.on_configured:
                callback(group_id)

"""The types of a setting of topics and of groups: its name, value type, default, check and documentation.

Owns: the value types of Kafka's `ConfigDef`, their parsing from text, and the checks that several settings
share. Refuses: what Java's parser refuses. The settings themselves are in the tables of `topic_configs.py`
and of `groups/group_configs.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from mainstem.coordinator.errors import InvalidConfig, InvalidRequest
from mainstem.coordinator.topics.types import ConfigChange

ConfigType = Literal["boolean", "string", "int", "long", "double", "list"]
ConfigSource = Literal["topic", "group", "static", "default"]
ConfigValue = bool | str | int | float | list[str]

LONG_MAX = (1 << 63) - 1
_INT_MAX = (1 << 31) - 1
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)


class TopicDefaults(Protocol):
    """The server's settings that are defaults of topic settings; `mainstem.settings.Settings` has them."""

    @property
    def num_partitions(self) -> int: ...
    @property
    def message_max_bytes(self) -> int: ...
    @property
    def log_segment_bytes(self) -> int: ...
    @property
    def log_roll_ms(self) -> int: ...
    @property
    def log_retention_ms(self) -> int: ...
    @property
    def log_retention_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class ConfigDefinition:
    """The declaration of a setting of topics or of groups."""

    name: str
    type: ConfigType
    default: str
    check: Callable[[ConfigValue], str | None]
    """Returns what is wrong with a value of the right type; None if it is valid."""
    doc: str
    broker_name: str | None = None
    """Kafka's name of the broker setting that is the default."""

    @property
    def documentation(self) -> str:
        """The text for people."""
        return self.doc

    def parse(self, text: str) -> ConfigValue:
        """Parse and check the text of a value. Raises InvalidConfig with Kafka's text."""
        value = self.typed(text.strip())
        problem = self.check(value)
        if problem is not None:
            raise InvalidConfig(f"Invalid value {text.strip()} for configuration {self.name}: {problem}")
        return value

    def typed(self, text: str) -> ConfigValue:
        """The text as a value of the setting's type, unchecked. Raises InvalidConfig with Kafka's text."""
        if self.type == "boolean":
            if text.lower() in ("true", "false"):
                return text.lower() == "true"
            raise self._invalid(text, "Expected value to be either true or false")
        if self.type in ("int", "long"):
            maximum = _INT_MAX if self.type == "int" else LONG_MAX
            if len(text) < 30 and _INTEGER.fullmatch(text) and -maximum - 1 <= int(text) <= maximum:
                return int(text)
            raise self._invalid(text, f"Not a number of type {self.type.upper()}")
        if self.type == "double":
            if len(text) < 100 and _DECIMAL.fullmatch(text):
                return float(text)
            raise self._invalid(text, "Not a number of type DOUBLE")
        if self.type == "list":
            return split_list(text)
        return text

    def _invalid(self, text: str, problem: str) -> InvalidConfig:
        return InvalidConfig(f"Invalid value {text[:100]} for configuration {self.name}: {problem}")


@dataclass(frozen=True, slots=True)
class TopicConfig(ConfigDefinition):
    """The declaration of a topic setting: a row of the table in `topic_configs.py`."""

    defaults_field: str | None = None
    """The attribute of TopicDefaults with the default; None if the server has no such setting."""
    has_effect: bool = True
    """False: accepted for Kafka's tools and shown, but ignored."""

    @property
    def documentation(self) -> str:
        """The text for people, which says so if the setting has no effect."""
        return self.doc if self.has_effect else f"{self.doc} Accepted for Kafka's tools; no effect here."

    def default_in(self, defaults: TopicDefaults) -> str:
        """The value of this setting in a topic that does not set it."""
        return self.default if self.defaults_field is None else str(getattr(defaults, self.defaults_field))

    def default_source(self, defaults: TopicDefaults) -> ConfigSource:
        """Where that value comes from: the server's settings (static) or the built-in default."""
        return "default" if self.default_in(defaults) == self.default else "static"


def valid_values(config: ConfigDefinition) -> str:
    """The valid values of a setting, as text for people: what its check says about invalid ones."""
    if config.type == "boolean":
        return "true or false"
    probes: tuple[ConfigValue, ...] = (-LONG_MAX - 1, LONG_MAX + 1)
    if config.type in ("string", "list"):
        probes = ("\0",) if config.type == "string" else (["\0"], [])
    problems = dict.fromkeys(config.check(probe) for probe in probes)
    return "; ".join(problem for problem in problems if problem is not None)


def split_list(text: str) -> list[str]:
    """Parse the value of a list setting."""
    return [item.strip() for item in text.split(",") if item.strip()]


def apply_change(
    config: dict[str, str], change: ConfigChange, setting: ConfigDefinition, default: str
) -> None:
    """Apply a requested change to what is set. The values are not checked. `default`: to what a list is
    appended that is not set. InvalidRequest, InvalidConfig: the setting does not have the operation."""
    if change.op == "delete":
        config.pop(change.name, None)
        return
    if change.value is None:
        raise InvalidRequest(f"Null value not supported for : {change.name}")
    if change.op == "set":
        config[change.name] = change.value
        return
    if setting.type != "list":
        raise InvalidConfig(f"Can't {change.op.upper()} to key {change.name} because its type is not LIST.")
    items = split_list(config.get(change.name, default))
    changed = split_list(change.value)
    if change.op == "append":
        items += [item for item in dict.fromkeys(changed) if item not in items]
    else:
        items = [item for item in items if item not in changed]
    config[change.name] = ",".join(items)


def any_value(_: ConfigValue) -> str | None:
    """Accepts every value."""
    return None


def at_least(minimum: float) -> Callable[[ConfigValue], str | None]:
    """A check that a number is `minimum` or more."""

    def check(value: ConfigValue) -> str | None:
        assert isinstance(value, int | float)
        return None if value >= minimum else f"Value must be at least {minimum}"

    return check


def between(minimum: float, maximum: float) -> Callable[[ConfigValue], str | None]:
    """A check that a number is `minimum` to `maximum`, inclusive."""

    def check(value: ConfigValue) -> str | None:
        assert isinstance(value, int | float)
        if value < minimum:
            return f"Value must be at least {minimum}"
        return None if value <= maximum else f"Value must be no more than {maximum}"

    return check


def one_of(*allowed: str) -> Callable[[ConfigValue], str | None]:
    """A check that a text is one of `allowed`."""

    def check(value: ConfigValue) -> str | None:
        return None if value in allowed else f"String must be one of: {', '.join(allowed)}"

    return check

"""What a setting of a topic is: a name, a type, a default, a check, a text.

Owns: the types of Kafka's `ConfigDef`, how each is read from text, and the checks that several settings
share. Refuses: what Java's parser refuses. `topic_configs.py` has the table; nobody else makes one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from mainstem.coordinator.errors import InvalidConfig

ConfigType = Literal["boolean", "string", "int", "long", "double", "list"]
ConfigSource = Literal["topic", "static", "default"]
ConfigValue = bool | str | int | float | list[str]

LONG_MAX = (1 << 63) - 1
_INT_MAX = (1 << 31) - 1
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)


class TopicDefaults(Protocol):
    """The server's settings that are defaults of a topic's (`mainstem.settings.Settings` has them)."""

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
class TopicConfig:
    """One setting."""

    name: str
    type: ConfigType
    default: str
    check: Callable[[ConfigValue], str | None]
    """What is wrong with a value of the right type; None: nothing."""
    doc: str
    broker_name: str | None = None
    """Kafka's name of the server's setting that is the default."""
    defaults_field: str | None = None
    """Attribute of `Defaults`, when the server's setting can be changed."""
    has_effect: bool = True

    @property
    def documentation(self) -> str:
        """The text, with the warning if there has to be one."""
        return self.doc if self.has_effect else f"{self.doc} Accepted for Kafka's tools; no effect here."

    def parse(self, text: str) -> ConfigValue:
        """The value, checked. InvalidConfig, in Kafka's words."""
        value = self._typed(text.strip())
        wrong = self.check(value)
        if wrong is not None:
            raise InvalidConfig(f"Invalid value {text.strip()} for configuration {self.name}: {wrong}")
        return value

    def _typed(self, text: str) -> ConfigValue:
        if self.type == "boolean":
            if text.lower() in ("true", "false"):
                return text.lower() == "true"
            raise self._refusal(text, "Expected value to be either true or false")
        if self.type in ("int", "long"):
            most = _INT_MAX if self.type == "int" else LONG_MAX
            if len(text) < 30 and _INTEGER.fullmatch(text) and -most - 1 <= int(text) <= most:
                return int(text)
            raise self._refusal(text, f"Not a number of type {self.type.upper()}")
        if self.type == "double":
            if len(text) < 100 and _DECIMAL.fullmatch(text):
                return float(text)
            raise self._refusal(text, "Not a number of type DOUBLE")
        if self.type == "list":
            return split_list(text)
        return text

    def _refusal(self, text: str, why: str) -> InvalidConfig:
        return InvalidConfig(f"Invalid value {text[:100]} for configuration {self.name}: {why}")

    def default_in(self, defaults: TopicDefaults) -> str:
        """The value of a topic that does not set it."""
        return self.default if self.defaults_field is None else str(getattr(defaults, self.defaults_field))

    def default_source(self, defaults: TopicDefaults) -> ConfigSource:
        """Whether that value comes from the server's settings or is built in."""
        return "default" if self.default_in(defaults) == self.default else "static"


def valid_values(config: TopicConfig) -> str:
    """Which values a setting takes, for people: what its check says of those that it never takes."""
    if config.type == "boolean":
        return "true or false"
    probes: tuple[ConfigValue, ...] = (-LONG_MAX - 1, LONG_MAX + 1)
    if config.type in ("string", "list"):
        probes = ("\0",) if config.type == "string" else (["\0"], [])
    told = dict.fromkeys(config.check(each) for each in probes)
    return "; ".join(each for each in told if each is not None)


def split_list(text: str) -> list[str]:
    """The items of a list setting."""
    return [item.strip() for item in text.split(",") if item.strip()]


def any_value(_: ConfigValue) -> str | None:
    """No check."""
    return None


def at_least(least: float) -> Callable[[ConfigValue], str | None]:
    """A check for numbers: `least` or more."""

    def check(value: ConfigValue) -> str | None:
        assert isinstance(value, int | float)
        return None if value >= least else f"Value must be at least {least}"

    return check


def between(least: float, most: float) -> Callable[[ConfigValue], str | None]:
    """A check for numbers: `least` to `most`, inclusive."""

    def check(value: ConfigValue) -> str | None:
        assert isinstance(value, int | float)
        if value < least:
            return f"Value must be at least {least}"
        return None if value <= most else f"Value must be no more than {most}"

    return check


def one_of(*allowed: str) -> Callable[[ConfigValue], str | None]:
    """A check for texts."""

    def check(value: ConfigValue) -> str | None:
        return None if value in allowed else f"String must be one of: {', '.join(allowed)}"

    return check

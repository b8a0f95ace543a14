"""The declaration of one setting, and how its value is read.

Owns: `SettingDefinition`, and the conversion of texts to a setting's type. Refuses: values that cannot be
read. Which settings there are is in `mainstem.settings` and in the declarations of doors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, get_args


class SettingsError(Exception):
    """The error for a setting that cannot be used. The message is one line: what, where, what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingDefinition:
    """The declaration of one setting of the server or of a door."""

    name: str
    type: Any
    """bool, int, str, `str | None`, or a Literal of strings."""
    default: object
    doc: str
    """One line of meaning, with the unit."""
    kafka: str | None = None
    """Kafka's name for it, by which DescribeConfigs reports it."""
    minimum: int | None = None
    metavar: str = ""
    """The placeholder of the value in help texts; empty for those without one."""
    has_flag: bool = False
    flag_name: str | None = None
    """The setting's flag of `mainstem serve`, if it is not `--` and the name."""
    usual: str = ""
    """The value in effect if the default, None, is kept; shown in help texts, docs and DescribeConfigs."""

    @property
    def flag(self) -> str:
        """The flag of `mainstem serve` that sets it."""
        return self.flag_name or "--" + self.name.replace("_", "-")

    @property
    def shown_default(self) -> str:
        """The default as text; empty if there is none."""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return self.usual if self.default is None else str(self.default)

    @property
    def choices(self) -> tuple[str, ...]:
        """The permitted values of a setting that is a choice; empty for others."""
        values = get_args(self.type)
        return () if type(None) in values else values


def setting(default: Any, kafka: str | None, doc: str, **more: Any) -> Any:
    """A field of Settings: its default, Kafka's name for it, one line of meaning with the unit, and what else
    a SettingDefinition has."""
    return field(default=default, metadata={"kafka": kafka, "doc": doc, **more})


_BOOLEANS = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


def read(definition: SettingDefinition, given: object, where: str) -> object:
    """`given` as the type of the setting; strings are parsed. SettingsError names `where` it was given."""
    if definition.type is bool:
        value = given if isinstance(given, bool) else _BOOLEANS.get(str(given).strip().lower())
        if value is None:
            raise SettingsError(f"{where}: {given!r} is neither true nor false")
        return value
    if definition.type is int:
        return _read_number(definition, given, where)
    if type(None) in get_args(definition.type) and given == "":
        return None
    if not isinstance(given, str):
        raise SettingsError(f"{where}: {given!r} is not text; put it in quotes")
    if definition.choices and given not in definition.choices:
        raise SettingsError(f"{where}: {given!r} is not one of {', '.join(definition.choices)}")
    return given


def _read_number(definition: SettingDefinition, given: object, where: str) -> int:
    try:
        if isinstance(given, bool) or not isinstance(given, (int, str)):
            raise ValueError
        number = int(given)
    except ValueError:
        raise SettingsError(f"{where}: {given!r} is not a whole number") from None
    if definition.minimum is not None and number < definition.minimum:
        raise SettingsError(f"{where}: {number} is less than {definition.minimum}")
    return number

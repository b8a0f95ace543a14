"""The settings of a server together with those that its doors declare.

Owns: nothing but the joining of the two; `mainstem.settings` reads and checks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mainstem import doors, settings
from mainstem.setting_definition import SettingDefinition
from mainstem.settings import Settings


def of_doors() -> tuple[SettingDefinition, ...]:
    """The declarations of the settings that doors declare."""
    return tuple(definition for door in doors.DOORS for definition in door.definitions)


def definitions() -> list[SettingDefinition]:
    """The declarations of all settings of a server."""
    return settings.definitions(of_doors())


def load(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    file: str | None = None,
) -> Settings:
    """See `mainstem.settings.load`."""
    return settings.load(flags, environ, file, of_doors=of_doors())


def unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """See `mainstem.settings.unknown_variables`."""
    return settings.unknown_variables(environ, of_doors())

"""The server's settings: names, defaults, units, and where their values come from.

Owns: every setting of `mainstem serve` that is no door's own, each declared once, with Kafka's name where
Kafka has one. Doors declare theirs beside them (`mainstem.doors.contract.Door`) and they are read, checked
and listed here in the same way. The configuration file, the environment (`MAINSTEM_*`), the flags,
DescribeConfigs and docs/SETTINGS.md are derived from these declarations. Refuses: values that cannot be
read, and names that do not exist (with the nearest one that does).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_type_hints

PREFIX = "MAINSTEM_"
OTHER_VARIABLES = frozenset({"MAINSTEM_AT", "MAINSTEM_CONFIG"})
"""Variables with the prefix that are no settings: the command line reads them."""

REPLACED = {"no_http": "--doors kafka (setting `doors`: the doors to open)"}
"""Settings of earlier versions, and what replaces each."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one server. They do not change while it runs."""

    data: str = setting(
        "mainstem-data",
        "log.dirs",
        "Data folder of the server; made if missing.",
        has_flag=True,
        metavar="DIR",
    )
    doors: str | None = setting(
        None,
        None,
        "Doors to open, with commas, or all; if not given, also each door that has an address.",
        has_flag=True,
        metavar="NAMES",
        usual="kafka,http",
    )
    bind: str = setting(
        "127.0.0.1",
        None,
        "Address that doors without one of their own listen on, at their usual ports.",
        has_flag=True,
        metavar="ADDRESS",
    )
    advertise: str | None = setting(
        None,
        "advertised.listeners",
        "HOST:PORT to which clients are directed, if it is not the bound address.",
        has_flag=True,
        metavar="HOST:PORT",
    )
    durability: Literal["disk", "os"] = setting(
        "disk",
        None,
        "What acks=all waits for. disk: the events are on disk; os: they are in the page cache.",
        has_flag=True,
    )
    allow_anonymous: bool = setting(
        False, None, "Permit addresses that other machines reach, without authentication.", has_flag=True
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", None, "Lowest level of lines that are logged.", has_flag=True
    )
    log_json: bool = setting(False, None, "Log as JSON lines.", has_flag=True)

    num_partitions: int = setting(
        1,
        "num.partitions",
        "Partitions of a topic that is created without a number of partitions.",
        minimum=1,
    )
    auto_create_topics: bool = setting(
        True, "auto.create.topics.enable", "Create a missing topic when a client first asks for it."
    )
    message_max_bytes: int = setting(
        1_048_588, "message.max.bytes", "Default of a topic's max.message.bytes, bytes.", minimum=1
    )
    log_segment_bytes: int = setting(
        1 << 30, "log.segment.bytes", "Default of a topic's segment.bytes, bytes.", minimum=1 << 20
    )
    log_roll_ms: int = setting(604_800_000, "log.roll.ms", "Default of a topic's segment.ms, ms.", minimum=1)
    log_retention_ms: int = setting(
        604_800_000, "log.retention.ms", "Default of a topic's retention.ms, ms; -1: for ever.", minimum=-1
    )
    log_retention_bytes: int = setting(
        -1, "log.retention.bytes", "Default of a topic's retention.bytes, bytes; -1: no limit.", minimum=-1
    )
    disk_reserve_bytes: int = setting(
        -1,
        None,
        "Reject writes while less of the disk is free, bytes; -1: 5 % of it, at most 1 GiB; 0: never.",
        minimum=-1,
    )
    data_max_bytes: int = setting(
        0,
        None,
        "Reject writes to topics while all segments together are larger, bytes; 0: no limit.",
        minimum=0,
        has_flag=True,
        flag_name="--max-data",
        metavar="BYTES",
    )
    log_retention_check_interval_ms: int = setting(
        300_000,
        "log.retention.check.interval.ms",
        "Interval between two runs of retention, which deletes old segments, ms.",
        minimum=1,
    )

    group_initial_rebalance_delay_ms: int = setting(
        0,
        "group.initial.rebalance.delay.ms",
        "How long the first rebalance of a new group waits for more members, ms.",
        minimum=0,
    )
    group_min_session_timeout_ms: int = setting(
        6_000, "group.min.session.timeout.ms", "Minimum session.timeout.ms of a group member, ms.", minimum=1
    )
    group_max_session_timeout_ms: int = setting(
        1_800_000,
        "group.max.session.timeout.ms",
        "Maximum session.timeout.ms of a group member, ms.",
        minimum=1,
    )
    group_max_size: int = setting(2_147_483_647, "group.max.size", "Maximum members of a group.", minimum=1)
    group_share_max_size: int = setting(
        200, "group.share.max.size", "Maximum members of a share group.", minimum=1
    )
    group_memory_max_bytes: int = setting(
        134_217_728,
        None,
        "Maximum memory of the members, subscriptions and assignments of all groups, bytes.",
        minimum=1 << 16,
    )
    offsets_retention_minutes: int = setting(
        10_080,
        "offsets.retention.minutes",
        "How long committed offsets of a group without members are kept, minutes.",
        minimum=1,
    )
    offset_metadata_max_bytes: int = setting(
        4_096,
        "offset.metadata.max.bytes",
        "Maximum size of the metadata of a committed offset, bytes.",
        minimum=0,
    )
    producer_id_expiration_ms: int = setting(
        86_400_000,
        "producer.id.expiration.ms",
        "How long an idle producer's sequence number is remembered, ms.",
        minimum=1,
    )

    push_allow: str = setting(
        "loopback",
        None,
        "Addresses to push events to: loopback, private, public, networks such as 10.1.0.0/16; with commas.",
    )

    connections_max_idle_ms: int = setting(
        600_000,
        "connections.max.idle.ms",
        "Close a connection that sends nothing for this time, ms.",
        minimum=1,
    )
    first_request_timeout_ms: int = setting(
        10_000, None, "Close a new connection that sends no complete request in this time, ms.", minimum=1
    )
    max_connections: int = setting(
        10_000,
        "max.connections",
        "Maximum connections of a door; further ones wait until one ends.",
        minimum=1,
    )
    max_connections_per_ip: int = setting(
        5_000,
        "max.connections.per.ip",
        "Maximum connections of a door from one address; further ones are closed.",
        minimum=1,
    )
    max_connection_creation_rate: int = setting(
        2_147_483_647,
        "max.connection.creation.rate",
        "Maximum new connections of a door per second; further ones wait.",
        minimum=1,
    )
    socket_request_max_bytes: int = setting(
        104_857_600,
        "socket.request.max.bytes",
        "Maximum size of a request, bytes.",
        minimum=1024,
    )
    queued_max_request_bytes: int = setting(
        268_435_456,
        "queued.max.request.bytes",
        "Maximum bytes of all requests being received; the same again for requests in progress.",
        minimum=1 << 20,
    )
    request_max_elements: int = setting(
        100_000, None, "Maximum number of partitions, names and other elements in one request.", minimum=1
    )
    fetch_max_bytes: int = setting(
        57_671_680, "fetch.max.bytes", "Maximum size of a Fetch reply, bytes.", minimum=1024
    )

    door_values: Mapping[str, Any] = field(default_factory=dict)
    """Values of the doors' own settings, by name."""
    door_definitions: tuple[SettingDefinition, ...] = ()
    """The declarations of the doors' own settings."""

    def entries(self) -> Iterator[tuple[SettingDefinition, Any]]:
        """Every setting and its value."""
        for definition in definitions(self.door_definitions):
            if definition in self.door_definitions:
                yield definition, self.door_values.get(definition.name, definition.default)
            else:
                yield definition, getattr(self, definition.name)


def definitions(of_doors: Sequence[SettingDefinition] = ()) -> list[SettingDefinition]:
    """All declarations, those of doors behind `bind`."""
    types = get_type_hints(Settings)
    result = []
    for declared in fields(Settings):
        if "doc" in declared.metadata:
            result.append(
                SettingDefinition(
                    name=declared.name,
                    type=types[declared.name],
                    default=declared.default,
                    **declared.metadata,
                )
            )
        if declared.name == "bind":
            result += of_doors
    return result


def load(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    file: str | None = None,
    *,
    of_doors: Sequence[SettingDefinition] = (),
) -> Settings:
    """The settings, each from the first of: `flags` (None: not given), `MAINSTEM_<NAME>` in `environ`, the
    TOML `file`, its default. `of_doors` declares the settings of doors. SettingsError names the place of a
    bad value."""
    known = {definition.name: definition for definition in definitions(of_doors)}
    values: dict[str, Any] = {}
    if file is not None:
        values.update(_from_file(file, known))
    values.update(_from_environment(environ or {}, known))
    for name, given in (flags or {}).items():
        if given is not None:
            values[name] = _read(known[name], given, known[name].flag)
    door_values = {
        definition.name: values.pop(definition.name, definition.default) for definition in of_doors
    }
    return Settings(**values, door_values=door_values, door_definitions=tuple(of_doors))


def unknown_variables(
    environ: Mapping[str, str], of_doors: Sequence[SettingDefinition] = ()
) -> Iterator[str]:
    """A warning for each MAINSTEM_* variable that looks like a misspelt setting. No error: Kubernetes puts
    variables such as MAINSTEM_SERVICE_HOST into every container beside a service of this name."""
    names = {definition.name for definition in definitions(of_doors)}
    for variable in sorted(environ):
        name = variable.removeprefix(PREFIX).lower()
        if variable.startswith(PREFIX) and variable not in OTHER_VARIABLES and name not in names:
            near = _nearest(name, names)
            if near:
                yield f"environment variable {variable} is no setting; did you mean {PREFIX}{near.upper()}?"


def replaced_message(where: str, replacement: str) -> str:
    """The refusal of a setting of an earlier version, given `where`."""
    return f"{where} was replaced: use {replacement}"


def _refuse_replaced(name: str, where: str) -> None:
    if name in REPLACED:
        raise SettingsError(replaced_message(where, REPLACED[name]))


def _from_file(path: str, known: Mapping[str, SettingDefinition]) -> Iterator[tuple[str, object]]:
    import tomllib  # only a server with a file pays for it

    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"settings file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path} is not TOML: {error}") from None
    for name, value in _flat(table):
        _refuse_replaced(name, f"{name} in {path}")
        if name not in known:
            kafka_names = {definition.kafka: name for name, definition in known.items() if definition.kafka}
            near = kafka_names.get(name) or _nearest(name, known)
            hint = f"; did you mean {near}?" if near else "; docs/SETTINGS.md lists them"
            raise SettingsError(f"unknown setting {name} in {path}{hint}")
        yield name, _read(known[name], value, f"{name} in {path}")


def _flat(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    # TOML reads `log.segment.bytes = 1` as nested tables; joined again they are Kafka's names.
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _from_environment(
    environ: Mapping[str, str], known: Mapping[str, SettingDefinition]
) -> Iterator[tuple[str, object]]:
    for name in REPLACED:
        if PREFIX + name.upper() in environ:
            _refuse_replaced(name, PREFIX + name.upper())
    for name, definition in known.items():
        variable = PREFIX + name.upper()
        if variable in environ:
            yield name, _read(definition, environ[variable], variable)


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


def _read(definition: SettingDefinition, given: object, where: str) -> object:
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


def _nearest(name: str, known: Mapping[str, object] | set[str]) -> str | None:
    import difflib  # only for a mistake

    close = difflib.get_close_matches(
        name.lower().replace("-", "_").replace(".", "_"), known, n=1, cutoff=0.75
    )
    return close[0] if close else None

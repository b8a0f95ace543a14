"""The server's settings: names, defaults, units, and where their values come from.

Owns: every setting of `mainstem serve`, each declared once, with Kafka's name where Kafka has one. The
configuration file, the environment (`MAINSTEM_*`), the command line, DescribeConfigs and docs/SETTINGS.md
are derived from it. Refuses: values that it cannot read, and names that it does not know (with the nearest
one that it does).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_type_hints


def setting(default: Any, kafka: str | None, doc: str, *, least: int | None = None) -> Any:
    """A field of Settings: its default, Kafka's name for it, one line of meaning with the unit, and the
    least value."""
    return field(default=default, metadata={"kafka": kafka, "doc": doc, "least": least})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `mainstem serve` was told. Immutable while it runs."""

    data: str = setting("mainstem-data", "log.dirs", "Folder of the log; made if missing.")
    kafka: str = setting(
        "127.0.0.1:9092", "listeners", "HOST:PORT of the Kafka door; port 0 picks a free one."
    )
    advertise: str | None = setting(
        None, "advertised.listeners", "HOST:PORT that clients are told to connect to."
    )
    http: str | None = setting(
        None,
        "mainstem.http.listener",
        "HOST:PORT of the HTTP door; not given: 127.0.0.1:8080, if nothing else listens there.",
    )
    no_http: bool = setting(False, None, "Serve no HTTP.")
    http_hosts: str = setting(
        "", None, "Names by which browsers may call the HTTP door beside localhost, with commas."
    )
    http_read_only: bool = setting(False, None, "Refuse every change that comes by HTTP.")
    http_max_body_bytes: int = setting(
        16_777_216, None, "Body of an HTTP request at most, bytes; lines of NDJSON each.", least=1024
    )
    durability: Literal["disk", "os"] = setting(
        "disk", None, "disk: acks=all waits for the disk; os: for the page cache."
    )
    allow_anonymous: bool = setting(
        False, None, "Permit an address other than loopback without authentication."
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", None, "Least severe line to log."
    )
    log_json: bool = setting(False, None, "Log as JSON lines.")

    num_partitions: int = setting(
        1, "num.partitions", "Partitions of a topic that is created without a number.", least=1
    )
    auto_create_topics: bool = setting(
        True, "auto.create.topics.enable", "Create a topic when it is first asked for."
    )
    message_max_bytes: int = setting(
        1_048_588, "message.max.bytes", "Default of max.message.bytes, bytes.", least=1
    )
    log_segment_bytes: int = setting(
        1 << 30, "log.segment.bytes", "Default of segment.bytes, bytes.", least=1 << 20
    )
    log_roll_ms: int = setting(604_800_000, "log.roll.ms", "Default of segment.ms, ms.", least=1)
    log_retention_ms: int = setting(
        604_800_000, "log.retention.ms", "Default of retention.ms, ms; -1: for ever.", least=-1
    )
    log_retention_bytes: int = setting(
        -1, "log.retention.bytes", "Default of retention.bytes, bytes; -1: no limit.", least=-1
    )
    disk_reserve_bytes: int = setting(
        -1,
        None,
        "Topics take no events while less is free, bytes; -1: 5 % of the file system, at most 1 GiB; 0: off.",
        least=-1,
    )
    data_max_bytes: int = setting(
        0, None, "Topics take no events while all segments together are larger, bytes; 0: no limit.", least=0
    )
    log_retention_check_interval_ms: int = setting(
        300_000, "log.retention.check.interval.ms", "How often retention looks, ms.", least=1
    )

    group_initial_rebalance_delay_ms: int = setting(
        0, "group.initial.rebalance.delay.ms", "Wait for more members of a new group, ms.", least=0
    )
    group_min_session_timeout_ms: int = setting(
        6_000, "group.min.session.timeout.ms", "Least session.timeout.ms allowed, ms.", least=1
    )
    group_max_session_timeout_ms: int = setting(
        1_800_000, "group.max.session.timeout.ms", "Greatest session.timeout.ms allowed, ms.", least=1
    )
    group_max_size: int = setting(2_147_483_647, "group.max.size", "Members of a group at most.", least=1)
    offsets_retention_minutes: int = setting(
        10_080,
        "offsets.retention.minutes",
        "Committed offsets of a group without members are kept so long, minutes.",
        least=1,
    )
    offset_metadata_max_bytes: int = setting(
        4_096, "offset.metadata.max.bytes", "Metadata of a committed offset at most, bytes.", least=0
    )
    producer_id_expiration_ms: int = setting(
        86_400_000,
        "producer.id.expiration.ms",
        "An idle producer's sequence is remembered so long, ms.",
        least=1,
    )

    connections_max_idle_ms: int = setting(
        600_000, "connections.max.idle.ms", "Close a connection that is silent so long, ms.", least=1
    )
    first_request_timeout_ms: int = setting(
        10_000, None, "Close a new connection that has sent no whole request in this time, ms.", least=1
    )
    max_connections: int = setting(
        10_000, "max.connections", "Connections at most; more wait until one ends.", least=1
    )
    max_connections_per_ip: int = setting(
        5_000, "max.connections.per.ip", "Connections from one address at most; more are closed.", least=1
    )
    max_connection_creation_rate: int = setting(
        2_147_483_647, "max.connection.creation.rate", "New connections a second; more wait.", least=1
    )
    socket_request_max_bytes: int = setting(
        104_857_600,
        "socket.request.max.bytes",
        "A Produce request at most, bytes; others: 1 MiB.",
        least=1024,
    )
    queued_max_request_bytes: int = setting(
        268_435_456,
        "queued.max.request.bytes",
        "Memory of all requests that come in, at most, and of all in work again, bytes.",
        least=1 << 20,
    )
    request_max_elements: int = setting(
        100_000, None, "Partitions, names and other elements of one request at most.", least=1
    )
    fetch_max_bytes: int = setting(57_671_680, "fetch.max.bytes", "A Fetch reply at most, bytes.", least=1024)


PREFIX = "MAINSTEM_"
OTHER_VARIABLES = frozenset({"MAINSTEM_AT", "MAINSTEM_CONFIG"})
"""Variables of ours that are no settings: read by the command line."""


class SettingsError(Exception):
    """A setting that cannot be used. The message is one line: what, where, what to do."""


def load(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    file: str | None = None,
) -> Settings:
    """The settings, each from the first of: `flags` (None: not given), `MAINSTEM_<NAME>` in `environ`, the
    TOML `file`, its default. SettingsError names the place of a bad value."""
    values: dict[str, object] = {}
    if file is not None:
        values.update(_from_file(file))
    values.update(_from_environment(environ or {}))
    for name, given in (flags or {}).items():
        if given is not None:
            values[name] = _read(name, given, "--" + name.replace("_", "-"))
    return Settings(**values)  # type: ignore[arg-type]


def unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """A warning for each MAINSTEM_* variable that looks like a misspelt setting. No error: Kubernetes puts
    variables such as MAINSTEM_SERVICE_HOST into every container beside a service of this name."""
    for variable in sorted(environ):
        name = variable.removeprefix(PREFIX).lower()
        if variable.startswith(PREFIX) and variable not in OTHER_VARIABLES and name not in _TYPES:
            near = _nearest(name)
            if near:
                yield f"environment variable {variable} is no setting; did you mean {PREFIX}{near.upper()}?"


def _from_file(path: str) -> Iterator[tuple[str, object]]:
    import tomllib  # only a server with a file pays for it

    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"settings file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path} is not TOML: {error}") from None
    for name, value in _flat(table):
        if name not in _TYPES:
            near = _BY_KAFKA_NAME.get(name) or _nearest(name)
            hint = f"; did you mean {near}?" if near else "; docs/SETTINGS.md lists them"
            raise SettingsError(f"unknown setting {name} in {path}{hint}")
        yield name, _read(name, value, f"{name} in {path}")


def _flat(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    # TOML reads `log.segment.bytes = 1` as nested tables; Kafka's names are told apart by putting them
    # together again.
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, object]]:
    for name in _TYPES:
        variable = PREFIX + name.upper()
        if variable in environ:
            yield name, _read(name, environ[variable], variable)


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


def _read(name: str, given: object, where: str) -> object:
    """`given` as the type of the setting `name`; strings are parsed. SettingsError says `where` it stood."""
    kind = _TYPES[name]
    choices = get_args(kind) if kind not in (int, bool, str) else ()
    if kind is bool:
        value = given if isinstance(given, bool) else _BOOLEANS.get(str(given).strip().lower())
        if value is None:
            raise SettingsError(f"{where}: {given!r} is neither true nor false")
        return value
    if kind is int:
        return _read_number(name, given, where)
    if type(None) in choices and given == "":
        return None
    if not isinstance(given, str):
        raise SettingsError(f"{where}: {given!r} is not text; put it in quotes")
    if choices and type(None) not in choices and given not in choices:
        raise SettingsError(f"{where}: {given!r} is not one of {', '.join(choices)}")
    return given


def _read_number(name: str, given: object, where: str) -> int:
    try:
        if isinstance(given, bool) or not isinstance(given, (int, str)):
            raise ValueError
        number = int(given)
    except ValueError:
        raise SettingsError(f"{where}: {given!r} is not a whole number") from None
    least = _LEAST[name]
    if least is not None and number < least:
        raise SettingsError(f"{where}: {number} is less than {least}")
    return number


def _nearest(name: str) -> str | None:
    import difflib  # only for a mistake

    close = difflib.get_close_matches(
        name.lower().replace("-", "_").replace(".", "_"), _TYPES, n=1, cutoff=0.75
    )
    return close[0] if close else None


_TYPES: dict[str, Any] = get_type_hints(Settings)
_LEAST: dict[str, int | None] = {each.name: each.metadata["least"] for each in fields(Settings)}
_BY_KAFKA_NAME: dict[str, str] = {
    each.metadata["kafka"]: each.name for each in fields(Settings) if each.metadata["kafka"]
}

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
from typing import Any, Literal, get_type_hints

from mainstem.setting_definition import SettingDefinition, SettingsError, read, setting

PREFIX = "MAINSTEM_"
OTHER_VARIABLES = frozenset(
    {
        "MAINSTEM_AT",
        "MAINSTEM_CA",
        "MAINSTEM_CERT",
        "MAINSTEM_CERT_KEY",
        "MAINSTEM_CLIENT_CONFIG",
        "MAINSTEM_CONFIG",
        "MAINSTEM_CONTEXT",
        "MAINSTEM_CONTEXTS",
        "MAINSTEM_PASSWORD_FILE",
        "MAINSTEM_SASL_MECHANISM",
        "MAINSTEM_TOKEN_FILE",
        "MAINSTEM_USER",
    }
)
"""Variables with the prefix that are no settings: the command line reads them."""

REPLACED = {"no_http": "--doors kafka (setting `doors`: the doors to open)"}
"""Settings of earlier versions, and what replaces each."""


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
        "[NAME://]HOST:PORT to which clients are directed, if it is not the bound address; with commas.",
        has_flag=True,
        metavar="HOST:PORT",
    )
    security_protocol: str = setting(
        "PLAINTEXT",
        None,
        "Listener name of addresses without NAME://; PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL.",
        has_flag=True,
        metavar="NAME",
    )
    listener_security_protocol_map: str = setting(
        "",
        "listener.security.protocol.map",
        "Security protocols of other listener names, NAME:PROTOCOL with commas.",
    )
    sasl_enabled_mechanisms: str = setting(
        "SCRAM-SHA-256,SCRAM-SHA-512,PLAIN",
        "sasl.enabled.mechanisms",
        "Mechanisms by which clients may log in. PLAIN and OAUTHBEARER need TLS, or loopback.",
    )
    sasl_server_max_receive_size: int = setting(
        524_288,
        "sasl.server.max.receive.size",
        "Maximum size of a request before the client has authenticated, bytes.",
        minimum=1024,
    )
    connection_failed_authentication_delay_ms: int = setting(
        100,
        "connection.failed.authentication.delay.ms",
        "How long a failed authentication waits for its answer, ms.",
        minimum=0,
    )
    connections_max_reauth_ms: int = setting(
        0,
        "connections.max.reauth.ms",
        "Clients have to authenticate again after this time, ms; 0: only when their token expires.",
        minimum=0,
    )
    sasl_oauthbearer_jwks_endpoint_url: str | None = setting(
        None,
        "sasl.oauthbearer.jwks.endpoint.url",
        "Keys for tokens: an https:// or file:/// address of a JWKS, or a file with a public key in PEM.",
        metavar="URL",
    )
    sasl_oauthbearer_expected_issuer: str = setting(
        "", "sasl.oauthbearer.expected.issuer", "The issuer (iss) of tokens that are accepted."
    )
    sasl_oauthbearer_expected_audience: str = setting(
        "", "sasl.oauthbearer.expected.audience", "The audience (aud) of tokens that are accepted."
    )
    sasl_oauthbearer_clock_skew_seconds: int = setting(
        30,
        "sasl.oauthbearer.clock.skew.seconds",
        "How far the clock of the tokens' issuer may differ, seconds.",
        minimum=0,
    )
    sasl_oauthbearer_sub_claim_name: str = setting(
        "sub", "sasl.oauthbearer.sub.claim.name", "The claim of a token that names the user."
    )
    sasl_oauthbearer_jwks_endpoint_refresh_ms: int = setting(
        3_600_000,
        "sasl.oauthbearer.jwks.endpoint.refresh.ms",
        "Interval at which the keys for tokens are read again, ms; an unknown key id: within 10 s.",
        minimum=1_000,
    )
    oauthbearer_keys_max_age_ms: int = setting(
        86_400_000,
        None,
        "How long keys for tokens are good if they cannot be read again, ms; then no token is.",
        minimum=1_000,
    )
    oauthbearer_roles_claim: str = setting(
        "", None, "The claim of a token that lists roles, such as groups or realm_access.roles."
    )
    default_principal: str = setting(
        "User:ANONYMOUS", None, "Who clients are that do not authenticate, TYPE:NAME."
    )
    tls_cert: str = setting(
        "",
        "ssl.keystore.location",
        "File of the certificate and its chain, PEM; several with commas, chosen by the client's SNI.",
        has_flag=True,
        metavar="FILE",
    )
    tls_key: str = setting(
        "",
        None,
        "File of the certificate's key, PEM, mode 0600; if not given, the certificate's file has it.",
        has_flag=True,
        metavar="FILE",
    )
    tls_client_ca: str = setting(
        "",
        "ssl.truststore.location",
        "File of the authorities that sign the certificates of clients, PEM.",
        has_flag=True,
        metavar="FILE",
    )
    tls_client_auth: Literal["none", "requested", "required"] = setting(
        "none",
        "ssl.client.auth",
        "Whether clients show a certificate, which says who they are.",
        has_flag=True,
    )
    tls_min_version: Literal["1.2", "1.3"] = setting("1.2", None, "Lowest version of TLS.")
    ssl_principal_mapping_rules: str = setting(
        "DEFAULT",
        "ssl.principal.mapping.rules",
        "User of a client's certificate from its name: RULE:PATTERN/REPLACEMENT/[LU], DEFAULT, with commas.",
    )
    listener_settings: str = setting(
        "",
        None,
        "Settings of one listener, NAME.SETTING=VALUE with semicolons; Kafka: listener.name.NAME.SETTING.",
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
    secure: bool = setting(
        False,
        None,
        "TLS, a login and access control on every door; the first start makes what that needs.",
        has_flag=True,
    )
    access_control: bool = setting(
        False, None, "Deny what no access control entry allows, to all but super users.", has_flag=True
    )
    super_users: str = setting(
        "",
        "super.users",
        "Principals that may do everything: User:admin;User:bob, with semicolons.",
        has_flag=True,
        metavar="PRINCIPALS",
    )
    allow_everyone_if_no_acl_found: bool = setting(
        False,
        "allow.everyone.if.no.acl.found",
        "With access control: everybody may use a resource that no entry is about.",
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
        "loopback", None, "Addresses to push to: loopback, private, public, 10.1.0.0/16 …; with commas."
    )
    push_issuer: str | None = setting(
        None, None, "URL of the HTTP door for receivers of pushed events: the issuer of their tokens."
    )

    audit_file: str | None = setting(
        None, None, "File that gets the audit events too, a JSON object a line; only its owner may read it."
    )
    audit_retention_ms: int = setting(
        7_776_000_000, None, "How long the topic __mainstem_audit keeps events, ms; -1: for ever.", minimum=-1
    )

    connections_max_idle_ms: int = setting(
        600_000,
        "connections.max.idle.ms",
        "Close a connection that sends nothing for this time, ms.",
        minimum=1,
    )
    first_request_timeout_ms: int = setting(
        10_000,
        None,
        "Close a new connection that sends no request, or does not log in, in this time, ms.",
        minimum=1,
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
            values[name] = read(known[name], given, known[name].flag)
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
        yield name, read(known[name], value, f"{name} in {path}")


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
            yield name, read(definition, environ[variable], variable)


def _nearest(name: str, known: Mapping[str, object] | set[str]) -> str | None:
    import difflib  # only for a mistake

    close = difflib.get_close_matches(
        name.lower().replace("-", "_").replace(".", "_"), known, n=1, cutoff=0.75
    )
    return close[0] if close else None

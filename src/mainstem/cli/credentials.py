"""The options by which a command connects with TLS and logs in, for every command with `--at`.

Owns: `--ca`, `--cert`, `--cert-key`, `--user`, `--password-file`, `--token-file`, `--sasl-mechanism`,
`--client-config` and their MAINSTEM_* variables. Refuses: to know what follows from them, which
`mainstem.client_credentials` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mainstem.client_security import ClientSecurity

F = TypeVar("F", bound=Callable[..., Any])

META = "mainstem.credentials"
CONTEXT = "mainstem.context"
"""In `ctx.meta`: the options that are given, and those of the context that is named."""
DOOR_SCHEMES = ("http", "https")
"""What an address begins with that is not a cluster's, but that of an HTTP door."""
PREFIX = "credential_"
"""Of the parameters' names: a command may have an option of its own whose parameter is `user`."""
OPTIONS = {
    "ca": "File of the authorities that sign the server's certificate, PEM.",
    "cert": "File of the client's certificate, PEM.",
    "cert_key": "File of its key, PEM; if not given, the certificate's file has it.",
    "user": "Name of the user to log in as.",
    "password_file": "File with the user's password, mode 0600.",
    "token_file": "File with a token to log in with, mode 0600.",
    "sasl_mechanism": "SASL mechanism; by default SCRAM-SHA-512, or OAUTHBEARER for a token.",
    "client_config": "File of properties of a Kafka client, named as in Java or in librdkafka.",
}
"""The options, and their help. docs/CLI.md lists them once; the help of each command names them."""


def _keep(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value:
        assert param.name is not None
        ctx.meta.setdefault(META, {})[param.name.removeprefix(PREFIX)] = value


def credential_options(command: F) -> F:
    """Add the options to a command. They are no arguments of its function: `current_security` reads them."""
    for name, text in reversed(OPTIONS.items()):
        command = click.option(
            "--" + name.replace("_", "-"),
            PREFIX + name,
            envvar=f"MAINSTEM_{name.upper()}",
            help=text,
            hidden=True,
            expose_value=False,
            is_eager=True,  # --at asks for them
            callback=_keep,
        )(command)
    return command


def keep_protocol(ctx: click.Context, param: click.Parameter, address: str) -> str:
    """The callback of `--at`: take the security protocol off an address such as SASL_SSL://HOST:PORT, unless
    it is that of an HTTP door, https://HOST:PORT. Without --at, it is the address of the context or of the
    file of properties."""
    if ctx.get_parameter_source(param.name or "") is click.core.ParameterSource.DEFAULT:
        address = _configured_address(ctx) or address
    protocol, separator, rest = address.rpartition("://")
    if not separator:
        return address
    from mainstem.client_security import PROTOCOLS

    if protocol.lower() in DOOR_SCHEMES:
        ctx.meta.setdefault(META, {})["door"] = protocol.lower()
        return f"{protocol.lower()}://{rest.rstrip('/')}"
    if protocol.upper() not in PROTOCOLS:
        raise click.BadParameter(f"{protocol!r} is none of {', '.join(PROTOCOLS)}", ctx, param)
    ctx.meta.setdefault(META, {})["protocol"] = protocol.upper()
    return rest


def _configured_address(ctx: click.Context) -> str:
    from mainstem.client_credentials.given import configured_address
    from mainstem.client_security import ClientSecurityError

    try:
        return configured_address(given_credentials(ctx))
    except ClientSecurityError as error:
        raise click.UsageError(str(error)) from None


def keep_context(ctx: click.Context, _: click.Parameter, name: str | None) -> None:
    """The callback of `--context`: read what it has."""
    if name is None:
        return
    from mainstem.client_credentials.contexts import contexts_path, read_context
    from mainstem.client_security import ClientSecurityError

    try:
        ctx.meta[CONTEXT] = read_context(name, contexts_path(os.environ), OPTIONS)
    except ClientSecurityError as error:
        raise click.UsageError(str(error)) from None


def current_security() -> ClientSecurity:
    """The security of the connections of the command that runs. Raises UsageError."""
    from mainstem.client_credentials.given import security_of
    from mainstem.client_security import ClientSecurityError

    ctx = click.get_current_context(silent=True)
    try:
        return security_of({} if ctx is None else given_credentials(ctx))
    except ClientSecurityError as error:
        raise click.UsageError(str(error)) from None


def given_credentials(ctx: click.Context) -> dict[str, str]:
    """The options that are given, by name, and those of the context that is named."""
    return {**ctx.meta.get(CONTEXT, {}), **ctx.meta.get(META, {})}

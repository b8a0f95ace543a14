"""`mainstem serve`."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

import click

from mainstem.cli.exit_codes import ExitCode
from mainstem.settings import Settings, SettingsError, load, unknown_variables

FLAGS = (
    "data",
    "kafka",
    "advertise",
    "http",
    "no_http",
    "http_hosts",
    "http_read_only",
    "durability",
    "data_max_bytes",
    "allow_anonymous",
    "log_level",
    "log_json",
)
"""Settings that have a flag; the others are set in the file or by environment variables."""

_METAVARS = {
    "data": "DIR",
    "kafka": "HOST:PORT",
    "advertise": "HOST:PORT",
    "http": "HOST:PORT",
    "http_hosts": "NAMES",
    "data_max_bytes": "BYTES",
}
_NAMES = {"data_max_bytes": "--max-data"}
_CHOICES = {"durability": ("disk", "os"), "log_level": ("debug", "info", "warning", "error")}


def _with_settings(command: Any) -> Any:
    """An option for each of FLAGS, with the help and the default that `Settings` declares."""
    known = {each.name: each for each in fields(Settings)}
    for name in reversed(FLAGS):
        setting = known[name]
        text = setting.metadata["doc"]
        if isinstance(setting.default, str) and setting.default:
            text = f"{text}  [default: {setting.default}]"
        flag = _NAMES.get(name, "--" + name.replace("_", "-"))
        if setting.default is False:
            option = click.option(flag, name, is_flag=True, default=None, help=text)
        elif name in _CHOICES:
            option = click.option(flag, name, type=click.Choice(_CHOICES[name]), help=text)
        else:
            kind = int if isinstance(setting.default, int) else str
            option = click.option(flag, name, metavar=_METAVARS[name], type=kind, help=text)
        command = option(command)
    return command


@click.command("serve")
@_with_settings
@click.option(
    "--config", metavar="FILE", envvar="MAINSTEM_CONFIG", help="TOML file with settings (docs/SETTINGS.md)."
)
def command(config: str | None, **flags: object) -> int:
    """Run the server. Prints one line when it accepts clients; logs go to standard error.

    Every setting is also an environment variable, MAINSTEM_ and its name in capitals. A flag wins over the
    environment, the environment over the file.
    """
    from mainstem.cli.common import print_error

    try:
        settings = load(flags, os.environ, config)
    except SettingsError as error:
        print_error(str(error))
        return ExitCode.USAGE
    import logging

    from mainstem.serve import logs, server, systemd

    def ready(line: str) -> None:
        click.echo(line)
        systemd.notify(os.environ)

    logs.set_up(settings.log_level, as_json=settings.log_json)
    for line in unknown_variables(os.environ):
        logging.getLogger("mainstem.settings").warning("%s", line)
    try:
        server.run(settings, ready=ready)
    except server.CannotServe as error:
        print_error(str(error))
        codes = {
            "usage": ExitCode.USAGE,
            "refused": ExitCode.REFUSED,
            "address": ExitCode.ADDRESS,
            "folder": ExitCode.FOLDER,
            "locked": ExitCode.LOCKED,
        }
        return codes[error.reason]
    return ExitCode.DONE

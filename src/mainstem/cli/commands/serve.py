"""The command `mainstem serve`: runs the server."""

from __future__ import annotations

import os
from typing import Any

import click

from mainstem.cli.exit_codes import CANNOT_SERVE, ExitCode
from mainstem.serve import options
from mainstem.setting_definition import SettingDefinition, SettingsError
from mainstem.settings import REPLACED, replaced_message


def _with_settings(command: Any) -> Any:
    """Add to `command` an option for each setting that has a flag, with the setting's help and default."""
    for definition in reversed(options.definitions()):
        if definition.has_flag:
            command = _option(definition)(command)
    return command


def _option(definition: SettingDefinition) -> Any:
    text = definition.doc
    if definition.shown_default and definition.type not in (bool, int):
        text = f"{text}  [default: {definition.shown_default}]"
    flag, name = definition.flag, definition.name
    if definition.type is bool:
        return click.option(flag, name, is_flag=True, default=None, help=text)
    if definition.choices:
        return click.option(flag, name, type=click.Choice(definition.choices), help=text)
    kind = int if definition.type is int else str
    return click.option(flag, name, metavar=definition.metavar, type=kind, help=text)


class _ServeCommand(click.Command):
    """The command, which refuses a flag of an earlier version with an error that names its replacement."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for name, replacement in REPLACED.items():
            flag = "--" + name.replace("_", "-")
            if flag in args:
                raise click.UsageError(replaced_message(flag, replacement), ctx)
        return super().parse_args(ctx, args)


@click.command("serve", cls=_ServeCommand)
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
    from mainstem.cli.secure_line import say_secure

    try:
        settings = options.load(flags, os.environ, config)
    except SettingsError as error:
        print_error(str(error))
        return ExitCode.USAGE
    import logging

    from mainstem.serve import logs, server, systemd
    from mainstem.serve.errors import CannotServe

    def ready(line: str) -> None:
        click.echo(line)
        systemd.notify(os.environ)

    logs.set_up(settings.log_level, as_json=settings.log_json)
    for line in options.unknown_variables(os.environ):
        logging.getLogger("mainstem.settings").warning("%s", line)
    try:
        server.run(settings, ready=ready, on_secure=say_secure)
    except CannotServe as error:
        print_error(str(error))
        return CANNOT_SERVE[error.reason]
    return ExitCode.DONE

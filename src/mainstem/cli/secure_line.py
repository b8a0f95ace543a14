"""The line that `serve --secure` and `console --secure` print before the ready line.

Owns: when the password is in it. Refuses: to print one that an earlier start has made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mainstem.serve.secure import SecureSummary


def say_secure(secure: SecureSummary) -> None:
    """Print what --secure has set up; the password only on a terminal, and only when it was made."""
    from mainstem.cli.common import is_terminal

    shown = f" password={secure.new_password}" if secure.new_password and is_terminal() else ""
    click.echo(secure.line + shown)

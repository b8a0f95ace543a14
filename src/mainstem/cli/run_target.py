"""Finds the stream that `mainstem run MODULE:NAME` names.

Owns: the form of that name, and what is said if it leads nowhere. Refuses: to run it.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mainstem.api.stream import Stream


def load_stream(target: str) -> Stream:
    """The stream of MODULE:NAME, or of MODULE if its name is `stream`. Modules are also looked for in the
    present folder. UsageError: there is no such thing; an error inside the module is raised as it is."""
    from mainstem.api.stream import Stream

    module_name, _, name = target.partition(":")
    if module_name.endswith(".py") or "/" in module_name:
        module_path = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise click.UsageError(f"{target} is a file: name the module, {module_path}:{name or 'stream'}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        loaded: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise click.UsageError(f"there is no module {error.name} here, or where Python looks") from None
        raise
    except ValueError:
        raise click.UsageError(f"{target!r} is not MODULE:NAME") from None
    for part in (name or "stream").split("."):
        if not hasattr(loaded, part):
            raise click.UsageError(f"{module_name} has no {part}: name its stream, {module_name}:NAME")
        loaded = getattr(loaded, part)
    if not isinstance(loaded, Stream):
        raise click.UsageError(f"{target} is no stream of mainstem, but a {type(loaded).__name__}")
    if not loaded.subscribers and not loaded.services:
        raise click.UsageError(f"{target} has no subscribers")
    return loaded

"""Contexts: servers with a name, so that a command needs `--context NAME` instead of address and credentials.

Owns: the file `contexts.toml`, a table for each context with `at` and the names of the credential options.
Refuses: a file that others can read, and passwords in it: it has the paths of their files.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from mainstem.client_credentials.secret_files import check_private
from mainstem.client_security import ClientSecurityError

FILES = frozenset({"ca", "cert", "cert_key", "password_file", "token_file", "client_config"})
"""Names whose value is a path; one that is relative begins at the folder of the contexts."""


def contexts_path(environ: Mapping[str, str]) -> Path:
    """MAINSTEM_CONTEXTS, or `mainstem/contexts.toml` in the user's folder of settings."""
    if given := environ.get("MAINSTEM_CONTEXTS"):
        return Path(given)
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base) / "mainstem" / "contexts.toml"


def read_context(name: str, path: Path, known: Collection[str]) -> dict[str, str]:
    """The options that a context has, of those that are `known`. ClientSecurityError: there is
    none of this name, or the file cannot be used."""
    import tomllib

    check_private(str(path))
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ClientSecurityError(f"{path} is not TOML: {error}") from None
    context = table.get(name)
    if not isinstance(context, dict):
        names = ", ".join(sorted(table)) or "none"
        raise ClientSecurityError(f"{path} has no context {name}; there are: {names}")
    for key, value in context.items():
        if key != "at" and key not in known:
            raise ClientSecurityError(f"{path}: {name}.{key} is none of at, {', '.join(known)}")
        if not isinstance(value, str):
            raise ClientSecurityError(f"{path}: {name}.{key} is not text; put it in quotes")
    folder = path.absolute().parent
    return {key: str(folder / value) if key in FILES else value for key, value in context.items()}

"""The own folder of a console in front of a Kafka cluster: users, rights, masked fields, tokens, audit.

It is an ordinary data folder, of a node that no client reaches: `mainstem users --data`, `doctor`, `backup`
and `restore` work on it as on that of a server. Owns: when a console has such a folder, and what it puts in
front of the cluster's engine and search. Refuses: a console with logins or access control and without a
folder, and one that has the folder and no access control: what no entry allows is then denied.
"""

from __future__ import annotations

import dataclasses
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mainstem.doors.contract import Access
from mainstem.log import paths
from mainstem.serve.audit import open_audit
from mainstem.serve.authentication import ServerAuthentication
from mainstem.serve.errors import CannotServe
from mainstem.serve.private_files import tighten
from mainstem.serve.search import LazySearch, local_search
from mainstem.serve.server import access_of, data_folder, open_node

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mainstem.contract import Engine
    from mainstem.doors.contract import Listener
    from mainstem.node import Node
    from mainstem.search.contract import Search
    from mainstem.settings import Settings

log = logging.getLogger("mainstem.serve.console")


def folder_of(data: str | None, settings: Settings, *, has_logins: bool) -> Path | None:
    """The own folder, made if it is missing; None: the console has none, and everybody who reaches it may do
    what its account may in the cluster. `has_logins`: whether it listens at an address where clients log in.
    CannotServe: it needs one, and `data` names none, or one that cannot be used."""
    why = next((why for why, is_so in _reasons(settings, has_logins=has_logins) if is_so), None)
    if why is not None and data is None:
        raise CannotServe("usage", f"{why} needs --data DIR, the folder for users and their rights")
    if data is None or (why is None and not (Path(data) / paths.META).exists()):
        return None
    return data_folder(data)


def _reasons(settings: Settings, *, has_logins: bool) -> list[tuple[str, bool]]:
    return [
        ("--secure", settings.secure),
        ("--access-control", settings.access_control),
        ("an address where clients log in", has_logins),
        ("audit_file", settings.audit_file is not None),
    ]


def with_access_control(settings: Settings, folder: Path) -> Settings:
    """The settings of a console that has an own folder."""
    return dataclasses.replace(settings, access_control=True, data=str(folder))


class OwnFolder:
    """The folder, open. Created by `open`, in a running event loop."""

    def __init__(self, node: Node, folder: Path, settings: Settings, listeners: Sequence[Listener]) -> None:
        """CannotServe: the file of the audit cannot be used."""
        from mainstem.engines.embedded.engine import EmbeddedEngine

        self.node = node
        self.cluster_filters = folder / paths.CLUSTER_FILTERS
        """The folder of the token filters of the cluster."""
        self._engine = EmbeddedEngine(node)
        self._search = LazySearch(partial(local_search, self._engine, folder, node))
        secret = node.log.folder_id.bytes
        self._authentication = ServerAuthentication(settings, node.access, node.clock, secret)
        try:
            self.audit = open_audit(node, self._authentication, listeners)
        except BaseException:
            self._authentication.close()
            raise

    @classmethod
    async def open(cls, settings: Settings, folder: Path, listeners: Sequence[Listener]) -> OwnFolder:
        """Open it. CannotServe: it is in use, or cannot be used. Blocks while it reads."""
        tighten(folder)
        node = await open_node(settings, folder)
        try:
            opened = cls(node, folder, settings, listeners)
        except BaseException:
            await node.close()
            raise
        if not any(listener.security.authenticates for listener in listeners):
            log.warning(
                "this console has no login, so all who reach it are the same user, who may do what the"
                " entries in %s allow; --secure adds TLS and a login",
                folder,
            )
        return opened

    def access(self, *, is_read_only: bool) -> Access:
        """Who may do what, for the HTTP door."""
        return access_of(self.node, self._authentication, is_read_only=is_read_only)

    def engine(self, cluster: Engine) -> Engine:
        """The engine of the cluster, with the audit."""
        from mainstem.engines.with_audit import EngineWithAudit

        return EngineWithAudit(cluster, self._engine)

    def search(self, cluster: Callable[[], Search]) -> Callable[[], Search]:
        """The search of the cluster, with the audit."""
        from mainstem.engines.with_audit import SearchWithAudit

        search = SearchWithAudit(cluster, self._search.get)
        return lambda: search

    async def close(self) -> None:
        """Write what is left of the audit, and close the log cleanly."""
        try:
            await self._engine.close()
            await self._search.close()
            if self.audit is not None:
                await self.audit.close()
        finally:
            self._authentication.close()
            await self.node.close()

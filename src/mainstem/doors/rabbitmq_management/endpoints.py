"""All routes of the management API, and which one answers a path.

Owns: the list. Refuses: two routes for one method and path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote

from mainstem.doors.rabbitmq_management.request import ManagementRoute
from mainstem.doors.rabbitmq_management.routes import (
    bindings,
    connections,
    definitions,
    exchanges,
    health,
    messages,
    metrics,
    overview,
    policies,
    queues,
    users,
    vhosts,
)

ROUTES: tuple[ManagementRoute, ...] = (
    *overview.ROUTES,
    *vhosts.ROUTES,
    *exchanges.ROUTES,
    *queues.ROUTES,
    *messages.ROUTES,
    *bindings.ROUTES,
    *policies.ROUTES,
    *users.ROUTES,
    *connections.ROUTES,
    *definitions.ROUTES,
    *health.ROUTES,
    *metrics.ROUTES,
)


class ManagementRoutes:
    """Finds the routes of a path. Where several have its form, the one with more fixed parts is meant."""

    def __init__(self, routes: Iterable[ManagementRoute]) -> None:
        self._by_length: dict[int, list[tuple[Sequence[str], dict[str, ManagementRoute]]]] = {}
        for route in routes:
            parts = tuple(route.path.strip("/").split("/"))
            patterns = self._by_length.setdefault(len(parts), [])
            methods = next((methods for known, methods in patterns if known == parts), None)
            if methods is None:
                methods = {}
                patterns.append((parts, methods))
            assert route.method not in methods, f"{route.method} {route.path} is there twice"
            methods[route.method] = route
        for patterns in self._by_length.values():
            patterns.sort(key=lambda pattern: sum(part.startswith("{") for part in pattern[0]))

    def find(self, path: str) -> tuple[Mapping[str, ManagementRoute], dict[str, str]]:
        """The routes of a path below `/api`, by method, and the values of its names, decoded. There may be
        none. The path is as it was sent: a name may have an encoded slash."""
        parts = path.strip("/").split("/")
        for pattern, methods in self._by_length.get(len(parts), ()):
            values: dict[str, str] = {}
            for expected, part in zip(pattern, parts, strict=True):
                if expected.startswith("{"):
                    values[expected[1:-1]] = unquote(part, errors="surrogateescape")
                elif expected != part:
                    break
            else:
                return methods, values
        return {}, {}

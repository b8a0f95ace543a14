"""The routes, compared with what RabbitMQ documents."""

from __future__ import annotations

from mainstem.doors.rabbitmq_management.endpoints import ROUTES, ManagementRoutes
from tests.doors.rabbitmq_management.documented_paths import REASONS, documented, served


def test_what_rabbitmq_documents_is_served_or_has_a_reason() -> None:
    missing = {path for _, path in documented() - served()}
    assert {path for path in missing if not path.startswith(tuple(REASONS))} == set()
    assert {start for start in REASONS if not any(path.startswith(start) for path in missing)} == set()


def test_every_route_is_found_by_its_own_path() -> None:
    table = ManagementRoutes(ROUTES)
    for route in ROUTES:
        parts = ("x%2Fy" if part.startswith("{") else part for part in route.path.split("/"))
        methods, values = table.find("/".join(parts))
        assert methods[route.method] is route
        assert set(values.values()) <= {"x/y"}


def test_fixed_parts_come_before_names() -> None:
    methods, values = ManagementRoutes(ROUTES).find("/users/without-permissions")
    assert (methods["GET"].path, values) == ("/users/without-permissions", {})
    assert ManagementRoutes(ROUTES).find("/queues/a/b/c/d/e") == ({}, {})

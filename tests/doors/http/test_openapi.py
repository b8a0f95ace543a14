"""The OpenAPI document, the routes and docs/HTTP.md agree."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from starlette.routing import Route, Router

from mainstem.doors import DOORS
from mainstem.doors.http.endpoints import ENDPOINTS
from mainstem.doors.http.openapi import document, kinds_of, path_of
from mainstem.doors.http.routes.metrics import METRICS
from mainstem.http_api.problems import KINDS
from tests.doors.http.door_kit import RunningHttpDoor

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "HTTP.md").read_text()


def declared_operations() -> set[tuple[str, str]]:
    return {(endpoint.method.lower(), path_of(endpoint)) for endpoint in ENDPOINTS}


def test_every_route_is_in_the_document_and_nothing_else(door: RunningHttpDoor) -> None:
    served = door.http.get("/openapi.json").json()
    assert served == json.loads(json.dumps(document(ENDPOINTS, "1.2.3")))
    documented = {(method, path) for path, methods in served["paths"].items() for method in methods}
    assert documented == declared_operations()
    guard: Any = door.door.app
    router = guard._app._app
    assert isinstance(router, Router)
    routed = {
        (method.lower(), re.sub(r":\w+}", "}", route.path))
        for route in router.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert routed == documented | {("get", "/"), ("get", "/static/{path}")}


def test_the_document_is_complete() -> None:
    made = document(ENDPOINTS, "1")
    text = json.dumps(made)
    for name in re.findall(r'"#/components/schemas/([^"]+)"', text):
        assert name in made["components"]["schemas"]
    operations = [operation for methods in made["paths"].values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"]
        assert {str(KINDS["failed"].status), "403"} <= set(operation["responses"])


def test_every_kind_of_problem_is_used_and_every_route_names_known_ones() -> None:
    used = {kind for endpoint in ENDPOINTS for kind in kinds_of(endpoint)}
    assert used <= set(KINDS)
    assert set(KINDS) - used <= {"not-found", "unknown-user"}


def test_the_page_lists_exactly_the_routes() -> None:
    named = {(method.lower(), path) for method, path in re.findall(r"`([A-Z]+) (/[^`\s]*)`", PAGE)}
    assert named - {("get", "/")} == declared_operations()


def test_the_dashboard_draws_only_declared_metrics() -> None:
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    drawn = set(re.findall(r"\b(?:kafka|mainstem|process)_\w+", json.dumps(dashboard)))
    assert drawn
    assert drawn <= set(METRICS).union(*(door.metrics for door in DOORS))

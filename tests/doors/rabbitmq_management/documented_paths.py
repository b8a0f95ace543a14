"""The methods and paths that RabbitMQ 3.10 documents for its management API, and the tables in
docs/RABBITMQ.md that compare them with the routes of the door."""

from __future__ import annotations

import inspect

from mainstem.doors.rabbitmq_management.app import METRICS
from mainstem.doors.rabbitmq_management.endpoints import ROUTES

DOCUMENTED = """
GET /overview
GET PUT /cluster-name
GET /nodes
GET /nodes/{}
GET /extensions
GET POST /definitions
GET POST /definitions/{}
GET /connections
GET /vhosts/{}/connections
GET DELETE /connections/{}
GET DELETE /connections/username/{}
GET /connections/{}/channels
GET /channels
GET /vhosts/{}/channels
GET /channels/{}
GET /consumers
GET /consumers/{}
GET /exchanges
GET /exchanges/{}
GET PUT DELETE /exchanges/{}/{}
GET /exchanges/{}/{}/bindings/source
GET /exchanges/{}/{}/bindings/destination
POST /exchanges/{}/{}/publish
GET /queues
GET /queues/{}
GET PUT DELETE /queues/{}/{}
GET /queues/{}/{}/bindings
DELETE /queues/{}/{}/contents
POST /queues/{}/{}/actions
POST /queues/{}/{}/get
GET /bindings
GET /bindings/{}
GET POST /bindings/{}/e/{}/q/{}
GET DELETE /bindings/{}/e/{}/q/{}/{}
GET POST /bindings/{}/e/{}/e/{}
GET DELETE /bindings/{}/e/{}/e/{}/{}
GET /vhosts
GET PUT DELETE /vhosts/{}
GET /vhosts/{}/permissions
GET /vhosts/{}/topic-permissions
POST /vhosts/{}/start/{}
GET /users
GET /users/without-permissions
POST /users/bulk-delete
GET PUT DELETE /users/{}
GET /users/{}/permissions
GET /users/{}/topic-permissions
GET /user-limits
GET /user-limits/{}
PUT DELETE /user-limits/{}/{}
GET /whoami
GET /permissions
GET PUT DELETE /permissions/{}/{}
GET /topic-permissions
GET PUT DELETE /topic-permissions/{}/{}
GET /parameters
GET /parameters/{}
GET /parameters/{}/{}
GET PUT DELETE /parameters/{}/{}/{}
GET /global-parameters
GET PUT DELETE /global-parameters/{}
GET /policies
GET /policies/{}
GET PUT DELETE /policies/{}/{}
GET /operator-policies
GET /operator-policies/{}
GET PUT DELETE /operator-policies/{}/{}
GET /aliveness-test/{}
GET /health/checks/alarms
GET /health/checks/local-alarms
GET /health/checks/certificate-expiration/{}/{}
GET /health/checks/port-listener/{}
GET /health/checks/protocol-listener/{}
GET /health/checks/virtual-hosts
GET /health/checks/node-is-mirror-sync-critical
GET /health/checks/node-is-quorum-critical
GET /vhost-limits
GET /vhost-limits/{}
PUT DELETE /vhost-limits/{}/{}
GET /auth
POST /rebalance/queues
GET /federation-links
GET /federation-links/{}
GET DELETE /auth/attempts/{}
GET DELETE /auth/attempts/{}/source
"""
REASONS = {
    "/cluster-name": "a server is no cluster",
    "/vhosts/": "virtual hosts do not stop",
    "/user-limits": "quotas are those of `mainstem quotas`",
    "/topic-permissions": "there are none",
    "/parameters": "operator policies have their own paths; there are no plugins with parameters",
    "/global-parameters": "there are none",
    "/vhost-limits": "there are none",
    "/federation-links": "there is no federation",
    "/auth/attempts": "`/metrics` counts logins",
}
"""Beginning of a path -> why some of it is not served."""


def _form(path: str) -> str:
    """The path with its names left out."""
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


def documented() -> set[tuple[str, str]]:
    """Each method with its path, without names."""
    return {
        (method, words[-1])
        for words in (line.split() for line in DOCUMENTED.split("\n") if line)
        for method in words[:-1]
    }


def served() -> set[tuple[str, str]]:
    """The routes of the door, in the same form."""
    return {(route.method, _form(route.path)) for route in ROUTES}


def management_table() -> str:
    """All routes, and how much each of them is RabbitMQ's."""
    rows = [
        f"| {route.method} | `{'' if route.path in METRICS else '/api'}{route.path}` | "
        f"{_first_sentence(route.handle)} | "
        f"{'partial: without ' + route.lacks if route.lacks else 'full'} |"
        for route in ROUTES
    ]
    return "\n".join(["| method | path | what | support |", "|---|---|---|---|", *rows])


def _first_sentence(function: object) -> str:
    text = " ".join((inspect.getdoc(function) or "").split())
    return text.split(". ")[0].rstrip(".")


def missing_table() -> str:
    """What RabbitMQ 3.10 has and the door has not."""
    rows = []
    for method, path in sorted(documented() - served(), key=lambda entry: (entry[1], entry[0])):
        reason = next(reason for start, reason in REASONS.items() if path.startswith(start))
        rows.append(f"| {method} | `/api{path.replace('{}', '…')}` | none: {reason} |")
    return "\n".join(["| method | path | support |", "|---|---|---|", *rows])

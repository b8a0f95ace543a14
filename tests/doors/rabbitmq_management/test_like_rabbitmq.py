"""The same requests as were sent to RabbitMQ 3.10.8, whose answers are in rabbitmq_310.json: their status,
what errors say, the members of objects, and where what was created is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.doors.rabbitmq_management.management_kit import ApiClient, with_server

ANSWERS = Path(__file__).parent / "rabbitmq_310.json"
OTHER = {
    "PUT /exchanges/%2F/bad": "without a type RabbitMQ 3.10 kept a topology of an earlier run",
    "PUT /exchanges/nohost/orders": "the error of a path with an unknown virtual host",
    "POST /queues/%2F/billing/get": "an unknown ackmode is 400, and 500 in RabbitMQ",
    "POST /queues/%2F/none/get": "the error of a path with an unknown queue",
    "PUT /policies/%2F/limit2": "other words for what is wrong with a policy",
    "PUT /topic-permissions/%2F/alice": "there are no topic permissions",
    "DELETE /queues/%2F/billing?if-unused=true": "RabbitMQ had a consumer then",
}
"""Request -> why it is answered in another way. Where the status is 400 in both, only the words differ."""
LEFT_OUT = {
    "/auth": {"uaa_location"},
    "/exchanges": {"message_stats", "user_who_performed_action"},
    "/overview": {"release_series_support_status", "sample_retention_policies"},
    "/vhosts": {"message_stats", "recv_oct", "recv_oct_details", "send_oct", "send_oct_details"},
}
"""Members that are not there, by the beginning of the path. Those of queues and nodes are in `has_member`."""
OF_RABBITMQS_STORE = ("backing_queue", "garbage_", "memory", "message_bytes", "reductions", "recoverable")
OF_QUEUES = {
    *("consumer_capacity", "consumer_utilisation", "exclusive_consumer_tag", "idle_since"),
    *("messages_paged_out", "messages_persistent", "messages_ram", "messages_ready_ram"),
    *("messages_unacknowledged_ram", "single_active_consumer_tag"),
}


def has_member(path: str, name: str) -> bool:
    """Whether the member of an object at this path is one that the door has."""
    if path.startswith("/nodes"):
        return name in ("name", "running", "type", "partitions", "mem_alarm", "disk_free_alarm", "processors")
    if path.startswith("/queues"):
        return name not in OF_QUEUES and not name.startswith(OF_RABBITMQS_STORE)
    return not any(path.startswith(start) and name in names for start, names in LEFT_OUT.items())


def first_object(value: Any) -> dict[str, Any]:
    """The object, or the first one of a list."""
    if isinstance(value, list):
        value = value[0] if value else {}
    return value if isinstance(value, dict) else {}


def test_it_answers_as_rabbitmq_does(tmp_path: Path) -> None:
    entries = json.loads(ANSWERS.read_text())
    assert {entry["request"] for entry in entries} >= OTHER.keys()

    async def scenario(api: ApiClient) -> None:
        differences: list[tuple[object, ...]] = []
        for entry in entries:
            request = entry["request"]
            method, path = request.split(" ", 1)
            response = await api.ask(method, path, entry.get("body"))
            differs = response.status_code != entry["status"]
            if "answer" in entry and not differs:
                differs = response.json() != entry["answer"]
            if differs and request not in OTHER:
                differences.append((request, entry["status"], response.status_code, response.text))
            wanted = {name for name in entry.get("keys", ()) if has_member(path, name)}
            if not differs and wanted and (given := first_object(response.json())):
                differences += [(request, name) for name in wanted - given.keys()]
            if "location" in entry and response.headers.get("location") != entry["location"]:
                differences.append((request, "location", response.headers.get("location")))
        assert differences == []

    with_server(tmp_path, scenario)

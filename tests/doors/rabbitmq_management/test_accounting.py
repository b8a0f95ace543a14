"""What is kept of changes by the management API, and quotas of messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from mainstem.quota_contract import DEFAULT, QuotaEntity, QuotaKey
from tests.doors.rabbitmq_management.management_kit import ApiClient, with_server

QUEUE = "/queues/%2F/billing"


def test_changes_are_lines_of_the_audit_and_messages_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(api: ApiClient) -> None:
        await api.change("PUT", QUEUE, {"durable": True}, 201)
        await api.change("PUT", QUEUE, {"durable": False}, 400)
        await api.get(QUEUE)
        message = {
            "routing_key": "billing",
            "payload": "secret",
            "payload_encoding": "string",
            "properties": {},
        }
        await api.change("POST", "/exchanges/%2F/amq.default/publish", message, 200)
        await api.change("DELETE", QUEUE)

    with caplog.at_level("INFO", "mainstem.audit"):
        with_server(tmp_path, scenario)
    lines = [line for line in caplog.messages if "rabbitmq" in line]
    assert [line.partition(" peer=")[0] for line in lines] == [
        'action="rabbitmq PUT /queues/{vhost}/{queue}"',
        'action="rabbitmq PUT /queues/{vhost}/{queue}"',
        'action="rabbitmq DELETE /queues/{vhost}/{queue}"',
    ]
    assert lines[0].endswith('vhost="/" queue=billing outcome=done')
    assert "outcome=refused why=" in lines[1]
    assert "secret" not in caplog.text


def test_messages_beyond_a_quota_are_refused(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        await api.change("PUT", QUEUE, {"durable": True}, 201)
        quotas = api.running.node.quotas
        await quotas.alter(QuotaEntity(user=DEFAULT), {QuotaKey.PRODUCE: 10.0, QuotaKey.FETCH: 10.0})
        path = "/exchanges/%2F/amq.default/publish"
        message = {
            "routing_key": "billing",
            "payload": "x" * 500,
            "payload_encoding": "string",
            "properties": {},
        }
        await api.change("POST", path, message, 200)
        refused = await api.change("POST", path, message, 429)
        assert refused.json()["error"] == "too_many_requests"
        assert int(refused.headers["retry-after"]) >= 1
        wanted = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
        (taken,) = (await api.change("POST", QUEUE + "/get", wanted, 200)).json()
        assert taken["payload_bytes"] == 500
        await api.change("POST", QUEUE + "/get", wanted, 429)
        await api.change("DELETE", QUEUE)

    with_server(tmp_path, scenario)

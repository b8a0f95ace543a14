"""The door as a server has it: its addresses, health, connections, and bad requests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import httpx

from mainstem.amqp.connections import ChannelConsumer, ChannelInfo, ConnectionInfo
from tests.doors.rabbitmq_management.management_kit import ApiClient, with_server

NAME = "127.0.0.1:40112 -> 127.0.0.1:5672"


class BillingClient:
    """A connection with a channel and a consumer."""

    def __init__(self, vhost: str = "/") -> None:
        self.reasons: list[str] = []
        self._vhost = vhost

    def info(self) -> ConnectionInfo:
        return ConnectionInfo(
            name=NAME,
            peer_host="127.0.0.1",
            peer_port=40_112,
            host="127.0.0.1",
            port=5672,
            user="guest",
            vhost=self._vhost,
            protocol="AMQP 0-9-1",
            auth_mechanism="PLAIN",
            connected_at_ms=1_700_000_000_000,
            channels=1,
            client_properties={"connection_name": "billing", "capabilities": {"basic.nack": True}},
        )

    def channels(self) -> Sequence[ChannelInfo]:
        return [ChannelInfo(number=1, consumers=1, unacked=2, prefetch_count=10)]

    def consumers(self) -> Sequence[ChannelConsumer]:
        return [ChannelConsumer(channel=1, queue="billing", tag="ctag1", arguments={"x-priority": 3})]

    def close(self, reason: str) -> None:
        self.reasons.append(reason)


def test_connections_are_listed_and_closed(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        await api.change("PUT", "/queues/%2F/billing", {}, 201)
        broker = await api.running.broker()
        client = BillingClient()
        broker.connections.add(client)
        (connection,) = await api.get("/connections")
        assert (connection["name"], connection["user_provided_name"]) == (NAME, "billing")
        (channel,) = await api.get("/channels")
        assert (channel["name"], channel["messages_unacknowledged"]) == (f"{NAME} (1)", 2)
        path = f"/connections/{quote(NAME, safe='')}"
        assert await api.get(path) == connection
        assert await api.get(f"{path}/channels") == [channel]
        (consumer,) = await api.get("/consumers/%2F")
        assert (consumer["consumer_tag"], consumer["queue"]["name"]) == ("ctag1", "billing")
        assert (await api.get("/queues/%2F/billing"))["consumer_details"] == [consumer]
        details = await api.get(f"/channels/{quote(NAME + ' (1)', safe='')}")
        assert details["consumer_details"] == [consumer]
        response = await api.ask("DELETE", path, headers={"x-reason": "maintenance"})
        assert (response.status_code, client.reasons) == (204, ["maintenance"])
        broker.connections.remove(client)
        await api.change("DELETE", path, status=404)

    with_server(tmp_path, scenario)


def test_overview_nodes_and_health(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        overview = await api.get("/overview")
        assert (overview["rabbitmq_version"], overview["product_name"]) == ("4.3.0", "mainstem")
        assert overview["object_totals"]["queues"] == 0
        (address,) = api.running.addresses["rabbitmq_management"]
        assert {"protocol": "http", "port": address.port}.items() <= overview["listeners"][-1].items()
        (node,) = await api.get("/nodes")
        assert await api.get(f"/nodes/{node['name']}") | {"disk_free": 0} == node | {"disk_free": 0}
        assert await api.get("/whoami") == {"name": "guest", "tags": ["administrator"]}
        assert await api.get("/healthchecks/node") == {"status": "ok"}
        assert await api.get(f"/health/checks/port-listener/{address.port}")
        assert (await api.get("/health/checks/port-listener/1", 503))["missing"] == 1
        assert (await api.get("/health/checks/protocol-listener/http"))["status"] == "ok"
        assert (await api.get("/health/checks/protocol-listener/mqtt", 503))["missing"] == "mqtt"
        assert await api.get("/health/checks/certificate-expiration/1/weeks") == {"status": "ok"}
        assert await api.get("/aliveness-test/%2F") == {"status": "ok"}
        await api.get("/aliveness-test/nowhere", 404)

    with_server(tmp_path, scenario)


def test_a_virtual_host_goes_with_its_queues_and_connections(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        await api.change("PUT", "/vhosts/shop", status=201)
        await api.change("PUT", "/queues/shop/billing", {}, 201)
        taken = {"queues": [{"name": "invoices", "durable": True}]}
        await api.change("POST", "/definitions/shop", taken)
        document = await api.get("/definitions/shop")
        assert [queue["name"] for queue in document["queues"]] == ["billing", "invoices"]
        assert "vhost" not in document["queues"][0]
        client = BillingClient(vhost="shop")
        broker = await api.running.broker()
        broker.connections.add(client)
        await api.change("DELETE", "/vhosts/shop")
        assert client.reasons == ["vhost 'shop' is deleted"]
        await api.get("/queues/shop", 404)
        await api.change("PUT", "/vhosts/shop", status=201)
        assert await api.get("/queues/shop") == []

    with_server(tmp_path, scenario)


def test_figures_for_prometheus(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        await api.change("PUT", "/queues/%2F/bill%22ing", {}, 201)
        message = {"properties": {}, "routing_key": 'bill"ing', "payload": "1", "payload_encoding": "string"}
        await api.change("POST", "/exchanges/%2F/amq.default/publish", message, 200)
        (address,) = api.running.addresses["rabbitmq_management"]
        sums = await api.ask("GET", f"http://{address}/metrics")
        assert sums.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = sums.text.splitlines()
        assert "# TYPE rabbitmq_queue_messages_ready gauge" in lines
        assert {"rabbitmq_queues 1", "rabbitmq_queue_messages_ready 1", "rabbitmq_connections 0"} <= {*lines}
        per_queue = (await api.ask("GET", f"http://{address}/metrics/per-object")).text.splitlines()
        assert 'rabbitmq_queue_messages{vhost="/",queue="bill\\"ing"} 1' in per_queue
        await api.get("/metrics", 404)

    with_server(tmp_path, scenario)


def test_bad_requests_are_answered_in_json(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        missing = await api.get("/nothing", 404)
        assert missing == {"error": "Object Not Found", "reason": "Not Found"}
        allowed = await api.ask("PATCH", "/queues")
        assert (allowed.status_code, allowed.headers["allow"]) == (405, "GET, OPTIONS")
        for body in (b"{bad", b"[1]", b"\xff", b'{"a":' * 200 + b"1" + b"}" * 200):
            response = await api.http.put("/queues/%2F/billing", content=body)
            assert (response.status_code, response.json()["reason"]) == (400, "not_json"), body
        huge = await api.http.put("/queues/%2F/billing", content=b" " * (1 << 20) + b"{}")
        assert huge.status_code == 413
        refused = await api.change("PUT", "/queues/%2F/billing", {"durable": "maybe"}, 400)
        assert refused.json()["reason"] == ["not_boolean", "maybe"]
        get = await api.change("POST", "/exchanges/%2F/amq.direct/publish", {"payload": ""}, 400)
        assert get.json()["reason"].startswith("[{key_missing,properties},{key_missing,routing_key}")
        other_site = await api.ask(
            "PUT", "/queues/%2F/billing", {}, headers={"origin": "http://evil.example"}
        )
        assert other_site.status_code == 403
        rebound = await api.ask("GET", "/queues", headers={"host": "evil.example"})
        assert rebound.status_code == 403

    with_server(tmp_path, scenario)


def test_what_is_no_http_gets_an_error_and_its_end(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        (address,) = api.running.addresses["rabbitmq_management"]
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET /api\x00 nonsense\r\n\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'{"error":"bad_request"' in answer
        writer.close()

    with_server(tmp_path, scenario)


def test_the_http_door_has_it_too_and_refuses_changes_if_it_is_read_only(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        (address,) = api.running.addresses["http"]
        async with httpx.AsyncClient(base_url=f"http://{address}/rabbitmq/api", trust_env=False) as http:
            assert [item["name"] for item in (await http.get("/vhosts")).json()] == ["/"]
            refused = await http.put("/queues/%2F/billing", json={})
            assert (refused.status_code, refused.json()["error"]) == (403, "read_only")
        await api.change("PUT", "/queues/%2F/billing", {}, 201)

    with_server(tmp_path, scenario, http_read_only=True)

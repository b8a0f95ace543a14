"""What is declared by the management API: virtual hosts, exchanges, queues, bindings, policies, messages."""

from __future__ import annotations

from pathlib import Path

from tests.doors.rabbitmq_management.management_kit import ApiClient, with_server

POLICY = {"pattern": ".*", "definition": {"expires": 9_000}}


def test_a_message_goes_from_an_exchange_to_a_queue_and_is_taken(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        await api.change("PUT", "/exchanges/%2F/orders", {"type": "topic"}, 201)
        await api.change("PUT", "/exchanges/%2F/orders", {"type": "topic"}, 204)
        await api.change("PUT", "/queues/%2F/billing", {"durable": True}, 201)
        path = "/bindings/%2F/e/orders/q/billing"
        bound = await api.change("POST", path, {"routing_key": "orders.*.paid"}, 201)
        assert bound.headers["location"] == "billing/orders.%252A.paid"
        message = {
            "properties": {"delivery_mode": 2, "headers": {"currency": "EUR"}},
            "routing_key": "orders.7.paid",
            "payload": "12.50",
            "payload_encoding": "string",
        }
        published = await api.change("POST", "/exchanges/%2F/orders/publish", message, 200)
        assert published.json() == {"routed": True}
        other = await api.change(
            "POST", "/exchanges/%2F/orders/publish", message | {"routing_key": "orders.7.sent"}, 200
        )
        assert other.json() == {"routed": False}
        taking = {"count": 5, "ackmode": "ack_requeue_true", "encoding": "auto"}
        (first,) = (await api.change("POST", "/queues/%2F/billing/get", taking, 200)).json()
        assert first == {
            "payload_bytes": 5,
            "redelivered": False,
            "exchange": "orders",
            "routing_key": "orders.7.paid",
            "message_count": 0,
            "properties": {"headers": {"currency": "EUR"}, "delivery_mode": 2},
            "payload": "12.50",
            "payload_encoding": "string",
        }
        taking |= {"ackmode": "ack_requeue_false", "encoding": "base64", "truncate": 2}
        (again,) = (await api.change("POST", "/queues/%2F/billing/get", taking, 200)).json()
        assert (again["redelivered"], again["payload"], again["payload_encoding"]) == (True, "MTI=", "base64")
        assert (await api.change("POST", "/queues/%2F/billing/get", taking, 200)).json() == []
        queue = await api.get("/queues/%2F/billing")
        assert (queue["messages"], queue["type"], queue["message_stats"]["ack"]) == (0, "classic", 1)
        await api.change("DELETE", "/queues/%2F/billing")
        await api.get("/queues/%2F/billing", 404)

    with_server(tmp_path, scenario)


def test_bindings_are_named_by_their_key_and_arguments(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        await api.change("PUT", "/exchanges/%2F/orders", {"type": "topic"}, 201)
        await api.change("PUT", "/exchanges/%2F/audit", {"type": "fanout", "internal": True}, 201)
        await api.change("PUT", "/queues/%2F/billing", {}, 201)
        path = "/bindings/%2F/e/orders/q/billing"
        await api.change("POST", path, {"routing_key": "orders.#"}, 201)
        await api.change("POST", path, {"routing_key": "orders.#", "arguments": {"region": "eu"}}, 201)
        await api.change("POST", "/bindings/%2F/e/orders/e/audit", {"routing_key": ""}, 201)
        keys = [item["properties_key"] for item in await api.get(path)]
        assert len(set(keys)) == 2
        with_arguments = next(key for key in keys if "~" in key)
        assert with_arguments.startswith("orders.%23~")
        assert (await api.get(f"{path}/{with_arguments}"))["arguments"] == {"region": "eu"}
        (to_audit,) = await api.get("/exchanges/%2F/audit/bindings/destination")
        assert (to_audit["destination_type"], to_audit["properties_key"]) == ("exchange", "~")
        await api.change("DELETE", f"{path}/{with_arguments}")
        await api.get(f"{path}/{with_arguments}", 404)
        sources = {item["source"] for item in await api.get("/queues/%2F/billing/bindings")}
        assert sources == {"", "orders"}

    with_server(tmp_path, scenario)


def test_lists_have_pages_filters_orders_and_columns(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        for name in ("billing", "invoices", "shipping"):
            await api.change("PUT", f"/queues/%2F/{name}", {}, 201)
        page = await api.get("/queues?page=2&page_size=2&columns=name,arguments")
        assert page["items"] == [{"name": "shipping", "arguments": {}}]
        assert (page["page_count"], page["total_count"], page["filtered_count"]) == (2, 3, 3)
        keda = "/queues?page=1&use_regex=true&pagination=false&name=%5E.*ing%24&page_size=100"
        assert [item["name"] for item in (await api.get(keda))["items"]] == ["billing", "shipping"]
        names = await api.get("/queues?sort=name&sort_reverse=true&columns=name")
        assert names == [{"name": "shipping"}, {"name": "invoices"}, {"name": "billing"}]
        assert (await api.get("/queues?page=9&page_size=2", 400))["error"] == "page_out_of_range"
        await api.get("/queues?page=1&page_size=100&name=%28&use_regex=true", 400)
        await api.get("/queues?page=0", 400)

    with_server(tmp_path, scenario)


def test_a_policy_is_shown_at_the_queues_it_applies_to(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        await api.change("PUT", "/queues/%2F/billing", {}, 201)
        policy = {"pattern": "^bill", "definition": {"max-length": 10}, "apply-to": "queues", "priority": 2}
        await api.change("PUT", "/policies/%2F/short", policy, 201)
        await api.change("PUT", "/policies/%2F/short", policy, 204)
        assert await api.get("/policies/%2F/short") == {"vhost": "/", "name": "short", **policy}
        queue = await api.get("/queues/%2F/billing")
        assert (queue["policy"], queue["effective_policy_definition"]) == ("short", {"max-length": 10})
        await api.change("PUT", "/policies/%2F/wrong", {"pattern": "(", "definition": {"max-length": 1}}, 400)
        await api.change("PUT", "/policies/%2F/wrong", {"definition": {"max-length": 1}}, 400)
        await api.change("PUT", "/operator-policies/%2F/cap", policy, 201)
        await api.change("DELETE", "/policies/%2F/short")
        await api.change("DELETE", "/policies/%2F/short", status=404)
        queue = await api.get("/queues/%2F/billing")
        assert (queue["policy"], queue["operator_policy"]) == (None, "cap")

    with_server(tmp_path, scenario)


def test_definitions_of_a_server_are_those_of_another_one(tmp_path: Path) -> None:
    taken = {}

    async def export(api: ApiClient) -> None:
        await api.change("PUT", "/vhosts/shop", status=201)
        await api.change("PUT", "/exchanges/shop/orders", {"type": "topic"}, 201)
        await api.change("PUT", "/queues/shop/billing", {"arguments": {"x-max-length": 9}}, 201)
        await api.change("POST", "/bindings/shop/e/orders/q/billing", {"routing_key": "#"}, 201)
        await api.change(
            "PUT", "/policies/shop/all", {"pattern": ".*", "definition": {"expires": 9_000}}, 201
        )
        taken.update(await api.get("/definitions"))

    with_server(tmp_path / "one", export)

    async def take(api: ApiClient) -> None:
        document = taken | {
            "users": [{"name": "alice", "password_hash": "kI3GCqW5", "tags": ["management"]}],
            "parameters": [{"component": "shovel", "vhost": "/", "name": "s", "value": {}}],
        }
        dry = (await api.change("POST", "/definitions?dry_run=true", document, 200)).json()
        assert dry["taken"] == {
            "vhosts": 2,
            "permissions": 2,
            "policies": 1,
            "queues": 1,
            "exchanges": 1,
            "bindings": 1,
        }
        assert [item["part"] for item in dry["skipped"]] == ["users", "parameters"]
        assert [item["name"] for item in await api.get("/vhosts")] == ["/"]
        await api.change("POST", "/definitions", document)
        again = await api.get("/definitions")
        for part in ("vhosts", "policies", "queues", "exchanges", "bindings"):
            assert again[part] == taken[part], part
        unknown = {"queues": [{"name": "q", "vhost": "nowhere", "durable": True}]}
        refused = await api.change("POST", "/definitions", unknown, 400)
        assert refused.json()["reason"] == ["no_such_vhost", "nowhere"]

    with_server(tmp_path / "other", take)


def test_a_message_is_published_to_a_topic(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        engine = api.running.engine
        message = {"properties": {}, "routing_key": "LH 454", "payload": "B 22", "payload_encoding": "string"}
        path = "/exchanges/%2F/kafka.flights/publish"
        await api.change("POST", path, message, 404)
        await engine.create_topic("flights", partitions=1)
        published = await api.change("POST", path, message, 200)
        assert published.json() == {"routed": True}
        assert (await engine.bounds("flights", 0)).end == 1
        assert [topic.name for topic in await engine.topics()] == ["flights"]

    with_server(tmp_path, scenario)

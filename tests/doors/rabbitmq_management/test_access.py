"""The door where clients have to log in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.doors.rabbitmq_management.management_kit import ApiClient, with_server
from tests.doors.rabbitmq_management.test_server import NAME, BillingClient
from tests.support.certificates import client_context, server_files

ACCESS = {
    "access_control": True,
    "super_users": "User:ANONYMOUS",
    "rabbitmq_management": "SASL_PLAINTEXT://127.0.0.1:0",
}


@asynccontextmanager
async def admin_and_alice(api: ApiClient) -> AsyncIterator[tuple[ApiClient, ApiClient]]:
    """A client without a login, who may do everything, and one with alice's, whom the test adds."""
    (http,) = api.running.addresses["http"]
    (own,) = api.running.addresses["rabbitmq_management"]
    async with (
        httpx.AsyncClient(base_url=f"http://{http}/rabbitmq/api", trust_env=False) as anonymous,
        httpx.AsyncClient(
            base_url=f"http://{own}/api", auth=("alice", "secret"), trust_env=False
        ) as as_alice,
    ):
        yield ApiClient(api.running, anonymous), ApiClient(api.running, as_alice)


def test_users_see_and_do_what_their_permissions_allow(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        async with admin_and_alice(api) as (admin, alice):
            await admin.change("PUT", "/users/alice", {"password_hash": "kI3GCqW5", "tags": ""}, 400)
            await admin.change("PUT", "/users/alice", {"password": "secret", "tags": "management"}, 201)
            assert (await admin.get("/users/alice"))["tags"] == ["management"]
            assert [user["name"] for user in await admin.get("/users/without-permissions")] == ["alice"]
            permissions = {"configure": "^alice\\-.*", "write": ".*", "read": "^alice\\-.*"}
            await admin.change("PUT", "/permissions/%2F/bob", permissions, 400)
            await admin.change("PUT", "/permissions/%2F/alice", {**permissions, "read": "[a-z]"}, 400)
            await admin.change("PUT", "/permissions/%2F/alice", permissions, 201)
            assert await admin.get("/permissions/%2F/alice") == {"user": "alice", "vhost": "/", **permissions}
            await admin.change("PUT", "/vhosts/shop", status=201)

            assert await alice.get("/whoami") == {"name": "alice", "tags": ["management"]}
            assert [vhost["name"] for vhost in await alice.get("/vhosts")] == ["/"]
            await alice.get("/queues/shop", 404)
            await alice.change("PUT", "/queues/%2F/billing", {}, 401)
            await alice.change("PUT", "/queues/%2F/alice-1", {}, 201)
            await admin.change("PUT", "/queues/%2F/billing", {}, 201)
            publishing = {
                "properties": {},
                "routing_key": "billing",
                "payload": "1",
                "payload_encoding": "string",
            }
            published = await alice.change("POST", "/exchanges/%2F/amq.default/publish", publishing, 200)
            assert published.json() == {"routed": True}
            taking = {"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"}
            await alice.change("POST", "/queues/%2F/billing/get", taking, 401)
            await alice.change("POST", "/queues/%2F/alice-1/get", taking, 200)
            for path in ("/users", "/nodes", "/definitions"):
                refused = await alice.get(path, 401)
                assert refused == {"error": "not_authorised", "reason": "Access refused."}
            await alice.change("PUT", "/vhosts/mine", status=401)

            await admin.change("PUT", "/users/alice", {"tags": "administrator"})
            assert [user["name"] for user in await alice.get("/users")] == ["alice"]
            await admin.change("DELETE", "/permissions/%2F/alice")
            assert await alice.get("/vhosts") == []
            await admin.change("DELETE", "/users/alice")
            assert (await alice.ask("GET", "/whoami")).status_code == 401

    with_server(tmp_path, scenario, **ACCESS)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_hash_of_a_password_makes_a_user_who_logs_in_with_it(tmp_path: Path, algorithm: str) -> None:
    salt = bytes.fromhex("908dc60a")  # RabbitMQ's documentation has this one, of test12
    digest = hashlib.new(algorithm, salt + b"test12").digest()
    body = {
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": f"rabbit_password_hashing_{algorithm}",
        "tags": "management",
    }
    if algorithm == "sha256":
        assert body["password_hash"] == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
        del body["hashing_algorithm"]

    async def scenario(api: ApiClient) -> None:
        (http,) = api.running.addresses["http"]
        async with httpx.AsyncClient(base_url=f"http://{http}/rabbitmq/api", trust_env=False) as anonymous:
            admin = ApiClient(api.running, anonymous)
            await admin.change("PUT", "/users/alice", {"password": "secret", "tags": "management"}, 201)
            await admin.change("PUT", "/users/alice", body, 204)
            for name, value in (
                ("password_hash", "?"),
                ("password_hash", "kI3GCqW5"),
                ("hashing_algorithm", "rabbit_password_hashing_md5"),
            ):
                await admin.change("PUT", "/users/bob", {**body, name: value}, 400)
            users = [{"name": name, **body} for name in ("carol", "guest")]
            await admin.change("POST", "/definitions", {"users": users})
            assert [user["name"] for user in await admin.get("/users")] == ["alice", "carol"]
            for user in ("alice", "carol"):
                for password, status in (("secret", 401), ("test12", 200)):
                    response = await api.ask("GET", "/whoami", auth=(user, password))
                    assert response.status_code == status, (user, password)

    with_server(tmp_path, scenario, **ACCESS)


def test_a_request_that_proves_nothing_is_refused(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        wrong = await api.ask("GET", "/whoami")
        assert (wrong.status_code, wrong.json()) == (
            401,
            {"error": "not_authorized", "reason": "Login failed"},
        )
        assert wrong.headers["www-authenticate"] == 'Basic realm="RabbitMQ Management"'
        for credentials in ("Basic !", "Basic Z3Vlc3Q=", "Bearer x", ""):
            response = await api.http.get("/whoami", headers={"authorization": credentials}, auth=None)
            assert response.status_code == 401, credentials
        async with httpx.AsyncClient(base_url=api.http.base_url, trust_env=False) as nameless:
            assert (await nameless.get("/nothing")).status_code == 401

    with_server(tmp_path, scenario, **ACCESS)


def test_a_name_that_is_not_proven_is_not_the_users(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        client = BillingClient()  # of the user guest
        (await api.running.broker()).connections.add(client)
        assert await api.get("/connections") == []
        await api.get(f"/connections/{quote(NAME, safe='')}", 401)
        await api.change("DELETE", f"/connections/{quote(NAME, safe='')}", status=401)
        await api.change("DELETE", "/connections/username/guest", status=401)
        assert client.reasons == []

    with_server(tmp_path, scenario, access_control=True, super_users="User:admin")


def test_it_is_served_by_tls(tmp_path: Path) -> None:
    async def scenario(api: ApiClient) -> None:
        (address,) = api.running.addresses["rabbitmq_management"]
        url = f"https://{address}/api/health/checks/protocol-listener"
        async with httpx.AsyncClient(verify=client_context(), trust_env=False) as by_tls:
            answer = await by_tls.get(f"{url}/https", headers={"host": str(address)})
            assert (answer.status_code, answer.json()["protocol"]) == (200, "http/ssl")
            assert (await by_tls.get(f"{url}/http")).status_code == 503

    files = server_files()
    with_server(
        tmp_path,
        scenario,
        rabbitmq_management="SSL://127.0.0.1:0",
        tls_cert=str(files.cert),
        tls_key=str(files.key),
    )


def test_a_target_of_dead_letters_or_of_what_has_no_route_needs_rights(tmp_path: Path) -> None:
    """As over AMQP: READ of what it is declared for, and WRITE of the target."""

    async def scenario(api: ApiClient) -> None:
        async with admin_and_alice(api) as (admin, alice):
            await admin.change("PUT", "/users/alice", {"password": "secret", "tags": "management"}, 201)
            permissions = {"configure": ".*", "write": "^alice\\-.*", "read": ".*"}
            await admin.change("PUT", "/permissions/%2F/alice", permissions, 201)
            for path, argument in (
                ("/queues/%2F/work", "x-dead-letter-exchange"),
                ("/exchanges/%2F/orders", "alternate-exchange"),
            ):
                await alice.change("PUT", path, {"arguments": {argument: "amq.fanout"}}, 401)
                await alice.change("PUT", path, {"arguments": {argument: "alice-dead"}}, 201)

    with_server(tmp_path, scenario, **ACCESS)

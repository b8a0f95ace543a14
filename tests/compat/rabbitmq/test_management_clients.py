"""What people run beside RabbitMQ's management API: KEDA's scaler, and rabbitmqadmin of version 2."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.compat.rabbitmq.broker import missing, rabbitmq
from tests.compat.rabbitmq.mainstem_server import mainstem_with_management
from tests.compat.rabbitmq.suites import PYTHON
from tests.compat.suites import BUILT, ROOT, Result, Suite, run_suite

KEDA = Suite("keda", (str(PYTHON), "-m", "tests.compat.rabbitmq.clients.keda_suite"), PYTHON)
RABBITMQADMIN = BUILT / "rabbitmqadmin" / "bin" / "rabbitmqadmin"

COMMANDS = """
exchanges declare --name orders --type topic --durable true
queues declare --name billing --type classic --durable true --arguments {"x-max-length":10}
queues declare --name audit --type quorum --durable true
bindings declare --source orders --destination-type queue --destination billing --routing-key orders.#
exchanges bind --source amq.topic --destination-type exchange --destination orders --routing-key x
policies declare --name short --pattern ^b --definition {"max-length":5} --apply-to queues --priority 1
operator_policies declare --name cap --pattern ^b --definition {"max-length":9} --apply-to queues --priority 1
vhosts declare --name shop
users declare --name bob --password secret --tags administrator
permissions declare --username bob --configure .* --read .* --write .*
permissions declare --username guest --configure ^$ --read .* --write .*
publish message --exchange orders --routing-key orders.1 --payload hello
publish message --exchange orders --routing-key orders.2 --payload bye
queues show --name billing
get messages --queue billing --ack-mode ack_requeue_false
list nodes
list users
list vhosts
list permissions
list connections
list user_connections --username guest
list channels
list queues
list exchanges
list bindings
list consumers
list parameters
list policies
list operator_policies
list vhost_limits
list user_limits
list feature_flags
list deprecated_features
list deprecated_features_in_use
streams declare --name clicks --expiration 1D
streams list
streams show --name clicks
streams delete --name clicks
plugins list_all
global_parameters list
federation list_all_upstreams
show overview
show churn
show endpoint
policies list_in --apply-to queues
policies list_matching_object --name billing --type queues
policies list_conflicting
policies patch --name short --definition {"max-length":7}
policies update_definition --name short --definition-key max-length --new-value 8
policies declare_override --name short --override-name over --definition {"max-length":4}
users permissions
users connections --username guest
health_check local_alarms
health_check cluster_wide_alarms
health_check node_is_quorum_critical
health_check port_listener --port PORT
health_check protocol_listener --protocol amqp
definitions export --file FOLDER/all.json
definitions export_from_vhost --file FOLDER/vhost.json
purge queue --name billing
rebalance queues
exchanges unbind --source amq.topic --destination-type exchange --destination orders --routing-key x
bindings delete --source orders --destination-type queue --destination billing --routing-key orders.#
close user_connections --username guest
permissions delete --username guest
users delete --name bob
policies delete --name over
policies delete --name short
operator_policies delete --name cap
queues delete --name billing
queues delete_multiple --name-pattern ^aud --approve
exchanges delete --name orders
vhosts delete --name shop
definitions import --file FOLDER/all.json
definitions import_into_vhost --file FOLDER/vhost.json
queues show --name audit
"""
"""What rabbitmqadmin does, in this order, each with the code 0. A command has no spaces within its words."""
REFUSED = {
    "users declare --name bob --password-hash secret": "the hash of a password is base64",
    "show memory_breakdown_in_bytes --node mainstem@localhost": "404 Not Found",
    "vhosts enable_deletion_protection --name /": "404 Not Found",
    "shovels list_all": "404 Not Found",
}
"""Commands that fail, with words of the reason."""


def keda(amqp: str, management: str) -> Result:
    return run_suite(KEDA, amqp, environ={"COMPAT_MANAGEMENT": management})


def need(lacking: str | None) -> None:
    """Skip, naming what to install; in CI nothing may be missing."""
    if lacking:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(lacking)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_keda_gets_its_figures_from_rabbitmq() -> None:
    need(KEDA.missing() or missing())
    with rabbitmq() as addresses:
        result = keda(addresses.amqp, addresses.management)
    assert result.failed == {}, result.output[-6000:]
    assert result.passed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_keda_gets_its_figures_from_mainstem(tmp_path: Path) -> None:
    need(KEDA.missing())
    with mainstem_with_management(tmp_path) as (amqp, management):
        result = keda(amqp, management)
    assert result.failed == {}, result.output[-6000:]
    assert result.passed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rabbitmqadmin_of_version_2(tmp_path: Path) -> None:
    if not RABBITMQADMIN.exists():
        pytest.skip(f"{RABBITMQADMIN.relative_to(ROOT)}: run `make deps-all`; it is built if cargo is there")
    outputs: dict[str, str] = {}
    with mainstem_with_management(tmp_path) as (_, management):
        host, _, port = management.rpartition(":")

        def run(line: str) -> subprocess.CompletedProcess[str]:
            words = [word.replace("FOLDER", str(tmp_path)).replace("PORT", port) for word in line.split()]
            return subprocess.run(
                [str(RABBITMQADMIN), "-H", host, "-P", port, "-u", "guest", "-p", "guest", *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                env={**os.environ, "HOME": str(tmp_path)},
            )

        for line in filter(None, COMMANDS.split("\n")):
            done = run(line)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            outputs[line] = done.stdout
        for line, words in REFUSED.items():
            done = run(line)
            assert done.returncode, line
            assert words in done.stdout + done.stderr, (line, done.stdout, done.stderr)
    assert "hello" in outputs["get messages --queue billing --ack-mode ack_requeue_false"]
    assert "quorum" in outputs["queues show --name audit"]
    exported = json.loads((tmp_path / "all.json").read_text())
    assert {queue["name"] for queue in exported["queues"]} == {"billing", "audit"}

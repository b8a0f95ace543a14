"""RabbitMQ's own tool, `rabbitmqadmin` of version 3.10, as Debian has it."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.doors.rabbitmq_management.management_kit import ApiClient, with_server

TOOL = shutil.which("rabbitmqadmin")
LINES = """
declare exchange name=orders type=topic
declare queue name=billing durable=true arguments={"x-max-length":10}
declare binding source=orders destination=billing routing_key=orders.#
declare policy name=short pattern=^b definition={"max-length":5} apply-to=queues
declare vhost name=shop
declare user name=bob password=secret tags=
declare permission vhost=/ user=bob configure=.* write=.* read=.*
publish exchange=orders routing_key=orders.1 payload=hello
get queue=billing ackmode=ack_requeue_false
list queues name messages
list bindings
list exchanges
list policies
list users
list permissions
list nodes name running
list connections
list channels
list consumers
show overview
export FILE
purge queue name=billing
delete binding source=orders destination_type=queue destination=billing properties_key=orders.%23
delete queue name=billing
delete exchange name=orders
delete policy name=short
delete permission vhost=/ user=bob
delete user name=bob
delete vhost name=shop
import FILE
list queues
"""


@pytest.mark.slow
@pytest.mark.skipif(TOOL is None, reason="rabbitmqadmin is not installed: apt-get install rabbitmq-server")
def test_every_command_of_rabbitmqadmin(tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"

    async def scenario(api: ApiClient) -> None:
        (address,) = api.running.addresses["rabbitmq_management"]
        outputs = {}
        for line in filter(None, LINES.split("\n")):
            words = [str(file) if word == "FILE" else word for word in line.split()]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(TOOL), "-H", address.host, "-P", str(address.port), *words),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await process.communicate()
            assert process.returncode == 0, (line, output.decode())
            outputs[line] = output.decode()
        assert "| hello " in outputs["get queue=billing ackmode=ack_requeue_false"]
        assert "| billing " in outputs["list queues"]
        assert [queue["name"] for queue in json.loads(file.read_text())["queues"]] == ["billing"]

    with_server(tmp_path / "data", scenario)

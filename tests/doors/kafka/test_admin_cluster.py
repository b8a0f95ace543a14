"""The handlers InitProducerId, DescribeCluster, GetTelemetrySubscriptions and PushTelemetry, on a node in
memory."""

from __future__ import annotations

from uuid import UUID

import pytest

from mainstem.coordinator.producer_ids import BLOCK_IDS, EPOCH_MAX
from mainstem.kafka_protocol.message import NO_UUID, Message
from tests.doors.kafka.admin_kit import INVALID_REQUEST, OK, STORAGE_ERROR, AdminClient
from tests.doors.kafka.kit import ADVERTISED


def producer(
    admin: AdminClient, version: int, transactional_id: str | None = None, **fields: int
) -> tuple[int, int, int]:
    request = Message(transactional_id=transactional_id, transaction_timeout=1000, **fields)
    answer = admin.call(22, version, request)
    return answer.error_code, answer.producer_id, answer.producer_epoch


@pytest.mark.parametrize("version", range(6))
def test_producers_get_ids_in_every_version(version: int) -> None:
    admin = AdminClient()
    code, first, epoch = producer(admin, version)
    assert (code, epoch) == (OK, 0)
    assert producer(admin, version) == (OK, first + 1, 0)


@pytest.mark.parametrize("version", range(3, 6))
def test_a_producer_that_sends_its_id_gets_the_next_epoch(version: int) -> None:
    admin = AdminClient()
    _, id_, _ = producer(admin, version)
    assert producer(admin, version, producer_id=id_, producer_epoch=4) == (OK, id_, 5)
    assert producer(admin, version, producer_id=id_, producer_epoch=EPOCH_MAX) == (OK, id_ + 1, 0)
    assert producer(admin, version, producer_id=id_ + BLOCK_IDS * 3, producer_epoch=0) == (OK, id_ + 2, 0)
    assert producer(admin, version, producer_id=0, producer_epoch=0) == (OK, id_ + 3, 0)
    assert producer(admin, version, producer_id=id_, producer_epoch=-1) == (INVALID_REQUEST, -1, -1)
    assert producer(admin, version, producer_id=-1, producer_epoch=0) == (INVALID_REQUEST, -1, -1)


@pytest.mark.parametrize("version", range(6))
def test_a_transactional_producer_is_refused_with_a_final_code(version: int) -> None:
    admin = AdminClient()
    assert producer(admin, version, "orders") == (53, -1, -1)
    assert producer(admin, version, "") == (INVALID_REQUEST, -1, -1)


def test_no_id_is_allocated_if_the_disk_refuses() -> None:
    admin = AdminClient()
    admin.kit.log.append_error = "full"
    assert producer(admin, 5) == (STORAGE_ERROR, -1, -1)


@pytest.mark.parametrize("version", range(3))
def test_the_cluster_is_one_node_at_the_advertised_address(version: int) -> None:
    answer = AdminClient().call(60, version, Message(include_cluster_authorized_operations=True))
    assert (answer.error_code, answer.cluster_id, answer.controller_id) == (OK, "mainstem-test-cluster1", 1)
    (broker,) = answer.brokers
    assert (broker.broker_id, broker.host, broker.port, broker.rack) == (
        1,
        ADVERTISED.host,
        ADVERTISED.port,
        None,
    )
    assert answer.cluster_authorized_operations == 8096
    answer = AdminClient().call(60, version, Message(include_cluster_authorized_operations=False))
    assert answer.cluster_authorized_operations == -(1 << 31)


def test_controllers_have_no_listener_here() -> None:
    request = {"include_cluster_authorized_operations": False}
    assert AdminClient().call(60, 1, Message(endpoint_type=2, **request)).error_code == 114
    assert AdminClient().call(60, 1, Message(endpoint_type=3, **request)).error_code == 115
    assert AdminClient().call(60, 1, Message(endpoint_type=1, **request)).endpoint_type == 1


def test_no_metrics_are_wanted() -> None:
    admin = AdminClient()
    answer = admin.call(71, 0, Message(client_instance_id=NO_UUID))
    assert answer.error_code == OK
    assert answer.client_instance_id.version == 4
    assert (list(answer.requested_metrics), list(answer.accepted_compression_types)) == ([], [])
    assert answer.push_interval == 300_000
    second = admin.call(71, 0, Message(client_instance_id=UUID(int=9)))
    assert second.client_instance_id == UUID(int=9)


def test_metrics_are_dropped_unread() -> None:
    request = Message(
        client_instance_id=UUID(int=9),
        subscription_id=0,
        terminating=True,
        compression_type=4,
        metrics=b"\x28\xb5\x2f\xfd",
    )
    assert AdminClient().call(72, 0, request).error_code == OK

"""What librdkafka's producer, consumer and admin client make of rights that are missing, given and lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from tests.compat.rights_probes import PASSWORD, USER
from tests.compat.test_rights_probes import mainstem_with_users

TOPIC, HIDDEN, GROUP = "orders", "salaries", "readers"
WAIT_S = 20.0


class Administrator:
    """Gives rights to alice, and takes them."""

    def __init__(self, address: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": address})
        for created in self._admin.create_topics([NewTopic(name, 1) for name in (TOPIC, HIDDEN)]).values():
            created.result(WAIT_S)

    def allow(self, kind: ResourceType, name: str, operation: AclOperation) -> None:
        entry = AclBinding(
            kind,
            name,
            ResourcePatternType.LITERAL,
            f"User:{USER}",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
        for created in self._admin.create_acls([entry]).values():
            created.result(WAIT_S)

    def take_all(self) -> None:
        everything = AclBindingFilter(
            ResourceType.ANY,
            None,
            ResourcePatternType.ANY,
            None,
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        for deleted in self._admin.delete_acls([everything]).values():
            deleted.result(WAIT_S)


def produced(producer: Producer) -> KafkaError | None:
    """Why an event was refused; None: it was not."""
    errors: list[KafkaError | None] = []
    producer.produce(TOPIC, b"x", on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(WAIT_S) == 0
    return errors[0]


def poll_until(consumer: Consumer, is_wanted: Callable[[Any], bool]) -> None:
    """Poll until an event or an error is the wanted one."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            message = consumer.poll(0.1)
        except KafkaException as error:
            message = error
        if message is not None and is_wanted(message):
            return
    raise AssertionError("it did not come")


def has_code(code: int) -> Callable[[Any], bool]:
    def check(message: Any) -> bool:
        error = message.args[0] if isinstance(message, KafkaException) else message.error()
        return error is not None and error.code() == code

    return check


def is_event(message: Any) -> bool:
    return not isinstance(message, KafkaException) and message.error() is None


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_librdkafka_without_rights_with_them_and_after_their_loss(tmp_path: Path) -> None:
    with mainstem_with_users(tmp_path) as (admin, alice):
        administrator = Administrator(admin)
        login = {
            "bootstrap.servers": alice,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": USER,
            "sasl.password": PASSWORD,
            "log_level": 0,
        }
        producer = Producer({**login, "topic.metadata.propagation.max.ms": 0})
        refused = produced(producer)
        assert refused is not None
        assert refused.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        assert TOPIC not in AdminClient(login).list_topics(timeout=WAIT_S).topics

        administrator.allow(ResourceType.TOPIC, TOPIC, AclOperation.WRITE)
        assert produced(Producer(login)) is None
        assert produced(Producer({**login, "enable.idempotence": True})) is None
        assert list(AdminClient(login).list_topics(timeout=WAIT_S).topics) == [TOPIC]

        administrator.allow(ResourceType.TOPIC, TOPIC, AclOperation.READ)
        reader = {**login, "group.id": GROUP, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 60_000}
        consumer = Consumer({**reader, "socket.timeout.ms": 90_000})
        try:
            consumer.subscribe([TOPIC])
            poll_until(consumer, has_code(KafkaError.GROUP_AUTHORIZATION_FAILED))
            administrator.allow(ResourceType.GROUP, GROUP, AclOperation.READ)
            for _ in range(2):
                poll_until(consumer, is_event)
            assert consumer.committed([TopicPartition(TOPIC, 0)], WAIT_S)
            consumer.poll(0.5)  # the next fetch waits for a minute
            administrator.take_all()
            poll_until(consumer, has_code(KafkaError.TOPIC_AUTHORIZATION_FAILED))
        finally:
            consumer.close()

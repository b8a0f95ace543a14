"""The rights that the handlers declare, and what a client without them is answered."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from mainstem.access_contract import Operation, ResourceType
from mainstem.doors.kafka.authorized_operations import SUPPORTED
from mainstem.doors.kafka.handler import Handler
from mainstem.doors.kafka.handlers import discover
from mainstem.doors.kafka.rights import NoRights, Right
from mainstem.kafka_protocol.schema import api
from tests.doors.kafka import access_kit as kit
from tests.doors.kafka.share_kit import ShareRig

DENIALS = {kit.TOPIC_DENIED, kit.GROUP_DENIED, kit.CLUSTER_DENIED}
HANDLERS = discover()
NEEDY = [key for key, handler in HANDLERS.items() if not isinstance(handler.rights, NoRights)]
EVERYTHING = [(operation, kind, "*") for operation in Operation for kind in ResourceType]
PLACES: dict[int, dict[str, int]] = {
    0: {"responses.partition_responses.error_code": 29},
    1: {"responses.partitions.error_code": 29},
    2: {"topics.partitions.error_code": 29},
    3: {"topics.error_code": 29},
    8: {"topics.partitions.error_code": 30},
    9: {"groups.error_code": 30},
    10: {"coordinators.error_code": 30},
    11: {"error_code": 30},
    12: {"error_code": 30},
    13: {"error_code": 30},
    14: {"error_code": 30},
    15: {"groups.error_code": 30},
    19: {"topics.error_code": 29},
    20: {"responses.error_code": 29},
    21: {"topics.partitions.error_code": 29},
    22: {"error_code": 31},
    23: {"topics.partitions.error_code": 29},
    29: {"error_code": 31},
    30: {"results.error_code": 31},
    31: {"filter_results.error_code": 31},
    34: {"results.partitions.error_code": 31},
    35: {"error_code": 31},
    37: {"results.error_code": 29},
    42: {"results.error_code": 30},
    43: {"error_code": 31, "replica_election_results.partition_result.error_code": 31},
    45: {"error_code": 31, "responses.partitions.error_code": 31},
    46: {"error_code": 31},
    47: {"error_code": 30},
    48: {"error_code": 31},
    49: {"entries.error_code": 31},
    50: {"error_code": 31, "results.error_code": 31},
    51: {"results.error_code": 31},
    55: {"error_code": 31},
    61: {"topics.partitions.error_code": 29},
    74: {"error_code": 31},
    75: {"topics.error_code": 29},
    76: {"error_code": 30},
    77: {"groups.error_code": 30},
    78: {"error_code": 30},
    79: {"error_code": 30},
    90: {"groups.error_code": 30},
    91: {"error_code": 30},
    92: {"error_code": 30},
}
"""Where each key has which error code for a client that may do nothing, as Kafka has it (KafkaApis,
ControllerApis). 32, 33 and 44 have several."""
NAMES_UNTIL = {0: 12, 1: 12, 8: 9, 9: 9, 20: 5}
"""The last version that names topics by their names alone."""


@pytest.fixture(scope="module")
def rig_of_module() -> ShareRig:
    return ShareRig()


@pytest.fixture
def rig(rig_of_module: ShareRig) -> Iterator[ShareRig]:
    """A node whose clients may do everything until the test says otherwise."""
    yield rig_of_module
    rig_of_module.authorizer.rules = None
    rig_of_module.authorizer.asked.clear()


def topic_id(rig: ShareRig) -> UUID:
    """The id of the topic, which another test may have deleted."""
    topic = rig.node.topics.get(kit.TOPIC)
    if topic is None:
        topic = rig.wait(rig.node.topics.create(kit.TOPIC, 1))
    return topic.id


def declared(handler: Handler) -> tuple[Right, ...]:
    return () if isinstance(handler.rights, NoRights) else handler.rights


def alternatives(right: Right) -> Iterator[tuple[Operation, ResourceType]]:
    """What a handler with this right may ask for."""
    yield right.operation, right.resource_type
    if right.or_cluster is not None:
        yield right.or_cluster, ResourceType.CLUSTER
    if right.or_any is not None:
        yield right.or_any


def test_every_handler_declares_its_rights_or_why_it_needs_none() -> None:
    for key, handler in HANDLERS.items():
        if isinstance(handler.rights, NoRights):
            assert len(handler.rights.reason) > 15, key
        else:
            assert handler.rights, key


def test_each_right_of_a_whole_request_can_be_refused_in_every_version() -> None:
    for key, handler in HANDLERS.items():
        if handler.whole_rights and handler.on_error is None:
            low, high = handler.versions
            field = next(field for field in api(key).response.fields if field.name == "error_code")
            assert field.in_version(low), key
            assert field.in_version(high), key


def test_each_key_that_needs_rights_has_a_request_here(rig: ShareRig) -> None:
    assert set(kit.requests(topic_id(rig))) == set(NEEDY)


@pytest.mark.parametrize("key", NEEDY)
def test_a_handler_asks_for_the_rights_that_it_declares_and_for_no_others(rig: ShareRig, key: int) -> None:
    """With every right, so that no check ends the request before another one."""
    handler = HANDLERS[key]
    rig.authorizer.set(*EVERYTHING)
    rig.call(key, handler.versions[1], kit.requests(topic_id(rig))[key])
    asked = set(rig.authorizer.asked)
    listed = {60: ResourceType.CLUSTER, 75: ResourceType.TOPIC}.get(key)
    if listed is not None:  # its reply lists the operations that are allowed
        asked -= {(operation, listed) for operation in SUPPORTED[listed]}
    assert asked <= {question for right in declared(handler) for question in alternatives(right)}
    if listed is None and key != 79:  # ShareAcknowledge does not come as far without a share session
        assert all(asked & set(alternatives(right)) for right in declared(handler) if not right.when)


@pytest.mark.parametrize("key", NEEDY)
def test_without_rights_every_version_of_a_handler_refuses_and_shows_nothing(rig: ShareRig, key: int) -> None:
    handler, request = HANDLERS[key], kit.requests(topic_id(rig))[key]
    rig.authorizer.set()
    for version in range(handler.versions[0], handler.versions[1] + 1):
        reply = rig.call(key, version, request)
        codes = {code for _, code in kit.error_codes(reply)}
        assert codes <= DENIALS | {0}, version
        if key == 35 and version < 3:
            assert reply.results == []  # it has no place for the code
        elif key == 60:
            assert reply.cluster_authorized_operations == 0
        elif key == 16:
            assert reply.groups == []
        else:
            assert codes & DENIALS, version


@pytest.mark.parametrize("key", NEEDY)
def test_with_the_declared_rights_alone_a_handler_refuses_nothing(rig: ShareRig, key: int) -> None:
    handler, request = HANDLERS[key], kit.requests(topic_id(rig))[key]
    rig.authorizer.set(*((right.operation, right.resource_type, "*") for right in declared(handler)))
    for version in {handler.versions[0], handler.versions[1]}:
        codes = {code for _, code in kit.error_codes(rig.call(key, version, request))}
        assert not codes & DENIALS, version


@pytest.mark.parametrize(("key", "expected"), PLACES.items())
def test_the_error_code_is_where_kafka_has_it(rig: ShareRig, key: int, expected: dict[str, int]) -> None:
    rig.authorizer.set()
    reply = rig.call(key, HANDLERS[key].versions[1], kit.requests(topic_id(rig))[key])
    assert {path: code for path, code in kit.error_codes(reply) if code} == expected


def test_a_refusal_does_not_show_whether_a_topic_or_group_exists() -> None:
    """Of names; ids are no secrets in Kafka, where an unknown one is answered otherwise."""
    rig = ShareRig()
    requests = kit.requests(topic_id(rig))
    rig.make_group(kit.GROUP)

    def refusals() -> dict[int, list[tuple[str, object]]]:
        rig.authorizer.set()
        versions = {key: NAMES_UNTIL.get(key, HANDLERS[key].versions[1]) for key in NEEDY}
        return {key: list(kit.values(rig.call(key, versions[key], requests[key]))) for key in NEEDY}

    existing = refusals()
    rig.wait(rig.node.topics.delete(kit.TOPIC))
    rig.wait(rig.node.share_groups.delete(kit.GROUP))
    assert rig.node.share_groups.find(kit.GROUP) is None
    assert refusals() == existing

"""60 DescribeCluster.

Versions: 0-2. Behaviour: the cluster id and the one node, which is its own controller, at the address that
the client's listener advertises. Notes: v1 asks for brokers (1) or controllers (2, KIP-919): controllers
have no listener of their own here, so MISMATCHED_ENDPOINT_TYPE, as a Kafka broker says. v2 shows fenced
brokers: there are none. Left out: access control; who asks for operations is told all.
"""

from __future__ import annotations

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message

BROKERS, CONTROLLERS = 1, 2
NOT_ASKED = -(1 << 31)
CLUSTER_OPERATIONS = sum(1 << operation for operation in (5, 7, 8, 9, 10, 11, 12))
"""Kafka's AclOperation: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS and
IDEMPOTENT_WRITE."""


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    """Tell what the cluster is."""
    kind = request.body.endpoint_type
    if kind == CONTROLLERS:
        text = (
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
        )
        return _refusal(ErrorCode.MISMATCHED_ENDPOINT_TYPE, text)
    if kind != BROKERS:
        return _refusal(ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, f"Unsupported endpoint type {kind}")
    listener = request.connection.listener
    broker = Message(
        broker_id=context.node_id, host=listener.host, port=listener.port, rack=context.rack, is_fenced=False
    )
    asked = request.body.include_cluster_authorized_operations
    return Message(
        endpoint_type=BROKERS,
        cluster_id=context.cluster_id,
        controller_id=context.node_id,
        brokers=[broker],
        cluster_authorized_operations=CLUSTER_OPERATIONS if asked else NOT_ASKED,
    )


def _refusal(code: ErrorCode, text: str) -> Message:
    return Message(error_code=code, error_message=text, endpoint_type=BROKERS, cluster_id="")


HANDLER = Handler(key=60, versions=(0, 2), handle=handle)

"""60 DescribeCluster.

Versions: 0-2.
Behaviour: returns the cluster id and the one node, which is its own controller, at the address that the
client's listener advertises.
Notes: v1 may ask for brokers (1) or controllers (2, KIP-919). Controllers have no listener of their own here,
so the answer is MISMATCHED_ENDPOINT_TYPE, as from a Kafka broker. v2 shows fenced brokers: there are none.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.doors.kafka.authorized_operations import DESCRIBE_CLUSTER, cluster_operations
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message

BROKERS, CONTROLLERS = 1, 2
"""Values of the request's `endpoint_type`."""


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    endpoint_type = request.body.endpoint_type
    if endpoint_type == CONTROLLERS:
        text = (
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
        )
        return _refusal(ErrorCode.MISMATCHED_ENDPOINT_TYPE, text)
    if endpoint_type != BROKERS:
        return _refusal(ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, f"Unsupported endpoint type {endpoint_type}")
    address = request.connection.advertised
    broker = Message(
        broker_id=context.node_id,
        host=address.host,
        port=address.port,
        rack=context.rack,
        is_fenced=False,
    )
    return Message(
        endpoint_type=BROKERS,
        cluster_id=context.cluster_id,
        controller_id=context.node_id,
        brokers=[broker],
        cluster_authorized_operations=cluster_operations(context, request),
    )


def _refusal(code: ErrorCode, text: str) -> Message:
    return Message(error_code=code, error_message=text, endpoint_type=BROKERS, cluster_id="")


HANDLER = Handler(key=60, versions=(0, 2), handle=handle, rights=(DESCRIBE_CLUSTER,))

"""71 GetTelemetrySubscriptions.

Versions: 0.
Behaviour: answers that no metrics are wanted (KIP-714), so that Java and librdkafka clients ask again after
five minutes and log nothing. A client without an instance id gets one.
Notes: no compression is accepted, so that nothing that a client sends is ever decompressed.
Left out: subscriptions.
"""

from __future__ import annotations

from uuid import UUID

from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import NoRights
from mainstem.kafka_protocol.message import NO_UUID, Message

PUSH_INTERVAL_MS = 300_000
TELEMETRY_BYTES_MAX = 1 << 20


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    client = request.body.client_instance_id
    if client == NO_UUID:
        client = UUID(int=context.node.rng.getrandbits(128), version=4)
    return Message(
        client_instance_id=client,
        subscription_id=0,
        accepted_compression_types=[],
        push_interval=PUSH_INTERVAL_MS,
        telemetry_max_bytes=TELEMETRY_BYTES_MAX,
        delta_temporality=True,
        requested_metrics=[],
    )


HANDLER = Handler(
    key=71, versions=(0, 0), handle=handle, rights=NoRights("it shows nothing but that no metrics are wanted")
)

"""72 PushTelemetry.

Versions: 0. Behaviour: takes what a client sends although nothing is wanted (the last push of one that
ends) and drops it unread. Notes: the metrics are never decompressed: a decompression bomb finds nothing to
blow up (CVE-2026-111073 was exactly that). Left out: metrics.
"""

from __future__ import annotations

from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    """Drop it."""
    return Message()


HANDLER = Handler(key=72, versions=(0, 0), handle=handle)

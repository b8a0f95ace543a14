"""72 PushTelemetry.

Versions: 0.
Behaviour: accepts the metrics that a client sends although none are wanted (the last push of a client that
stops), and drops them unread.
Notes: the metrics are never decompressed, so that a decompression bomb has no effect (CVE-2026-111073).
Left out: metrics.
"""

from __future__ import annotations

from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import NoRights
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    return Message()


HANDLER = Handler(key=72, versions=(0, 0), handle=handle, rights=NoRights("the metrics are dropped unread"))

"""46 ListPartitionReassignments.

Versions: 0.
Behaviour: there is none, of whatever topics the request names: partitions never move.
Notes: the only version is flexible.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.access_contract import Operation
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_cluster
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    return Message(error_message=None, topics=[])


HANDLER = Handler(key=46, versions=(0, 0), handle=handle, rights=(of_cluster(Operation.DESCRIBE),))

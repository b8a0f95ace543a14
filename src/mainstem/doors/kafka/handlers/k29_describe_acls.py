"""29 DescribeAcls.

Versions: 1-3.
Behaviour: lists the access control entries that the filter matches, by the pattern of their resource. Many
are listed in several turns of the event loop. Entries about resources that Kafka does not have are not shown.
With access control off SECURITY_DISABLED, as from a Kafka broker without an authorizer. A number that Kafka
does not have is INVALID_REQUEST; a Kafka broker lists nothing then, or closes the connection if it is 0.
Notes: v2 is flexible; v3 knows user resources.
Left out: nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from mainstem.access_contract import Acl, Operation
from mainstem.doors.kafka.acls import DISABLED, entry_message, filter_of, of_kafka
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_cluster
from mainstem.kafka_protocol.message import Message
from mainstem.kafka_protocol.writer import ArrayWriter
from mainstem.turns import run_in_turns

ENTRIES_PER_TURN = 500


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    access = context.access
    if not access.authorizer.is_on:
        return Message(error_code=DISABLED[0], error_message=DISABLED[1], resources=[])
    filter_ = filter_of(request.body)
    acls = [] if filter_ is None else of_kafka(access.admin.acls(filter_))
    resources = ArrayWriter(29, request.version, "resources")
    return (
        run_in_turns(context.clock, _encode(acls, resources), ENTRIES_PER_TURN)
        .chain(context.node.runtime.read)
        .map(lambda _: Message(error_message=None, resources=resources.encoded()))
    )


def _encode(acls: Sequence[Acl], out: ArrayWriter) -> Iterator[int]:
    """Encode the entries, those of one pattern together."""
    by_pattern = sorted(acls, key=lambda acl: acl[:3])
    for (resource_type, name, pattern), group in groupby(by_pattern, key=lambda acl: acl[:3]):
        entries = [entry_message(acl) for acl in group]
        out.add(
            Message(
                resource_type=int(resource_type), resource_name=name, pattern_type=int(pattern), acls=entries
            )
        )
        yield len(entries)


HANDLER = Handler(key=29, versions=(1, 3), handle=handle, rights=(of_cluster(Operation.DESCRIBE),))

"""22 InitProducerId.

Versions: 0-5.
Behaviour: gives an idempotent producer an id that was never used before, and epoch 0. The ids of a data
folder start above a random number, so that they differ from those of Kafka and of other folders.
Notes: from v3 on (KIP-360) a producer that sends its id gets the same id with the next epoch, or a new id if
the epochs are used up or this server has not assigned the id.
Left out: transactions: a transactional id is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED and a line in
the server's log, because librdkafka retries for ever after nearly every other code, and the other clients
take this one as final too; v6 (KIP-939, two-phase commit), which is unstable in Kafka too.
"""

from __future__ import annotations

import logging

from mainstem.access_contract import CLUSTER_NAME, Operation, ResourceType
from mainstem.coordinator.errors import InvalidRequest, TransactionsUnsupported
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import reply_for
from mainstem.doors.kafka.rights import Right, RightDenied
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise

IDEMPOTENT_WRITE = Right(
    Operation.IDEMPOTENT_WRITE,
    ResourceType.CLUSTER,
    or_any=(Operation.WRITE, ResourceType.TOPIC),
    when="without a transactional id",
)
"""KIP-679: who may write to any topic may do so idempotently."""

log = logging.getLogger("mainstem.kafka")


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    return reply_for(
        _allocate(context, request),
        lambda allocated: Message(producer_id=allocated[0], producer_epoch=allocated[1]),
        lambda code, _: Message(error_code=code, producer_id=-1, producer_epoch=-1),
    )


def _allocate(context: HandlerContext, request: Request) -> Promise[tuple[int, int]]:
    body = request.body
    if body.transactional_id is None and not context.allows(request, IDEMPOTENT_WRITE, CLUSTER_NAME):
        return Promise.failed(RightDenied(IDEMPOTENT_WRITE))
    if body.transactional_id is not None:
        if not body.transactional_id:
            return Promise.failed(InvalidRequest("The transactional id is empty."))
        log.warning(
            "InitProducerId from %s refused: it has a transactional id, and transactions are not supported"
            " yet; use an idempotent producer without one",
            request.peer,
        )
        return Promise.failed(TransactionsUnsupported("Transactions are not supported yet."))
    if (body.producer_id == -1) != (body.producer_epoch == -1):
        return Promise.failed(
            InvalidRequest("Producer id and producer epoch must be sent together or not at all.")
        )
    if body.producer_id == -1:
        return context.node.producer_ids.allocate()
    return context.node.producer_ids.bump_epoch(body.producer_id, body.producer_epoch)


HANDLER = Handler(key=22, versions=(0, 5), handle=handle, rights=(IDEMPOTENT_WRITE,))

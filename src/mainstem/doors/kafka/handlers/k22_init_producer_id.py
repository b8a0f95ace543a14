"""22 InitProducerId.

Versions: 0-5. Behaviour: gives an idempotent producer an id that no other ever had, and epoch 0. Notes:
from v3 on (KIP-360) a producer that names its id gets the same id with the next epoch, or a new id when the
epochs are used up or the id is not of this server. Left out: transactions. A transactional id is refused
with TRANSACTIONAL_ID_AUTHORIZATION_FAILED and a line in the server's log: librdkafka asks again for ever
after nearly every other code, and the other clients take this one as final too. v6 (KIP-939, two-phase
commit) is unstable in Kafka too.
"""

from __future__ import annotations

import logging

from mainstem.coordinator.errors import InvalidRequest, TransactionsUnsupported
from mainstem.doors.kafka.handler import Answer, Context, Handler, Request
from mainstem.doors.kafka.per_item import answered
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Later

log = logging.getLogger("mainstem.kafka")


def handle(context: Context, request: Request) -> Answer:
    """Give a producer its id and epoch."""
    return answered(
        _allocate(context, request),
        lambda given: Message(producer_id=given[0], producer_epoch=given[1]),
        lambda code, _: Message(error_code=code, producer_id=-1, producer_epoch=-1),
    )


def _allocate(context: Context, request: Request) -> Later[tuple[int, int]]:
    body = request.body
    if body.transactional_id is not None:
        if not body.transactional_id:
            return Later.failed(InvalidRequest("The transactional id is empty."))
        log.warning("a producer at %s asks for transactions, which are not supported yet", request.peer)
        return Later.failed(TransactionsUnsupported("Transactions are not supported yet."))
    if (body.producer_id == -1) != (body.producer_epoch == -1):
        return Later.failed(InvalidRequest("Producer id and epoch have to be given both or not at all."))
    if body.producer_id == -1:
        return context.node.producer_ids.next()
    return context.node.producer_ids.bump(body.producer_id, body.producer_epoch)


HANDLER = Handler(key=22, versions=(0, 5), handle=handle)

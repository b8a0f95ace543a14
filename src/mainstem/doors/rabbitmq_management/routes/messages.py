"""Single messages, for people: publish one to an exchange, take some of a queue.

Owns: `/api/exchanges/…/publish` and `/api/queues/…/get`. Refuses: to be a way of consuming: a get takes at
most MESSAGES_MAX messages and MESSAGES_BYTES_MAX of them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any

from mainstem.access_contract import Operation
from mainstem.amqp.errors import AmqpError
from mainstem.amqp.messages import AmqpMessage
from mainstem.amqp.properties_codec import decode_properties
from mainstem.amqp.topic_publisher import publish_to_topics
from mainstem.amqp.topology import AmqpQueue
from mainstem.amqp.vhost_state import engine_errors
from mainstem.doors.rabbitmq_management import bodies
from mainstem.doors.rabbitmq_management.properties_json import properties_json, properties_of
from mainstem.doors.rabbitmq_management.queue_json import message_figures, totals_of
from mainstem.doors.rabbitmq_management.refusals import ApiRefusal, bad_request, not_in_api
from mainstem.doors.rabbitmq_management.request import ApiAnswer, ManagementRequest, ManagementRoute, Tag
from mainstem.queue_answers import Ack, Delivery, Nack, Outcome, Reject
from mainstem.queue_contract import Queues
from mainstem.quota_contract import QuotaKey

MESSAGES_MAX = 1_000
MESSAGES_BYTES_MAX = 32 << 20
CONSUMER = "management"


def _requeued(token: str) -> Outcome:
    return Nack(token, counts=False)


ANSWERS: dict[str, Callable[[str], Outcome]] = {
    "ack_requeue_true": _requeued,
    "reject_requeue_true": _requeued,
    "reject_requeue_false": Reject,
    "ack_requeue_false": Ack,
}
"""The ways of taking messages -> what is answered for them."""


async def publish(request: ManagementRequest) -> ApiAnswer:
    """Publish a message, and say whether a queue has it."""
    vhost, exchange = request.vhost, request.exchange
    body = await request.body(bodies.LARGE_BODY_BYTES_MAX)
    bodies.require_keys(body, "properties", "routing_key", "payload", "payload_encoding")
    properties = properties_of(bodies.table(body, "properties"))
    payload = _payload(bodies.text(body, "payload"), bodies.text(body, "payload_encoding"))
    routing_key = bodies.text(body, "routing_key")
    if len(routing_key.encode(errors="replace")) > 255:
        raise bad_request(["not_shortstr", "routing_key"])
    request.require_exchange(Operation.WRITE, vhost.name, exchange)
    try:
        vhost.check_publish(exchange)
    except AmqpError as error:
        raise bad_request(f"{error.code} {error.text}") from None
    message = AmqpMessage(
        exchange=exchange, routing_key=routing_key, properties=properties, body=payload, user=request.user
    )
    if vhost.is_topic(exchange):
        with engine_errors(f"exchange '{exchange}'"):
            (result,) = await publish_to_topics(request.engine, vhost.name, [message], vhost.wall_ms())
    else:
        (result,) = await vhost.publish([message])
    if result == "refused":
        raise ApiRefusal(503, "service_unavailable", "a queue has refused the message, for it is full")
    return ApiAnswer(200, {"routed": result == "routed"})


def _payload(text: str, encoding: str) -> bytes:
    if encoding == "string":
        return text.encode(errors="replace")
    if encoding != "base64":
        raise bad_request(["unsupported_encoding", encoding])
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise bad_request(["not_base64", "payload"]) from None


async def get_messages(request: ManagementRequest) -> ApiAnswer:
    """Take messages: `count` of them, given back or not, as `ackmode` says."""
    vhost = request.vhost
    queue = vhost.queues.get(request.parameters["queue"])
    if queue is None or not request.sees_queue(vhost.name, queue.name):
        raise not_in_api()
    body = await request.body()
    bodies.require_keys(body, "count", "ackmode", "encoding")
    count = bodies.whole_number(body, "count", 1)
    mode, encoding = bodies.text(body, "ackmode"), bodies.text(body, "encoding")
    truncate = bodies.whole_number(body, "truncate", MESSAGES_BYTES_MAX)
    if mode not in ANSWERS or count < 0 or truncate < 0:
        raise bad_request(["invalid", "ackmode" if mode not in ANSWERS else "count"])
    if encoding not in ("auto", "base64"):
        raise bad_request(["unsupported_encoding", encoding])
    if queue.kind == "stream":
        raise bad_request(f"basic.get not supported by stream queues queue '{queue.name}'")
    request.require_queue(Operation.READ, vhost.name, queue.name)
    vhost.note_get(queue)
    deliveries = await _take(request, queue, min(count, MESSAGES_MAX), ANSWERS[mode])
    totals = await totals_of(request, [queue])
    left = message_figures(totals.get(queue.subscription))["messages_ready"]
    if ANSWERS[mode] is _requeued:
        left -= len(deliveries)
    return ApiAnswer(200, _messages_json(request, queue, deliveries, left, encoding, truncate))


async def _take(
    request: ManagementRequest, queue: AmqpQueue, count: int, answer: Callable[[str], Outcome]
) -> Sequence[Delivery]:
    """Pull messages and answer for them. The answers are durable when this returns."""
    context = request.context.door
    is_limited = context.views.limit(request.requester)
    engine = context.views.engine(request.requester) if is_limited else context.engine
    assert isinstance(engine, Queues)
    deliveries: list[Delivery] = []
    left_bytes = MESSAGES_BYTES_MAX
    try:
        while len(deliveries) < count and left_bytes > 0:
            more = await engine.pull(
                queue.subscription, CONSUMER, max_events=count - len(deliveries), max_bytes=left_bytes
            )
            if not more:
                break
            deliveries += more
            left_bytes -= sum(len(delivery.event.value or b"") + 1 for delivery in more)
    finally:
        if deliveries:
            answers = [answer(delivery.token) for delivery in deliveries]
            await engine.settle(queue.subscription, answers)
    return deliveries


def _messages_json(
    request: ManagementRequest,
    queue: AmqpQueue,
    deliveries: Sequence[Delivery],
    left: int,
    encoding: str,
    truncate: int,
) -> list[dict[str, Any]]:
    """The messages. `left`: how many are ready beside them."""
    items = []
    for index, delivery in enumerate(deliveries, 1):
        message = request.vhost.from_event(delivery.event, queue, delivery.attempt)
        payload, payload_encoding = _shown(message.body[:truncate], encoding)
        items.append(
            {
                "payload_bytes": len(message.body),
                "redelivered": delivery.attempt > 1,
                "exchange": message.exchange,
                "routing_key": message.routing_key,
                "message_count": max(0, left) + len(deliveries) - index,
                "properties": properties_json(decode_properties(message.properties_raw)),
                "payload": payload,
                "payload_encoding": payload_encoding,
            }
        )
    return items


def _shown(payload: bytes, encoding: str) -> tuple[str, str]:
    if encoding == "auto":
        try:
            return payload.decode(), "string"
        except UnicodeDecodeError:
            pass
    return base64.b64encode(payload).decode(), "base64"


ROUTES = (
    ManagementRoute(
        method="POST",
        path="/exchanges/{vhost}/{exchange}/publish",
        handle=publish,
        rights=Tag.MANAGEMENT,
        changes=True,
        quota=QuotaKey.PRODUCE,
    ),
    ManagementRoute(
        method="POST",
        path="/queues/{vhost}/{queue}/get",
        handle=get_messages,
        rights=Tag.MANAGEMENT,
        changes=True,
        quota=QuotaKey.FETCH,
    ),
)

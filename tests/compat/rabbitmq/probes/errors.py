"""The error cases that clients' own suites check: codes, texts, and whether channel or connection ends."""

from __future__ import annotations

from tests.compat.rabbitmq.peer import raw_method
from tests.compat.rabbitmq.probing import Basic, Confirm, Exchange, Queue, Script, Tx, probe


@probe
def error_missing_queue(s: Script) -> None:
    name = "error_missing_queue"
    s.declare(name, passive=True)
    s.consume(name)
    s.get(name)
    s.bind(name, "amq.direct")
    s.call(Queue.Purge(queue=name))
    s.call(Queue.Delete(queue=name))
    s.call(Queue.Unbind(queue=name, exchange="amq.direct"))


@probe
def error_no_queue_declared_before(s: Script) -> None:
    s.get("")
    s.consume("")
    s.call(Queue.Purge())
    s.bind("", "amq.direct")
    s.declare("error_no_queue_declared_before", exclusive=True)
    s.get("")
    s.bind("", "amq.direct")


@probe
def error_missing_exchange(s: Script) -> None:
    s.declare("error_missing_exchange", exclusive=True)
    s.exchange("error_missing_exchange", passive=True)
    s.bind("error_missing_exchange", "error_missing_exchange")
    s.call(Exchange.Bind(destination="error_missing_exchange", source="amq.direct"))
    s.call(Exchange.Bind(destination="amq.direct", source="error_missing_exchange"))
    s.call(Exchange.Delete(exchange="error_missing_exchange"))
    s.call(Queue.Unbind(queue="error_missing_exchange", exchange="error_missing_exchange"))
    s.publish("error_missing_exchange", "key")
    s.barrier()


@probe
def error_reserved_names(s: Script) -> None:
    s.declare("amq.error_reserved", exclusive=True)
    s.exchange("amq.error_reserved")
    s.exchange("amq.direct", "direct", durable=True)
    s.exchange("amq.direct", "fanout", durable=True)
    s.call(Exchange.Delete(exchange="amq.direct"))
    s.declare("amq.error_reserved", passive=True)


@probe
def error_default_exchange(s: Script) -> None:
    s.declare("error_default_exchange", exclusive=True)
    s.exchange("", "direct", durable=True)
    s.exchange("", passive=True)
    s.call(Exchange.Delete(exchange=""))
    s.bind("error_default_exchange", "", "x")
    s.call(Queue.Unbind(queue="error_default_exchange", exchange="", routing_key="error_default_exchange"))
    s.call(Exchange.Bind(destination="", source="amq.direct"))
    s.call(Exchange.Bind(destination="amq.direct", source=""))


@probe
def error_internal_exchange(s: Script) -> None:
    s.exchange("error_internal", internal=True)
    s.publish("error_internal", "key")
    s.barrier()
    s.exchange("error_internal", passive=True)
    s.call(Exchange.Delete(exchange="error_internal"))


@probe
def error_inequivalent_queue(s: Script) -> None:
    name = "error_inequivalent_queue"
    s.declare(name, durable=True, x_message_ttl=1000)
    s.declare(name)
    s.declare(name, durable=True)
    s.declare(name, durable=True, x_message_ttl=1001)
    s.declare(name, durable=True, x_message_ttl=1000, x_expires=1000)
    s.declare(name, durable=True, auto_delete=True, x_message_ttl=1000)
    s.declare(name, durable=True, x_message_ttl=1000, x_queue_type="classic")
    s.declare(name, durable=True, x_message_ttl=1000, x_queue_type="quorum")
    s.declare(name, durable=True, x_message_ttl=1000, x_no_such_argument="anything")
    s.declare(name, durable=False, passive=True)
    s.call(Queue.Delete(queue=name))


@probe
def error_inequivalent_exchange(s: Script) -> None:
    name = "error_inequivalent_exchange"
    s.exchange(name, "topic")
    s.exchange(name, "topic")
    s.exchange(name, "fanout")
    s.exchange(name, "topic", durable=True)
    s.exchange(name, "topic", auto_delete=True)
    s.exchange(name, "topic", internal=True)
    s.exchange(name, "topic", arguments={"alternate-exchange": "amq.fanout"})
    s.exchange(name, "fanout", passive=True)
    s.call(Exchange.Delete(exchange=name))


@probe
def error_bad_arguments(s: Script) -> None:
    name = "error_bad_arguments"
    s.declare(name, x_message_ttl="soon")
    s.declare(name, x_message_ttl=-1)
    s.declare(name, x_message_ttl=1 << 62)
    s.declare(name, x_expires=0)
    s.declare(name, x_expires="x")
    s.declare(name, x_max_length=-1)
    s.declare(name, x_max_length="x")
    s.declare(name, x_max_length_bytes=-5)
    s.declare(name, x_overflow="no-such")
    s.declare(name, x_max_priority=-1)
    s.declare(name, x_max_priority=256)
    s.declare(name, x_max_priority="high")
    s.declare(name, x_dead_letter_exchange=5)
    s.declare(name, x_dead_letter_routing_key="x")
    s.declare(name, x_queue_type="no-such")
    s.declare(name, x_queue_mode="no-such")
    s.declare(name, x_single_active_consumer="x")


@probe
def error_quorum_arguments(s: Script) -> None:
    name = "error_quorum_arguments"
    s.declare(name, x_queue_type="quorum")
    s.declare(name, durable=True, exclusive=True, x_queue_type="quorum")
    s.declare(name, durable=True, auto_delete=True, x_queue_type="quorum")
    s.declare(name, durable=True, x_queue_type="quorum", x_max_priority=3)


@probe
def error_stream_arguments(s: Script) -> None:
    name = "error_stream_arguments"
    s.declare(name, x_queue_type="stream")
    s.declare(name, durable=True, exclusive=True, x_queue_type="stream")
    s.declare(name, durable=True, auto_delete=True, x_queue_type="stream")
    s.declare(name, durable=True, x_queue_type="stream", x_max_age="x")
    s.declare(name, durable=True, x_queue_type="stream", x_message_ttl=5)


@probe
def error_exclusive_queue_of_another_connection(s: Script) -> None:
    name = "error_exclusive"
    other = s.other()
    other.declare(name, exclusive=True)
    s.declare(name, exclusive=True)
    s.declare(name, durable=True)
    s.declare(name, passive=True)
    s.consume(name)
    s.get(name)
    s.bind(name, "amq.direct")
    s.call(Queue.Purge(queue=name))
    s.call(Queue.Delete(queue=name))
    s.publish("", name, "published by another")
    s.barrier()
    other.get_soon(name)


@probe
def error_exclusive_consumer(s: Script) -> None:
    name = "error_exclusive_consumer"
    s.declare(name)
    other = s.other()
    other.consume(name, "first", exclusive=True)
    s.consume(name, "second")
    s.consume(name, "second", exclusive=True)
    s.get(name)
    other.call(Basic.Cancel(consumer_tag="first"))
    other.consume(name, "shared")
    s.consume(name, "second", exclusive=True)
    other.call(Basic.Cancel(consumer_tag="shared"))
    s.call(Queue.Delete(queue=name))


@probe
def error_consumer_tag_reused(s: Script) -> None:
    s.declare("error_consumer_tag_reused", exclusive=True)
    s.consume("error_consumer_tag_reused", "same")
    s.consume("error_consumer_tag_reused", "same")


@probe
def error_delete_if(s: Script) -> None:
    name = "error_delete_if"
    s.declare(name)
    s.publish("", name)
    s.depth(name, 1)
    s.call(Queue.Delete(queue=name, if_empty=True))
    s.call(Queue.Purge(queue=name))
    s.other().consume(name)
    s.call(Queue.Delete(queue=name, if_unused=True))
    s.call(Queue.Delete(queue=name))
    s.exchange(name)
    s.declare(name, exclusive=True)
    s.bind(name, name, "key")
    s.call(Exchange.Delete(exchange=name, if_unused=True))
    s.call(Queue.Unbind(queue=name, exchange=name, routing_key="key"))
    s.call(Exchange.Delete(exchange=name, if_unused=True))


@probe
def error_unknown_delivery_tag(s: Script) -> None:
    name = "error_unknown_delivery_tag"
    s.declare(name)
    for method in (Basic.Ack(5), Basic.Nack(5), Basic.Reject(5), Basic.Ack(5, multiple=True)):
        s.send(method)
        s.hear()
    s.send(Basic.Ack(0, multiple=True))
    s.barrier()
    s.publish("", name)
    s.depth(name, 1)
    s.get(name, no_ack=False)
    s.send(Basic.Ack(1))
    s.send(Basic.Ack(1))
    s.hear()
    s.call(Queue.Delete(queue=name))


@probe
def error_unknown_exchange_type(s: Script) -> None:
    s.exchange("error_unknown_exchange_type", "no-such")


@probe
def error_not_implemented(s: Script) -> None:
    name = "error_not_implemented"
    s.declare(name, exclusive=True)
    s.publish("", name, immediate=True)
    s.hear()
    s.call(Basic.Qos(prefetch_size=10))


@probe
def error_recover_without_requeue(s: Script) -> None:
    s.call(Basic.Recover(requeue=False))


@probe
def error_bad_properties(s: Script) -> None:
    name = "error_bad_properties"
    s.declare(name)
    s.publish("", name, expiration="soon")
    s.hear()
    s.publish("", name, expiration="-1")
    s.hear()
    s.publish("", name, expiration="99999999999999999")
    s.hear()
    s.publish("", name, user_id="somebody")
    s.hear()
    s.publish("", name, user_id="guest")
    s.depth(name, 1)
    s.publish("", name, headers={"CC": "not an array"})
    s.hear()
    s.call(Queue.Delete(queue=name))


@probe
def error_bad_user_headers(s: Script) -> None:
    name = "error_bad_user_headers"
    s.declare(name)
    s.publish("", name, priority=200)
    s.depth(name, 1)
    s.get(name)
    s.call(Queue.Delete(queue=name))


@probe
def error_tx_and_confirm(s: Script) -> None:
    s.call(Tx.Commit())
    s.call(Tx.Rollback())
    s.call(Tx.Select())
    s.call(Confirm.Select())
    s.call(Confirm.Select())
    s.call(Tx.Select())


@probe
def error_direct_reply_to(s: Script) -> None:
    pseudo = "amq.rabbitmq.reply-to"
    s.publish("", "error_direct", reply_to=pseudo)
    s.hear()
    s.consume(pseudo, no_ack=False)
    s.consume(pseudo, no_ack=True)
    s.consume(pseudo, "again", no_ack=True)
    s.declare(pseudo, passive=True)
    s.bind(pseudo, "amq.direct", "x")
    s.call(Queue.Delete(queue=pseudo))
    s.declare(pseudo)
    s.get(pseudo)


@probe
def error_access_request(s: Script) -> None:
    s.peer.send_bytes(raw_method(s.channel, 30, 10, b"\x05/data\x1c"))
    s.note(s.peer.receive_frame()[2].hex())


@probe
def error_binding_arguments(s: Script) -> None:
    name = "error_binding_arguments"
    s.declare(name, exclusive=True)
    s.bind(name, "amq.headers", "", **{"x-match": "some"})
    s.bind(name, "amq.headers", "", **{"x-match": 5})


@probe
def error_name_too_long_or_empty(s: Script) -> None:
    s.declare("é" * 100, exclusive=True)
    s.declare("q" * 255, exclusive=True)
    s.exchange("x" * 127)
    s.call(Exchange.Delete(exchange="x" * 127))


@probe
def error_alternate_exchange_refused(s: Script) -> None:
    s.exchange("error_alternate", arguments={"alternate-exchange": 7})


@probe
def error_nowait_failure(s: Script) -> None:
    s.send(Queue.Declare(queue="error_nowait_failure", passive=True, nowait=True))
    s.hear()
    s.send(Basic.Consume(queue="error_nowait_failure", consumer_tag="c", nowait=True))
    s.hear()

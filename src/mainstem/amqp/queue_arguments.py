"""The arguments of queues: which there are, what is wrong with some, when two are the same, what they mean.

Owns: RabbitMQ's checks and texts, and the settings of a subscription that arguments and policies lead to.
Refuses: to keep anything. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any

from mainstem.amqp.errors import AmqpError, amqp_error, inequivalent, invalid_argument
from mainstem.amqp.field_values import (
    FieldTable,
    Float32,
    Int8,
    Int16,
    Int64,
    Timestamp,
    UInt8,
    UInt16,
    UInt32,
)
from mainstem.amqp.streams import FIRST, NEXT, TIMESTAMP, age_ms, consumer_start
from mainstem.queues.settings import OVERFLOWS, SubscriptionSettings

DELIVERY_LIMIT_DEFAULT = 20
"""Of quorum queues."""
PRIORITY_MAX = 255
LIVE_MOMENT_MS = 1_000
"""How long a message whose time to live is 0 waits for a consumer that is there."""
LENGTH_MAX = 1 << 40
"""A higher limit of a length means as much as this."""
TIME_MS_MAX = (1 << 32) - 1
"""RabbitMQ's longest time: 49 days."""
IN_FLIGHT_MAX = 1_000_000
TOPIC = "x-mainstem-topic"
"""Argument of a queue that has the events of a topic, in place of what is routed to it."""
TOPIC_FROM = "x-mainstem-from"
"""Argument of such a queue: from where on: first, next (if it is not given), a timestamp in seconds, or a
time before its declaration such as 5m."""
TOPIC_FILTER = "x-mainstem-filter"
"""Argument of such a queue: a query of the search, that its events match."""
_NOT_WITH_TOPIC = (
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    "x-max-priority",
    "x-dead-letter-strategy",
)
"""Arguments that a queue of a topic does not have: nothing is published to it."""

_TYPE_NAMES: dict[type, str] = {
    bool: "bool",
    int: "signedint",
    Int8: "byte",
    UInt8: "unsignedbyte",
    Int16: "short",
    UInt16: "unsignedshort",
    UInt32: "unsignedint",
    Int64: "long",
    Timestamp: "timestamp",
    float: "double",
    Float32: "float",
    str: "longstr",
    bytes: "binary",
    list: "array",
    dict: "table",
    type(None): "void",
}


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool | Timestamp)


def type_name(value: object) -> str:
    """The name of a field value's type in RabbitMQ's texts."""
    if type(value) is int and not -(1 << 31) <= value < 1 << 31:
        return "long"
    return _TYPE_NAMES.get(type(value), "longstr")


def _not_negative(value: Any) -> str:
    if not _is_integer(value):
        return f'"expected integer, got {type_name(value)}"'
    return f"{{value_negative,{value}}}" if value < 0 else ""


def _time(value: Any) -> str:
    problem = _not_negative(value)
    return f"{{value_too_large,{value}}}" if not problem and value > TIME_MS_MAX else problem


def _expires(value: Any) -> str:
    return "{value_zero,0}" if _is_integer(value) and value == 0 else _time(value)


def _priority(value: Any) -> str:
    problem = _not_negative(value)
    return f"{{max_value_exceeded,{value}}}" if not problem and value > PRIORITY_MAX else problem


def _text(value: Any) -> str:
    return "" if isinstance(value, str) else f"{{unacceptable_type,{type_name(value)}}}"


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else f"{{unacceptable_type,{type_name(value)}}}"


def _overflow(value: Any) -> str:
    return "" if value in OVERFLOWS else "invalid_overflow"


def _strategy(value: Any) -> str:
    return "" if value in ("at-most-once", "at-least-once") else "invalid_dlx_strategy"


def _kind(value: Any) -> str:
    return "" if value in ("classic", "quorum", "stream") else f"\"unsupported queue type '{value}'\""


def _mode(value: Any) -> str:
    return "" if value in ("default", "lazy") else f"\"unsupported queue mode '{value}'\""


def _topic_from(value: Any) -> str:
    try:
        topic_start(value, 0)
    except ValueError as error:
        return f'"{error}"'
    return ""


_CHECKS: dict[str, Callable[[Any], str]] = {
    "x-expires": _expires,
    "x-message-ttl": _time,
    "x-dead-letter-exchange": _text,
    "x-dead-letter-routing-key": _text,
    "x-dead-letter-strategy": _strategy,
    "x-max-length": _not_negative,
    "x-max-length-bytes": _not_negative,
    "x-overflow": _overflow,
    "x-max-priority": _priority,
    "x-single-active-consumer": _flag,
    "x-consumer-timeout": _not_negative,
    "x-delivery-limit": lambda value: "" if value == -1 else _not_negative(value),
    "x-queue-type": _kind,
    "x-queue-mode": _mode,
    TOPIC: _text,
    TOPIC_FROM: _topic_from,
    TOPIC_FILTER: _text,
}
"""Argument -> what is wrong with a value; empty: nothing. Others are accepted and mean nothing."""


def _age(value: Any) -> str:
    try:
        age_ms(value if isinstance(value, str) else "")
    except ValueError:
        return f"\"'{value}' is no time such as 7D or 90m\""
    return ""


_STREAM_CHECKS: dict[str, Callable[[Any], str]] = {
    "x-queue-type": _kind,
    "x-max-length-bytes": _not_negative,
    "x-max-age": _age,
    "x-stream-max-segment-size-bytes": _not_negative,
    "x-stream-filter-size-bytes": _not_negative,
    "x-initial-cluster-size": _not_negative,
    "x-queue-leader-locator": _text,
}
"""As _CHECKS, for streams. The last three are about replicas and RabbitMQ's files, and mean nothing."""
_TEXTS_WITHOUT_VALUE = frozenset({"x-dead-letter-exchange", "x-dead-letter-routing-key"})
"""Arguments about whose type RabbitMQ has a text of its own."""
_OF_QUORUM_ALONE = frozenset({"x-delivery-limit", "x-dead-letter-strategy", "x-consumer-timeout"})
_OF_CLASSIC_ALONE = frozenset({"x-max-priority", "x-queue-mode"})

POLICY_KEYS = (
    "expires",
    "message-ttl",
    "dead-letter-exchange",
    "dead-letter-routing-key",
    "max-length",
    "max-length-bytes",
    "overflow",
    "delivery-limit",
    "consumer-timeout",
)
"""What a policy may say of queues; each is an argument with `x-` before it, too."""
LOWEST_WINS = frozenset(
    {"expires", "message-ttl", "max-length", "max-length-bytes", "delivery-limit", "consumer-timeout"}
)
"""Of several of these, the lowest is in effect."""


def kind_of(arguments: FieldTable) -> str:
    """The type that a declaration asks for."""
    return str(arguments.get("x-queue-type") or "classic")


def check_arguments(
    name: str, vhost: str, arguments: FieldTable, *, durable: bool, exclusive: bool, auto_delete: bool
) -> None:
    """Check a declaration. AmqpError: 406."""
    kind = kind_of(arguments)
    if kind == "stream":
        _refuse_properties(name, vhost, durable=durable, exclusive=exclusive, auto_delete=auto_delete)
        _refuse_arguments(name, vhost, arguments, _CHECKS.keys() - _STREAM_CHECKS.keys(), kind)
    checks = _STREAM_CHECKS if kind == "stream" else _CHECKS
    for argument, value in arguments.items():
        check = checks.get(argument)
        problem = check(value) if check is not None else ""
        if problem and argument in _TEXTS_WITHOUT_VALUE:
            raise invalid_type(argument, value, "queue", name, vhost)
        if problem:
            raise invalid_argument(argument, name, vhost, problem)
    if "x-dead-letter-routing-key" in arguments and "x-dead-letter-exchange" not in arguments:
        raise invalid_argument("x-dead-letter-routing-key", name, vhost, "routing_key_but_no_dlx_defined")
    _check_topic(name, vhost, arguments)
    if kind == "quorum":
        _refuse_properties(name, vhost, durable=durable, exclusive=exclusive, auto_delete=auto_delete)
        _refuse_arguments(name, vhost, arguments, _OF_CLASSIC_ALONE, kind)
        if arguments.get("x-overflow") == "reject-publish-dlx":
            raise invalid_argument("x-overflow", name, vhost, "{unsupported,reject-publish-dlx}")


def _check_topic(name: str, vhost: str, arguments: FieldTable) -> None:
    """406 for what goes only with a topic, or does not go with it."""
    if TOPIC in arguments:
        for argument in _NOT_WITH_TOPIC:
            if argument in arguments:
                raise invalid_argument(argument, name, vhost, '"not of a queue of a topic"')
    for argument in (TOPIC_FROM, TOPIC_FILTER):
        if argument in arguments and TOPIC not in arguments:
            raise invalid_argument(argument, name, vhost, f'"only of a queue with {TOPIC}"')


def topic_start(value: object, now_ms: int) -> int | None:
    """Where a queue of a topic begins: 0 at the first event, None at the end, else at this time, ms since
    1970. ValueError."""
    kind, number = consumer_start(value, now_ms)
    if kind not in (FIRST, NEXT, TIMESTAMP):
        raise ValueError("a topic has partitions: first, next, a timestamp, or a time before now such as 5m")
    return None if kind == NEXT else max(number, 0)


def _refuse_properties(name: str, vhost: str, *, durable: bool, exclusive: bool, auto_delete: bool) -> None:
    """406 for what only classic queues can be."""
    for field, is_wrong in (
        ("non-durable", not durable),
        ("exclusive-owner", exclusive),
        ("auto-delete", auto_delete),
    ):
        if is_wrong:
            raise amqp_error(406, f"invalid property '{field}' for queue '{name}' in vhost '{vhost}'")


def _refuse_arguments(name: str, vhost: str, arguments: FieldTable, refused: Set[str], kind: str) -> None:
    """406 for arguments that queues of this type do not have."""
    for argument in sorted(refused & arguments.keys()):
        raise amqp_error(
            406,
            f"invalid arg '{argument}' for queue '{name}' in vhost '{vhost}'"
            f" of queue type rabbit_{kind}_queue",
        )


def invalid_type(argument: str, value: object, what: str, name: str, vhost: str) -> AmqpError:
    """406: an argument that is no text."""
    return amqp_error(
        406, f"invalid type '{type_name(value)}' for arg '{argument}' in {what} '{name}' in vhost '{vhost}'"
    )


def check_equivalent(name: str, vhost: str, received: FieldTable, current: FieldTable) -> None:
    """Check that a declaration has the arguments that the queue has. Those that its type does not know are
    not compared. AmqpError: 406."""
    kind = kind_of(current)
    compared = _STREAM_CHECKS if kind == "stream" else _CHECKS
    unknown = _OF_QUORUM_ALONE if kind == "classic" else _OF_CLASSIC_ALONE
    for argument in compared:
        if argument not in unknown:
            _compare(argument, "queue", name, vhost, received, current)


def check_same_argument(
    argument: str, what: str, name: str, vhost: str, received: FieldTable, current: FieldTable
) -> None:
    """Check that one argument is the same in both. AmqpError: 406."""
    _compare(argument, what, name, vhost, received, current)


def _compare(
    argument: str, what: str, name: str, vhost: str, received: FieldTable, current: FieldTable
) -> None:
    new, old = received.get(argument), current.get(argument)
    is_same = new == old and (
        (_is_integer(new) and _is_integer(old)) or type(new) is type(old) or (new is None and old is None)
    )
    if argument == "x-queue-type":
        is_same = (new or "classic") == (old or "classic")
    if not is_same:
        raise inequivalent(argument, what, name, vhost, _difference(new, old))


def _difference(new: object, old: object) -> str:
    if type(new) is type(old) or (_is_integer(new) and _is_integer(old)):
        return f"received '{shown(new)}' but current is '{shown(old)}'"
    return f"received {_described(new)} but current is {_described(old)}"


def _described(value: object) -> str:
    return "none" if value is None else f"the value '{shown(value)}' of type '{type_name(value)}'"


def shown(value: object) -> str:
    """A value in RabbitMQ's texts."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def effective_arguments(
    arguments: FieldTable, policy: Mapping[str, Any], operator_policy: Mapping[str, Any]
) -> dict[str, Any]:
    """What is in effect, by the names of policies: the argument before the policy, and of numbers the lowest
    of all three."""
    effective: dict[str, Any] = {}
    for key in POLICY_KEYS:
        given: list[Any] = [
            source[name]
            for source, name in ((arguments, f"x-{key}"), (policy, key), (operator_policy, key))
            if source.get(name) is not None
        ]
        if given:
            effective[key] = min(given) if key in LOWEST_WINS else given[0]
    return effective


def settings_of(kind: str, arguments: FieldTable, effective: Mapping[str, Any]) -> SubscriptionSettings:
    """The settings of the queue's subscription. With a time to live of 0, what consumers that are there have
    no room for expires after a moment; without a consumer it does not get to the queue (`publisher.py`)."""
    limit = int(effective.get("delivery-limit", DELIVERY_LIMIT_DEFAULT if kind == "quorum" else -1))
    has_limit = kind == "quorum" and limit >= 0
    ttl_ms = effective.get("message-ttl")
    priority_max = int(arguments.get("x-max-priority") or 0) if kind == "classic" else 0  # type: ignore[arg-type] # checked
    topic = arguments.get(TOPIC)
    query = arguments.get(TOPIC_FILTER)
    return SubscriptionSettings(
        topics=(topic,) if isinstance(topic, str) else (),
        filter=query if isinstance(query, str) else "",
        from_latest=isinstance(topic, str) and arguments.get(TOPIC_FROM, "next") == "next",
        in_flight_max=IN_FLIGHT_MAX,
        pin_ms=-1,
        priority_max=priority_max,
        ttl_ms=0 if ttl_ms is None else int(ttl_ms) or LIVE_MOMENT_MS,
        failures_max=limit + 1 if has_limit else 0,
        single_active=arguments.get("x-single-active-consumer") is True,
        length_max=-1 if topic else min(int(effective.get("max-length", -1)), LENGTH_MAX),
        length_bytes_max=-1 if topic else min(int(effective.get("max-length-bytes", -1)), LENGTH_MAX),
        overflow=str(effective.get("overflow", OVERFLOWS[0])),
        dead_letters_to_sink="dead-letter-exchange" in effective,
    )

"""What RabbitMQ refuses of the properties of a message, checked before it is published.

Owns: the rules of expiration, user-id, and of the headers CC and BCC, with their texts. Refuses: routing.
"""

from __future__ import annotations

import re

from mainstem.amqp.errors import amqp_error
from mainstem.amqp.field_values import FieldValue
from mainstem.amqp.properties import Properties

EXPIRATION_MS_MAX = (1 << 32) - 1
MESSAGE_BYTES_MAX = 16 << 20
_TYPE_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "bool"),
    (int, "signedint"),
    (str, "longstr"),
    (float, "double"),
    (bytes, "binary"),
    (dict, "table"),
)
_LEADING_NUMBER = re.compile(r"[+-]?\d+")


def check_properties(properties: Properties, user: str) -> None:
    """Raise 406 unless a message of this user may have these properties."""
    if properties.user_id is not None and properties.user_id != user:
        raise amqp_error(
            406, f"user_id property set to '{properties.user_id}' but authenticated user was '{user}'"
        )
    if properties.expiration is not None:
        _check_expiration(properties.expiration)
    for name in ("CC", "BCC") if properties.headers else ():
        assert properties.headers is not None
        if name in properties.headers and not isinstance(properties.headers[name], list):
            kind = _type_name(properties.headers[name])
            raise amqp_error(406, f'invalid message: {{unacceptable_type_in_header,"{name}",{kind}}}')


def _type_name(value: FieldValue) -> str:
    """The word of RabbitMQ for the type of a value."""
    for kind, word in _TYPE_NAMES:
        if isinstance(value, kind):
            return word
    return "void"


def check_size(size: int) -> None:
    """Raise 406 if a message is too large."""
    if size > MESSAGE_BYTES_MAX:
        raise amqp_error(406, f"message size {size} is larger than configured max size {MESSAGE_BYTES_MAX}")


def _check_expiration(text: str) -> None:
    match = _LEADING_NUMBER.match(text)
    if match is None:
        problem = "no_integer"
    elif match.end() < len(text):
        problem = f'{{leftover_string,"{text[match.end() :]}"}}'
    elif int(match.group()) < 0:
        problem = f"{{value_negative,{int(match.group())}}}"
    elif int(match.group()) > EXPIRATION_MS_MAX:
        problem = f"{{value_too_large,{int(match.group())}}}"
    else:
        return
    raise amqp_error(406, f"invalid expiration '{text}': {problem}")

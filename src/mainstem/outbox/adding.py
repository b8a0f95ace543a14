"""From the arguments of an `add` to a row: what the outboxes of all database libraries have in common.

Owns: the encoding of the arguments, and their checks. Refuses: the row's id and its table.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from mainstem.api.codec import codec_of
from mainstem.api.publishing import HeaderValues, Key, header_pairs, key_bytes
from mainstem.contract import InvalidArgument, NewEvent
from mainstem.outbox.contract import NAME_CHARS_MAX, OutboxRow
from mainstem.outbox.row_format import pack_headers

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

_ANY_JSON = codec_of(None)


class EncodesEvents(Protocol[T_contra]):
    """A topic with a model, as `Stream.topic` returns it."""

    @property
    def name(self) -> str: ...

    def new_event(
        self,
        value: T_contra,
        *,
        key: Key = None,
        headers: HeaderValues | None = None,
    ) -> NewEvent: ...


class RunsServices(Protocol):
    """A stream that runs services beside its subscribers."""

    @property
    def services(self) -> list[Any]: ...


def new_row(
    topic: EncodesEvents[T] | str,
    value: T,
    *,
    key: Key,
    headers: HeaderValues | None,
    now_ms: int,
) -> OutboxRow:
    """A row without an id. `topic`: of a stream, which encodes the value and chooses its key; or a name:
    bytes as they are, text as UTF-8, anything else as JSON. TypeError, InvalidArgument: the value, the key
    or the name cannot be."""
    if isinstance(topic, str):
        name = topic
        event = NewEvent(_ANY_JSON.encode(value), key_bytes(key), header_pairs(headers))
    else:
        name = topic.name
        event = topic.new_event(value, key=key, headers=headers)
    if not 0 < len(name) <= NAME_CHARS_MAX:
        raise InvalidArgument(f"a topic's name has 1 to {NAME_CHARS_MAX} characters")
    time_ms = now_ms if event.timestamp_ms is None else event.timestamp_ms
    return OutboxRow(0, name, event.key, event.value, pack_headers(event.headers), time_ms)

"""Passes the trace of an event on to what its handler publishes (W3C Trace Context), with spans if there is
OpenTelemetry.

Owns: the headers `traceparent` and `tracestate`, the trace of the handler that runs, and the names of spans
and attributes, which are those of OpenTelemetry's conventions for messaging. Refuses: to need OpenTelemetry;
without `opentelemetry-api` the headers are passed on as they came, and no span is made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

from mainstem import contract
from mainstem.contract import Headers
from mainstem.queue_contract import Delivery

if TYPE_CHECKING:
    from opentelemetry.context import Context

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)
TRACESTATE_BYTES_MAX = 512
"""A longer tracestate is not passed on: W3C Trace Context, 3.3.1.5, asks for 512 at least."""
SYSTEM = "mainstem"

_current: ContextVar[Headers] = ContextVar("mainstem_trace", default=())
_NOTHING: AbstractContextManager[Headers] = nullcontext(())


def trace_of(event: contract.Event) -> Headers:
    """The headers of an event that name its trace; none if it has none that can be read."""
    if not event.headers:
        return ()
    headers = dict(event.headers)
    parent, state = headers.get(TRACEPARENT), headers.get(TRACESTATE)
    if parent is None or not _TRACEPARENT.fullmatch(parent):
        return ()
    if not state or len(state) > TRACESTATE_BYTES_MAX:
        return ((TRACEPARENT, parent),)
    return (TRACEPARENT, parent), (TRACESTATE, state)


def with_trace(headers: Headers, trace: Headers) -> Headers:
    """The headers of an event to publish, with the trace if they have none of their own."""
    if not trace or any(name == TRACEPARENT for name, _ in headers):
        return headers
    return headers + trace


def publishing(topic: str, count: int = 1) -> AbstractContextManager[Headers]:
    """Round a call that publishes `count` events: gives the headers that those without a `traceparent` get.
    With OpenTelemetry it is a span `send TOPIC` of kind PRODUCER."""
    if _tracer() is not None:
        return _sending(topic, count)
    trace = _current.get()
    return nullcontext(trace) if trace else _NOTHING


def receiving(topic: str, group: str, deliveries: Sequence[Delivery], begin_ms: int) -> None:
    """Events came by one pull that began at this time, ms since 1970. With OpenTelemetry it is a span
    `receive TOPIC` of kind CLIENT, which links to the traces of the events."""
    if (tracer := _tracer()) is None:
        return
    from opentelemetry import trace

    attributes = _attributes("receive", topic) | {
        "messaging.consumer.group.name": group,
        "messaging.batch.message_count": len(deliveries),
    }
    tracer.start_span(
        f"receive {topic}",
        kind=trace.SpanKind.CLIENT,
        attributes=attributes,
        links=_links([delivery.event for delivery in deliveries]),
        start_time=begin_ms * 1_000_000,
    ).end()


def handling(group: str, events: Sequence[contract.Event]) -> AbstractContextManager[object]:
    """Round a call of a handler: what it publishes belongs to the trace of the event, of a list to that of
    its first event. With OpenTelemetry it is a span `process TOPIC` of kind CONSUMER; that of a list links to
    the traces of its events."""
    if _tracer() is not None:
        return _processing(group, events)
    trace = trace_of(events[0])
    return _passing_on(trace) if trace or _current.get() else _NOTHING


def has_no_trace(event: contract.Event) -> bool:
    """Whether `handling` has nothing to do for an event: no span, and no trace to pass on or to end."""
    return not event.headers and not _current.get() and _tracer() is None


@contextmanager
def _passing_on(trace: Headers) -> Iterator[None]:
    token = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(token)


# ----------------------------------------------------------------------------------------------------------
# OpenTelemetry


@cache
def _opentelemetry() -> Any:
    """OpenTelemetry's module of traces; None: it is not installed."""
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace


def _tracer() -> Any:
    """The tracer of this library; None: the program has no OpenTelemetry, or has not set it up."""
    trace = _opentelemetry()
    if trace is None:
        return None
    if getattr(trace, "_TRACER_PROVIDER", trace) is None and not _comes_from_environment():
        return None  # as below; asking costs 2 µs, for it looks at the environment each time
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        return None  # it would make spans that go nowhere, for 15 µs each
    return _tracer_of(provider)


@cache
def _comes_from_environment() -> bool:
    """Whether a variable of the environment names the provider, which is made when it is first asked for."""
    from opentelemetry.environment_variables import OTEL_PYTHON_TRACER_PROVIDER

    return OTEL_PYTHON_TRACER_PROVIDER in os.environ


@cache
def _tracer_of(provider: Any) -> Any:
    from mainstem.version import __version__

    return provider.get_tracer("mainstem", __version__)


def _attributes(operation: str, topic: str) -> dict[str, str | int]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
    }


@contextmanager
def _sending(topic: str, count: int) -> Iterator[Headers]:
    from opentelemetry import propagate, trace

    attributes = _attributes("send", topic)
    if count != 1:
        attributes["messaging.batch.message_count"] = count
    with _tracer().start_as_current_span(
        f"send {topic}", kind=trace.SpanKind.PRODUCER, attributes=attributes
    ):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        yield tuple((name, text.encode()) for name, text in carrier.items()) or _current.get()


@contextmanager
def _processing(group: str, events: Sequence[contract.Event]) -> Iterator[None]:
    from opentelemetry import trace

    first = events[0]
    attributes = _attributes("process", first.topic) | {"messaging.consumer.group.name": group}
    is_list = len(events) > 1
    if is_list:
        attributes["messaging.batch.message_count"] = len(events)
    else:
        attributes["messaging.destination.partition.id"] = str(first.partition)
        attributes["messaging.kafka.offset"] = first.offset
        if first.key is not None:
            attributes["messaging.kafka.message.key"] = first.key.decode(errors="backslashreplace")
    with (
        _passing_on(trace_of(first)),
        _tracer().start_as_current_span(
            f"process {first.topic}",
            context=_context_of(first),
            kind=trace.SpanKind.CONSUMER,
            attributes=attributes,
            links=_links(events) if is_list else None,
        ),
    ):
        yield


def failed(error: BaseException | None, reason: str) -> None:
    """The handler that runs has failed: said of its span, if there is one."""
    if _tracer() is None:
        return
    from opentelemetry import trace

    span = trace.get_current_span()
    span.set_status(trace.Status(trace.StatusCode.ERROR, reason))
    if error is not None:
        span.set_attribute("error.type", type(error).__qualname__)
        span.record_exception(error)


def _context_of(event: contract.Event) -> Context:
    from opentelemetry import propagate

    texts = {name: (value or b"").decode(errors="replace") for name, value in event.headers}
    return propagate.extract(texts)


def _links(events: Sequence[contract.Event]) -> list[Any]:
    from opentelemetry import trace

    spans = [trace.get_current_span(_context_of(event)).get_span_context() for event in events]
    return [trace.Link(span) for span in spans if span.is_valid]

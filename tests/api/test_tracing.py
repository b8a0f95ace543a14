"""The trace of an event reaches what its handler publishes, with spans where there is OpenTelemetry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NoOpTracerProvider

from mainstem.api import tracing
from mainstem.api.handler import Failed, HandlerCall
from mainstem.contract import Event, Headers
from mainstem.queue_contract import Delivery
from tests.api.subscriber_rig import subscriber

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACED = Event("orders", 2, 5, 0, b"ann", b"1", (("traceparent", PARENT), ("tracestate", b"a=1")))
PLAIN = Event("orders", 0, 6, 0, None, b"2")


@pytest.mark.parametrize(
    ("headers", "trace"),
    [
        ((("traceparent", PARENT),), (("traceparent", PARENT),)),
        (TRACED.headers, TRACED.headers),
        ((("traceparent", PARENT), ("tracestate", b"x" * 513)), (("traceparent", PARENT),)),
        ((("traceparent", None),), ()),
        ((("traceparent", b"ff" + PARENT[2:]),), ()),
        ((("traceparent", PARENT[:-3]),), ()),
        ((("traceparent", b"00-" + b"0" * 32 + PARENT[35:]),), ()),
        ((("traceparent", PARENT + b"\n"),), ()),
        ((("tracestate", b"a=1"),), ()),
    ],
)
def test_only_what_w3c_allows_is_a_trace(headers: Headers, trace: Headers) -> None:
    assert tracing.trace_of(Event("t", 0, 0, 0, None, None, headers)) == trace


def test_an_event_keeps_a_trace_of_its_own() -> None:
    own = (("traceparent", b"00-own"),)
    assert tracing.with_trace(own, TRACED.headers) == own
    assert tracing.with_trace((("a", b"1"),), TRACED.headers) == (("a", b"1"), *TRACED.headers)
    assert tracing.with_trace((), ()) == ()


def published() -> Headers:
    with tracing.publishing("payments") as headers:
        return headers


def run(event: Event, *, fails: bool = False) -> Headers:
    """Handle an event by a handler that publishes. Returns the headers that it adds."""
    added: list[Headers] = []

    def bill(order: str) -> None:
        added.append(published())
        if fails:
            raise ValueError("declined")

    async def handle() -> None:
        outcome = await HandlerCall(subscriber(bill)).run(event, 1)
        assert isinstance(outcome, Failed) == fails

    asyncio.run(handle())
    return added[0]


def test_without_opentelemetry_the_headers_are_passed_on_as_they_came() -> None:
    assert run(TRACED) == TRACED.headers
    assert run(PLAIN) == ()
    with tracing.handling("billing", [TRACED]), tracing.handling("billing", [PLAIN]):
        assert published() == ()
    assert published() == ()


class Spans(SpanExporter):
    """Collects the spans that have ended."""

    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.ended += spans
        return SpanExportResult.SUCCESS


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ReadableSpan]]:
    exporter = Spans()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    yield exporter.ended
    provider.shutdown()


def test_a_span_of_the_handler_continues_the_trace_and_what_it_publishes_is_below(
    spans: list[ReadableSpan],
) -> None:
    ((name, parent), *_) = run(TRACED)
    send, process = spans
    assert name == "traceparent"
    assert send.context is not None
    assert process.context is not None
    assert (parent or b"").startswith(b"00-%032x-%016x-" % (process.context.trace_id, send.context.span_id))
    assert process.context.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    assert process.parent is not None
    assert process.parent.span_id == 0xB7AD6B7169203331
    assert send.parent is not None
    assert send.parent.span_id == process.context.span_id
    assert (send.name, send.kind.name) == ("send payments", "PRODUCER")
    assert (process.name, process.kind.name) == ("process orders", "CONSUMER")
    assert process.attributes == {
        "messaging.system": "mainstem",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "orders",
        "messaging.destination.partition.id": "2",
        "messaging.consumer.group.name": "billing",
        "messaging.kafka.offset": 5,
        "messaging.kafka.message.key": "ann",
    }


def test_a_failure_is_an_error_of_the_span(spans: list[ReadableSpan]) -> None:
    run(PLAIN, fails=True)
    process = spans[-1]
    assert (process.status.status_code.name, process.status.description) == ("ERROR", "ValueError: declined")
    assert process.attributes is not None
    assert process.attributes["error.type"] == "ValueError"
    assert [event.name for event in process.events] == ["exception"]


def test_a_pull_and_a_list_link_to_the_traces_of_their_events(spans: list[ReadableSpan]) -> None:
    tracing.receiving("orders", "billing", [Delivery(TRACED, "t", 1, 0), Delivery(PLAIN, "u", 1, 0)], 1_000)
    with tracing.handling("billing", [PLAIN, TRACED]), tracing.publishing("payments", 3):
        pass
    receive, send, process = spans
    assert (receive.name, receive.kind.name, receive.start_time) == (
        "receive orders",
        "CLIENT",
        1_000_000_000,
    )
    for span in (receive, process):
        assert [f"{link.context.span_id:x}" for link in span.links] == ["b7ad6b7169203331"]
        assert (span.attributes or {})["messaging.batch.message_count"] == 2
    assert (send.attributes or {})["messaging.batch.message_count"] == 3


def test_a_provider_that_is_set_later_or_named_by_the_environment_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", None)
    assert tracing.has_no_trace(PLAIN)
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", NoOpTracerProvider())
    assert not tracing.has_no_trace(PLAIN)
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", None)
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", NoOpTracerProvider)
    monkeypatch.setattr(tracing, "_comes_from_environment", lambda: True)
    assert not tracing.has_no_trace(PLAIN)


def test_an_event_without_a_trace_ends_that_of_an_event_round_it() -> None:
    with tracing.handling("billing", [TRACED]):
        assert not tracing.has_no_trace(PLAIN)
    assert tracing.has_no_trace(PLAIN)
    assert not tracing.has_no_trace(TRACED)

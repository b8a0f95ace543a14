"""Declares a subscriber: a function, and which events it gets, in which form.

Owns: the options of a subscriber, the decorators with their types, and what a function's single parameter
says: the payload, `Event[payload]`, or a list of either. What cannot be right is refused where the function
is written. Refuses: to run anything; a declaration needs no connection, and the function is given back as it
is.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar, overload

from mainstem.api.codec import Codec, codec_of, name_of_model
from mainstem.api.event import Event
from mainstem.api.signals import Retry

T = TypeVar("T")
R = TypeVar("R")
AnyHandler = TypeVar("AnyHandler", bound=Callable[[Any], object])
AnyListHandler = TypeVar("AnyListHandler", bound=Callable[[list[Any]], object])

Start: TypeAlias = Literal["earliest", "latest"] | datetime
"""Where a group begins in a topic that it has not read yet."""
Around: TypeAlias = Callable[[], AbstractContextManager[None]]

CONCURRENCY_MAX = 1_000
BATCH_MAX = 10_000
WAIT_S_MAX = 600.0
TIMEOUT_S_MAX = 12 * 3600.0
"""The longest lock of an event, too."""
DEAD_SUFFIX = ".dead"
NAME_CHARACTERS_MAX = 249
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberOptions:
    """Which events a subscriber gets, and what happens when its handler fails. ValueError: out of range."""

    topic: str
    group: str
    """Subscribers of one group share the events; each group gets all of them."""
    concurrency: int = 1
    """Handlers that run at once, 1 to 1,000. Events of one key never overlap, and keep their order."""
    timeout: float | None = None
    """Seconds for one call of the handler; None: as long as it takes."""
    retry: Retry = field(default_factory=Retry)
    batch: int | None = None
    """Events in a list, at most; None: the handler gets them one by one."""
    max_wait: float = 1.0
    """Seconds that a list waits for further events after its first one."""
    start: Start = "earliest"

    def __post_init__(self) -> None:
        for what, name in (("topic", self.topic), ("group", self.group)):
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise ValueError(
                    f"the {what} {name!r}: a name has letters, digits, dots, dashes, underscores"
                )
        if len(self.dead_topic) > NAME_CHARACTERS_MAX:
            raise ValueError(f"{self.dead_topic}: this name of dead letters is longer than 249 characters")
        if not 1 <= self.concurrency <= CONCURRENCY_MAX:
            raise ValueError(f"concurrency is 1 to {CONCURRENCY_MAX:,}, not {self.concurrency}")
        if self.timeout is not None and not 0 < self.timeout <= TIMEOUT_S_MAX:
            raise ValueError(f"timeout is above 0 and at most {TIMEOUT_S_MAX:,.0f} s, not {self.timeout}")
        if self.batch is not None and not 1 <= self.batch <= BATCH_MAX:
            raise ValueError(f"batch is 1 to {BATCH_MAX:,}, not {self.batch}")
        if self.batch is not None and self.concurrency != 1:
            raise ValueError("a subscriber of lists gets one list at a time: leave out concurrency")
        if not 0 <= self.max_wait <= WAIT_S_MAX:
            raise ValueError(f"max_wait is 0 to {WAIT_S_MAX:.0f} s, not {self.max_wait}")
        if not isinstance(self.start, datetime):
            if self.start not in ("earliest", "latest"):
                raise ValueError(f'start is "earliest", "latest" or a datetime, not {self.start!r}')
        elif self.start.tzinfo is None:
            raise ValueError("start is a datetime without a time zone: say which one, such as timezone.utc")

    @property
    def name(self) -> str:
        """Name of the subscription on a mainstem server: TOPIC.GROUP."""
        return f"{self.topic}.{self.group}"

    @property
    def dead_topic(self) -> str:
        """Topic of the dead letters."""
        return self.name + DEAD_SUFFIX


@dataclass(slots=True, eq=False)
class Subscriber:
    """A function with its options, as it is declared."""

    options: SubscriberOptions
    codec: Codec[Any]
    call: Callable[[Any], Any]
    takes_event: bool
    """It gets `Event[payload]`, not the payload."""
    takes_list: bool
    is_async: bool
    """If not, it runs in a thread."""
    around: list[Around] = field(default_factory=list)
    """Entered around each call of the function, in its thread if it runs in one."""

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"{title_of(self.call)} (group {self.options.group} of topic {self.options.topic})"


class ForOne(Protocol[T]):
    """Decorates a handler of single events of a topic with a model."""

    @overload
    def __call__(self, function: Callable[[Event[T]], R], /) -> Callable[[Event[T]], R]: ...
    @overload
    def __call__(self, function: Callable[[T], R], /) -> Callable[[T], R]: ...


class ForList(Protocol[T]):
    """Decorates a handler of lists of events of a topic with a model."""

    @overload
    def __call__(self, function: Callable[[list[Event[T]]], R], /) -> Callable[[list[Event[T]]], R]: ...
    @overload
    def __call__(self, function: Callable[[list[T]], R], /) -> Callable[[list[T]], R]: ...


class ForAny(Protocol):
    """Decorates a handler of single events, whose annotation is the model."""

    def __call__(self, function: AnyHandler, /) -> AnyHandler:
        """Declare the function a subscriber. TypeError: its parameter cannot be right."""


class ForAnyList(Protocol):
    """Decorates a handler of lists of events, whose annotation has the model."""

    def __call__(self, function: AnyListHandler, /) -> AnyListHandler:
        """Declare the function a subscriber. TypeError: its parameter cannot be right."""


class Declaration(Generic[T]):
    """The decorator behind all four protocols: it makes a `Subscriber` of a function, and passes it on."""

    def __init__(
        self,
        register: Callable[[Subscriber], None],
        options: SubscriberOptions,
        codec: Codec[T] | None,
    ) -> None:
        self._register = register
        self._options = options
        self._codec = codec
        """None: the annotation of the parameter says it."""

    def __call__(self, function: Any, /) -> Any:
        """Declare the function a subscriber, and give it back. TypeError: its parameter cannot be right."""
        frame = sys._getframe(1)
        subscriber = declared(function, self._options, self._codec, frame.f_locals)
        self._register(subscriber)
        return function


def declared(
    function: Callable[[Any], Any],
    options: SubscriberOptions,
    codec: Codec[Any] | None,
    names: Mapping[str, Any] | None = None,
) -> Subscriber:
    """The subscriber that a function is. `codec`: of the topic's model; None: of what the annotation says.
    `names`: those of the place where the function is written, beside those of its module. TypeError."""
    title = title_of(function)
    annotation = _annotation_of(function, title, names or {})
    payload, takes_list = _without_list(annotation, options, title)
    takes_event = payload is Event or typing.get_origin(payload) is Event
    if takes_event:
        payload = (typing.get_args(payload) or (Any,))[0]
    has_model = payload is not inspect.Parameter.empty and payload not in (Any, object)
    if isinstance(payload, TypeVar) or (inspect.isclass(payload) and issubclass(payload, Event)):
        raise TypeError(f"{title}: {name_of_model(payload)} is no model of a payload")
    if codec is None:
        try:
            codec = codec_of(payload if has_model else None)
        except TypeError as error:
            raise TypeError(f"{title}: {error}") from None
    elif has_model:
        _check_models(codec.model, payload, title)
    return Subscriber(options, codec, function, takes_event, takes_list, _is_async(function))


def title_of(function: Callable[..., Any]) -> str:
    """The name of a function, for messages."""
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None) or repr(function)
    return str(name).replace("<locals>.", "")


def options_of(
    topic: str,
    group: str,
    *,
    concurrency: int = 1,
    timeout: float | timedelta | None = None,
    retry: Retry | None = None,
    batch: int | None = None,
    max_wait: float | timedelta = 1.0,
    start: Start = "earliest",
) -> SubscriberOptions:
    """The options as a decorator gets them. ValueError: one is out of range."""
    return SubscriberOptions(
        topic=topic,
        group=group,
        concurrency=concurrency,
        timeout=None if timeout is None else _seconds(timeout),
        retry=retry or Retry(),
        batch=batch,
        max_wait=_seconds(max_wait),
        start=start,
    )


# ----------------------------------------------------------------------------------------------------------
# the parameter


def _seconds(duration: float | timedelta) -> float:
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  an object whose call is a coroutine function
    )


def _annotation_of(function: Callable[..., Any], title: str, names: Mapping[str, Any]) -> Any:
    """The annotation of the single parameter; Parameter.empty if it has none."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{title}: a handler returns, it does not yield")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise TypeError(f"{title} is not a function with a signature") from None
    required = [given for given in parameters if _has_to_be_given(given)]
    positional = [given for given in parameters if given.kind in _POSITIONAL]
    if not positional or len(required) > 1 or (required and required[0] is not positional[0]):
        raise TypeError(
            f"{title}: a handler has one parameter, the payload or Event[payload], not {len(required)}"
        )
    parameter = positional[0]
    if not isinstance(parameter.annotation, str) and not _has_text(parameter.annotation):
        return parameter.annotation
    described: Any = function
    while isinstance(described, functools.partial):
        described = described.func
    if not inspect.isroutine(described):
        described = type(described).__call__
    try:
        return typing.get_type_hints(described, localns=dict(names))[parameter.name]
    except NameError as error:
        raise TypeError(f"{title}: its annotation {parameter.annotation!r} is not known: {error}") from None


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _has_to_be_given(parameter: inspect.Parameter) -> bool:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in variadic


def _has_text(annotation: Any) -> bool:
    """Whether an annotation has parts that are text still, such as `list["Order"]`."""
    return any(
        isinstance(part, str | typing.ForwardRef) or _has_text(part)
        for part in typing.get_args(annotation)
        if typing.get_origin(annotation) is not Literal
    )


def _without_list(annotation: Any, options: SubscriberOptions, title: str) -> tuple[Any, bool]:
    """(what is in the list, True) for a subscriber of lists; (the annotation, False) for others."""
    is_list = annotation is list or typing.get_origin(annotation) is list
    parts = typing.get_args(annotation)
    of_events = bool(parts) and (parts[0] is Event or typing.get_origin(parts[0]) is Event)
    if options.batch is None:
        if of_events:
            raise TypeError(f"{title}: it takes a list of events: say how many at most, batch=100")
        return annotation, False  # a list may be a payload: JSON has them
    if annotation is inspect.Parameter.empty or annotation in (Any, object):
        return Any, True
    if not is_list:
        raise TypeError(
            f"{title}: with batch={options.batch} it gets lists, and {name_of_model(annotation)} is none"
        )
    return (parts[0] if parts else Any), True


def _check_models(model: Any, payload: Any, title: str) -> None:
    """TypeError if a topic's values can never be what the parameter says. What is not two classes is left to
    the type checker."""
    is_union = isinstance(payload, types.UnionType) or typing.get_origin(payload) is typing.Union
    if model is None or is_union or not (inspect.isclass(model) and inspect.isclass(payload)):
        return
    if typing.get_origin(model) or typing.get_origin(payload) or typing.is_typeddict(payload):
        return
    if not issubclass(model, payload):
        raise TypeError(
            f"{title}: the topic's model is {name_of_model(model)}, and it takes {name_of_model(payload)}"
        )

"""The errors that only the Python API raises, beside those of `mainstem.contract`.

Owns: one class for each. Refuses: what a handler raises on purpose, `mainstem.api.signals`, which is no error
of the stream.
"""

from __future__ import annotations

from mainstem.contract import StreamError


class Undecodable(StreamError):
    """The error if an event's value is not of the topic's model. The message says what is wrong and where in
    the value, and does not repeat the value."""


class RequestTimeout(StreamError):
    """The error if a request had no reply in time. The event may have been handled, or may be later."""


class RequestFailed(StreamError):
    """The error if the handler of a request gave its event up. The message is the handler's reason."""


class FolderInUse(StreamError):
    """The error for opening a data folder that another process has open. The message names it where the
    system does."""

"""The error of a push request that got no answer.

It is apart from the client, so that a server without pushed subscriptions does not import that.
"""

from __future__ import annotations


class PushFailed(Exception):
    """The error of a request that got no answer. The message is for people. `was_sent`: whether anything was
    sent, so that it counts as an attempt."""

    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        super().__init__(message)
        self.was_sent = was_sent

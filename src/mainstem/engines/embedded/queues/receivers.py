"""Consumers that are attached to a subscription, and whose turn it is among them.

Owns: their order. Those with the highest priority are asked first, and those with the same one in turn; a
consumer without room is not in the line, and joins its end when it has room again. Refuses: events, and who
is active where a single consumer is (`attached.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from mainstem.attach_contract import UNANSWERED_MAX, AttachRequest, OnDeliveries, OnEnded


class EventReceiver:
    """An attached consumer. `AttachedConsumer` is what a door sees of it."""

    __slots__ = (
        "deliver",
        "ended",
        "in_line",
        "is_detached",
        "is_paused",
        "is_standby",
        "on_room",
        "request",
        "unanswered",
    )

    def __init__(
        self,
        request: AttachRequest,
        deliver: OnDeliveries,
        ended: OnEnded,
        on_room: Callable[[EventReceiver], None],
    ) -> None:
        """`on_room` is called when it may have room again."""
        self.request = request
        self.deliver = deliver
        self.ended = ended
        self.on_room = on_room
        self.unanswered = 0
        self.is_paused = False
        self.is_detached = False
        self.is_standby = False
        """Whether another consumer is the single active one."""
        self.in_line = False

    @property
    def room(self) -> int:
        """How many events it can have now."""
        if self.is_paused or self.is_detached or self.is_standby:
            return 0
        room = UNANSWERED_MAX
        if not self.request.auto_ack:
            room -= self.unanswered
            for window in self.request.windows:
                room = min(room, window.room)
        return room

    def reserve(self, count: int) -> None:
        """It is about to get events."""
        if not self.request.auto_ack:
            for window in self.request.windows:
                window.take(count)

    def release(self, count: int) -> None:
        """It does not get some of those that were reserved."""
        if not self.request.auto_ack:
            for window in self.request.windows:
                window.free(count)

    def wait_for_room(self) -> None:
        """Have `on_room` called when the window has room that has none. What else there is to wait for ends
        with a call of this consumer."""
        window = next((window for window in self.request.windows if not window.room), None)
        if window is not None:
            window.wait(self._on_window)

    def _on_window(self) -> None:
        self.on_room(self)


class ReceiverOrder:
    """The line of the consumers of a subscription that may have room."""

    def __init__(self) -> None:
        self._levels: dict[int, deque[EventReceiver]] = {}
        self._priorities: list[int] = []
        """Descending."""

    def join(self, receiver: EventReceiver) -> None:
        """It may have room: put it at the end, unless it is in the line."""
        if receiver.in_line or receiver.is_detached:
            return
        priority = receiver.request.priority
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = deque()
            self._priorities = sorted(self._levels, reverse=True)
        level.append(receiver)
        receiver.in_line = True

    def leave(self, receiver: EventReceiver) -> None:
        """It is not asked any more."""
        priority = receiver.request.priority
        level = self._levels.get(priority)
        if level is None:
            return
        if receiver.in_line:
            level.remove(receiver)
            receiver.in_line = False
        if not level:
            del self._levels[priority]
            self._priorities.remove(priority)

    def next(self) -> EventReceiver | None:
        """Whose turn it is; None: none has room."""
        for priority in self._priorities:
            level = self._levels[priority]
            while level:
                receiver = level[0]
                if receiver.room:
                    return receiver
                level.popleft()
                receiver.in_line = False
                receiver.wait_for_room()
        return None

    def serve(self, receiver: EventReceiver) -> None:
        """It had its turn: the next of its level is the first now."""
        self._levels[receiver.request.priority].rotate(-1)

    def plan(self, count: int) -> list[EventReceiver]:
        """Who gets each of the next events, at most this number of them: the room for these is reserved."""
        plan: list[EventReceiver] = []
        while len(plan) < count:
            receiver = self.next()
            if receiver is None:
                break
            # Alone in its line, it gets all that it has room for.
            alone = len(self._levels[receiver.request.priority]) == 1
            share = min(receiver.room, count - len(plan)) if alone else 1
            receiver.reserve(share)
            plan += [receiver] * share
            self.serve(receiver)
        return plan

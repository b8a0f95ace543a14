"""The inbox of a Django project: an event that is delivered again is handled only once.

    with transaction.atomic():
        if inbox.first_time(event, group="ledger"):
            Entry.objects.create(...)

Owns: its statements. Refuses: effects outside of the database, which no transaction takes back.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

from django.db import DEFAULT_DB_ALIAS, IntegrityError, connections, transaction

from mainstem.clock import BlockingClock
from mainstem.contract import InvalidArgument
from mainstem.django.models import InboxEvent
from mainstem.outbox.contract import NAME_CHARS_MAX, HasId


class Inbox:
    """The events that groups have handled, in the database `using`."""

    def __init__(self, *, using: str = DEFAULT_DB_ALIAS) -> None:
        self.using = using
        self._clock = BlockingClock()

    def first_time(self, event: HasId, *, group: str) -> bool:
        """Whether `group` handles the event for the first time. If so, note it in the current transaction:
        if that rolls back, the next delivery is the first time again. Another transaction that handles the
        event at this moment is waited for. InvalidArgument: there is no transaction; the group's name."""
        if not 0 < len(group) <= NAME_CHARS_MAX:
            raise InvalidArgument(f"a group's name has 1 to {NAME_CHARS_MAX} characters")
        if not connections[self.using].in_atomic_block:
            raise InvalidArgument("an inbox notes an event with its effect: call it in transaction.atomic()")
        raw = event.id.encode("utf-8", "surrogatepass")
        entry = InboxEvent(
            digest=hashlib.sha256(group.encode() + b"\n" + raw).hexdigest(),
            group_name=group,
            event_id=raw.decode("utf-8", "replace").replace("\0", "\ufffd"),
            time_ms=self._clock.wall_ms(),
        )
        try:
            with transaction.atomic(using=self.using):
                entry.save(force_insert=True, using=self.using)
        except IntegrityError:
            return False
        return True

    def purge(self, *, older_than: timedelta) -> int:
        """Forget what was handled before this time, and return how many events. Not before retention has
        deleted them from their topics, or a replay handles them again."""
        before_ms = self._clock.wall_ms() - older_than // timedelta(milliseconds=1)
        deleted: int = InboxEvent.objects.using(self.using).filter(time_ms__lt=before_ms).delete()[0]
        return deleted

"""The outbox and the inbox of Django, on SQLite, in this process."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections, transaction

from mainstem.contract import EventTooLarge, InvalidArgument, NotReachable, RelayLost
from tests.outbox.list_log import ListLog

if not settings.configured:
    settings.configure(
        INSTALLED_APPS=["mainstem.django"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "replaced by the fixture"}},
        USE_TZ=True,
    )
    django.setup()

from mainstem.django.inbox import Inbox
from mainstem.django.models import InboxEvent, OutboxEvent, OutboxMark
from mainstem.django.outbox import Outbox

FIRST = SimpleNamespace(id="orders/0/7")


@pytest.fixture(autouse=True)
def database(tmp_path: Path) -> Iterator[None]:
    connections.close_all()
    connections["default"].settings_dict["NAME"] = connections.settings["default"]["NAME"] = str(
        tmp_path / "django.db"
    )
    call_command("migrate", verbosity=0)
    yield
    connections.close_all()


def drain(outbox: Outbox, log: Any) -> int:
    return asyncio.run(outbox.new_relay(settle_s=0.0).drain(log, timeout_s=0.0))


def test_events_are_published_if_their_transaction_commits() -> None:
    outbox, log = Outbox("shop"), ListLog(1)
    with transaction.atomic():
        outbox.add("orders", {"id": 1}, key="ann", headers={"a": "b"})
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        outbox.add("orders", {"id": 2 // 0})
    with pytest.raises(RuntimeError), transaction.atomic():
        outbox.add("orders", {"id": 3})
        raise RuntimeError
    assert drain(outbox, log) == 1
    (event,) = log.all_of("orders")
    assert (event.key, event.value) == (b"ann", b'{"id":1}')
    assert event.headers == (("a", b"b"), ("mainstem-outbox", b"shop/1"))
    assert OutboxEvent.objects.count() == 0


def test_each_source_has_its_own_relay() -> None:
    shop, mail, log = Outbox("shop"), Outbox("mail"), ListLog(1)
    shop.add("orders", b"1")
    mail.add("orders", b"2")
    assert drain(mail, log) == 1
    assert [event.value for event in log.all_of("orders")] == [b"2"]
    assert drain(shop, log) == 1


def test_what_a_relay_published_and_did_not_delete_is_recalled() -> None:
    outbox, log = Outbox("shop"), ListLog(1)

    def lose(topic: str, events: object) -> None:
        raise NotReachable("no answer")

    outbox.add("orders", b"1")
    log.after = lose
    with pytest.raises(NotReachable):
        drain(outbox, log)
    log.after = None
    assert OutboxMark.objects.get().is_open
    assert drain(outbox, log) == 1
    assert len(log.all_of("orders")) == 1
    assert not OutboxMark.objects.get().is_open


def test_a_refused_row_stays_with_its_reason() -> None:
    outbox, log = Outbox("shop"), ListLog(1)

    def refuse(topic: str, events: object) -> None:
        raise EventTooLarge("too large")

    log.before = refuse
    outbox.add("orders", b"1")
    assert drain(outbox, log) == 0
    assert OutboxEvent.objects.get().refused == "too large"


def test_one_relay_at_a_time() -> None:
    outbox, log = Outbox("shop"), ListLog(1)

    async def run() -> None:
        relay = outbox.new_relay(settle_s=0.0)
        task = asyncio.ensure_future(relay.run(log))
        async with asyncio.timeout(10):
            while not relay.is_active:
                await asyncio.sleep(0.002)
            with pytest.raises(RelayLost, match="another relay"):
                await outbox.new_relay().drain(log, timeout_s=0.0)
            await asyncio.to_thread(outbox.add, "orders", b"1")
            while not log.all_of("orders"):
                await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.wait({task})
        await asyncio.to_thread(connections.close_all)

    asyncio.run(run())
    assert len(log.all_of("orders")) == 1


def test_an_inbox_notes_an_event_with_the_transaction() -> None:
    inbox = Inbox()
    with pytest.raises(RuntimeError), transaction.atomic():
        assert inbox.first_time(FIRST, group="ledger")
        raise RuntimeError
    with transaction.atomic():
        assert inbox.first_time(FIRST, group="ledger")
        assert not inbox.first_time(FIRST, group="ledger")
        assert inbox.first_time(FIRST, group="mail")
        assert inbox.first_time(SimpleNamespace(id="caf\udce9\0" * 300), group="mail")
    assert inbox.purge(older_than=timedelta(days=1)) == 0
    assert inbox.purge(older_than=timedelta(milliseconds=-1)) == 3
    assert InboxEvent.objects.count() == 0


def test_an_inbox_outside_of_a_transaction_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="atomic"):
        Inbox().first_time(FIRST, group="ledger")
    with pytest.raises(InvalidArgument, match="group"), transaction.atomic():
        Inbox().first_time(FIRST, group="")


def test_the_migration_is_that_of_the_models() -> None:
    out = io.StringIO()
    call_command("makemigrations", "mainstem", check=True, dry_run=True, stdout=out)
    assert "No changes detected" in out.getvalue()


def test_the_code_of_the_page_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "OUTBOX.md").read_text()
    names: dict[str, Any] = {}
    exec(page.partition("## Django")[2].partition("```python\n")[2].partition("```")[0], names)
    log = ListLog(1)
    names["place_order"](4711, "ann")
    assert drain(names["outbox"], log) == 1
    (event,) = log.all_of("orders")
    assert (event.key, event.value) == (b"ann", b'{"id":4711}')
    for _ in range(2):
        names["book"](FIRST)
    assert InboxEvent.objects.count() == 1

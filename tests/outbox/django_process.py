"""The outbox and the inbox of Django on a database server: `python -m tests.outbox.django_process URL`, the
URL as SQLAlchemy has it. A process of its own, for Django is set up once in a process.
"""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections, transaction
from sqlalchemy import create_engine, make_url

from mainstem.contract import RelayLost
from tests.outbox.list_log import ListLog
from tests.outbox.test_databases import kill_other_connections, until

ROWS = 150
"""Of 70,000 bytes each: more than a batch."""


def django_database(url: str) -> dict[str, Any]:
    """The entry of DATABASES."""
    place = make_url(url)
    names: dict[str, Any] = {"NAME": place.database, "USER": place.username}
    if place.get_backend_name() == "postgresql":
        return {"ENGINE": "django.db.backends.postgresql", "HOST": place.query["host"], **names}
    import pymysql

    pymysql.version_info = (2, 2, 7, "final", 0)  # of mysqlclient, whose place it takes
    pymysql.install_as_MySQLdb()
    options = {"unix_socket": place.query["unix_socket"]}
    return {"ENGINE": "django.db.backends.mysql", "OPTIONS": options, **names}


async def relay_while_a_connection_is_lost(outbox: Any, url: str, log: ListLog) -> None:
    """Publish the rows that are there, and another one after the relay has lost its connection."""
    relay = outbox.new_relay(settle_s=0.0)
    task = asyncio.ensure_future(relay.run(log))
    await until(lambda: relay.published == ROWS)
    with pytest.raises(RelayLost, match="another relay"):
        await outbox.new_relay().drain(log, timeout_s=0.0)
    await asyncio.to_thread(kill_other_connections, create_engine(url))
    await until(lambda: relay.last_error.startswith("the database: "))
    await asyncio.to_thread(outbox.add, "orders", b"the last")
    await asyncio.to_thread(connections.close_all)
    await until(lambda: relay.published == ROWS + 1)
    task.cancel()
    await asyncio.wait({task})
    assert await outbox.new_relay().drain(log, timeout_s=0.0) == 0


def main(url: str) -> None:
    settings.configure(
        INSTALLED_APPS=["mainstem.django"], DATABASES={"default": django_database(url)}, USE_TZ=True
    )
    django.setup()
    from mainstem.django.inbox import Inbox
    from mainstem.django.models import OutboxEvent
    from mainstem.django.outbox import Outbox

    call_command("migrate", verbosity=0)
    outbox, inbox, log = Outbox("shop"), Inbox(), ListLog()
    with transaction.atomic():
        for number in range(ROWS):
            outbox.add("orders", b"x" * 70_000, key=f"key-{number}")
        news = [
            inbox.first_time(SimpleNamespace(id=event_id), group="ledger")
            for event_id in ("a/1", "A/1", "a/1")
        ]
    assert news == [True, True, False]
    connections.close_all()
    asyncio.run(relay_while_a_connection_is_lost(outbox, url, log))
    assert len(log.all_of("orders")) == ROWS + 1
    assert OutboxEvent.objects.count() == 0
    connections.close_all()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The outbox and the inbox on SQLAlchemy: two tables in an application's MetaData, in its own transactions.

    outbox, inbox = Outbox(metadata, "shop"), Inbox(metadata)
    async with sessions.begin() as session:
        session.add(order)    # the event is published if, and only if, the order is in the database
        outbox.add(session, "orders", {"id": order.id}, key=order.customer)

Needs SQLAlchemy 2: `pip install mainstem[sqlalchemy]`. Owns: the tables and their statements. Refuses: the
relay, which `mainstem.outbox` has.
"""

from mainstem.sqlalchemy.inbox import Inbox
from mainstem.sqlalchemy.outbox import Outbox

__all__ = ["Inbox", "Outbox"]

"""Kills the services of examples/shop and its server at random while customers order; checks all promises.

    python -m tests.examples.shop_kills --minutes 10 --seed 7

Owns: who is killed and when: by the seed, though what the system makes of it is not repeatable. Refuses: to
say what was promised, see `shop_promises`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import secrets
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from unittest import mock

from examples.shop import bank, carrier, customers
from examples.shop.events import Accepted, Cart, Order, Payment, orders, payments, shipments, stream
from examples.shop.notifications import mails
from examples.shop.supervisor import SERVER, SERVICES, Supervisor
from mainstem import StreamError, Topic
from tests.examples.shop_promises import ShopFacts

T = TypeVar("T")

carts_dead = stream.topic("carts.orders.dead", Cart)
orders_dead = stream.topic("orders.payments.dead", Order)
payments_dead = stream.topic("payments.shipping.dead", Payment)

GROUPS = (
    *(("carts", "orders"), ("orders", "payments"), ("payments", "shipping")),
    *(("payments", "notifications"), ("shipments", "notifications")),
)
ORDERS_PER_S = 20.0
KILL_PAUSE_S = (0.3, 3.0)
OUTAGE_S, OUTAGE_PAUSE_S = 5.0, 20.0
SETTLE_S = 180.0
"""How long the shop has to do all that it promised, when nothing is killed any more."""


@dataclass
class ShopRun:
    """A run of the shop under fire."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    accepted: list[tuple[str, str, int]] = field(default_factory=list)
    redriven: int = 0
    redriven_until: datetime | None = None
    """Letters before this time were redriven: a second redrive of an event delivers it a second time."""
    facts: ShopFacts = field(default_factory=ShopFacts)
    left: list[str] = field(default_factory=list)
    """What is wrong at the end."""

    def __str__(self) -> str:
        facts, killed = self.facts, ", ".join(f"{name} {n}" for name, n in sorted(self.kills.items()))
        approved = sum(row[2] for row in facts.charges)
        copies = ", ".join(
            f"{len(rows) - len({row[1] for row in rows})} of {topic}"
            for topic, rows in (
                *(("orders", facts.ordered), ("payments", facts.paid)),
                ("shipments", facts.shipped),
            )
        )
        return (
            f"seed {self.seed}: {self.kills.total()} kills ({killed}); {len(self.accepted)} orders accepted,"
            f" {approved} paid, {len(facts.charges) - approved} declined, {len(facts.labels)} parcels,"
            f" {len(facts.mails)} mails; copies made, and seen through: {copies};"
            f" {len(facts.late['shipments'])} orders were dead letters, {self.redriven} redriven;"
            f" {len({row[0] for row in self.accepted})} customers' orders in order;"
            f" {len(self.left)} promises broken"
        )


async def run_shop(seed: int, seconds: float, folder: Path) -> ShopRun:
    """Run the shop, kill for this time, let it settle, and check."""
    run, rng = ShopRun(seed), random.Random(seed)
    shop = Supervisor(
        folder, kafka="127.0.0.1:0", http="127.0.0.1:0", report=lambda _: None, serve=("--durability", "os")
    )
    async with shop:
        environ = {"MAINSTEM_AT": shop.kafka, "SHOP_DATA": str(shop.folder)}
        with mock.patch.dict(os.environ, environ):
            async with stream:
                async with ordering(run, rng):
                    await kill_for(seconds, shop, rng, run.kills)
                await settle(run)
    codes = {name: process.returncode for name, process in shop.processes.items()}
    run.left += [f"{name} ended with code {code} when it was stopped" for name, code in codes.items() if code]
    return run


@contextlib.asynccontextmanager
async def ordering(run: ShopRun, rng: random.Random) -> AsyncIterator[None]:
    """Customers who order; at the end, each waits for the reply to what it has asked for."""
    stop = asyncio.Event()

    def accepted(cart: Cart, reply: Accepted) -> None:
        run.accepted.append((cart.customer, reply.order, reply.total))

    pause_s = len(customers.NAMES) / ORDERS_PER_S
    tasks = [
        asyncio.ensure_future(
            customers.shop_for_a_while(
                name, random.Random(rng.getrandbits(64)), lambda: pause_s, stop, accepted
            )
        )
        for name in customers.NAMES
    ]
    try:
        yield
        stop.set()
        await asyncio.wait_for(asyncio.gather(*tasks), SETTLE_S)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def kill_for(seconds: float, shop: Supervisor, rng: random.Random, kills: Counter[str]) -> None:
    """SIGKILL for the server and the services in a random order, again and again; and a bank that is down now
    and then."""
    loop = asyncio.get_running_loop()
    end_s, outage_s = loop.time() + seconds, loop.time() + OUTAGE_PAUSE_S
    turn: list[str] = []
    while loop.time() < end_s:
        await asyncio.sleep(rng.uniform(*KILL_PAUSE_S))
        turn = turn or rng.sample((SERVER, *SERVICES), len(SERVICES) + 1)
        name = turn.pop()
        if shop.processes[name].returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended just now
                # Process.kill() would look first whether it has ended, and take its exit code from asyncio.
                os.kill(shop.processes[name].pid, signal.SIGKILL)
                kills[name] += 1
        if loop.time() > outage_s:
            bank.be_down(OUTAGE_S)
            outage_s = loop.time() + OUTAGE_PAUSE_S
    bank.be_down(0)
    for town in customers.UNKNOWN_TOWNS:
        carrier.learn(town)


async def settle(run: ShopRun) -> None:
    """Redrive what was given up until every subscription is done and every promise holds, or time is up."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + SETTLE_S
    while True:
        try:
            run.left = await outstanding(run)
            run.facts = await facts_of(run.accepted)
            run.left += run.facts.problems()
        except StreamError as error:  # the server starts still
            run.left = [str(error)]
        if not run.left or loop.time() > deadline_s:
            return
        await asyncio.sleep(1)


async def outstanding(run: ShopRun) -> list[str]:
    """Redrive all dead letters. Returns the subscriptions that have work."""
    begin = datetime.now(UTC)
    for topic, group in GROUPS:
        run.redriven += (await stream.redrive(topic, group=group, since=run.redriven_until)).published
    run.redriven_until = begin
    assert stream.backend.queues is not None
    totals = await stream.backend.queues.subscription_totals([f"{topic}.{group}" for topic, group in GROUPS])
    assert len(totals) == len(GROUPS)
    return [f"{total.name}: {total.depth.outstanding} to do" for total in totals if total.depth.outstanding]


async def facts_of(accepted: Sequence[tuple[str, str, int]]) -> ShopFacts:
    """What the topics and the books say now."""
    late_orders = {event.id async for event in carts_dead.read()}
    late_payments = late_orders | {order.id for order in await values(orders_dead)}
    late_shipments = late_payments | {payment.order for payment in await values(payments_dead)}
    return ShopFacts(
        accepted=list(accepted),
        ordered=[(order.customer, order.id) for order in await values(orders)],
        paid=[(payment.customer, payment.order, payment.state) for payment in await values(payments)],
        shipped=[(parcel.customer, parcel.order, parcel.tracking) for parcel in await values(shipments)],
        charges=[(charge.key, charge.amount, charge.is_approved) for charge in bank.charges.all()],
        labels=[(label.order, label.tracking) for label in carrier.labels.all()],
        mails=[mail.order for mail in mails.all()],
        late={"orders": late_orders, "payments": late_payments, "shipments": late_shipments},
    )


async def values(topic: Topic[T]) -> list[T]:
    """All values of a topic."""
    return [event.value async for event in topic.read()]


def main(arguments: Sequence[str]) -> int:
    """The command line. Returns 1 if a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.examples.shop_kills")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31))
    parser.add_argument("--folder", type=Path, help="for data and logs, which stay; else they are deleted")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        run = asyncio.run(run_shop(options.seed, options.minutes * 60, folder))
    print("\n".join([*run.left[:20], str(run)]))
    return 1 if run.left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

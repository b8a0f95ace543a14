"""The whole shop with one command: `make demo`, or `python -m examples.shop.demo`.

Starts a server of its own with the console, the four services and customers; what dies is started again. And
it plays the operator: now and then the bank is down, and afterwards the dead letters are delivered again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from examples.shop import bank, carrier
from examples.shop.customers import UNKNOWN_TOWNS
from examples.shop.events import stream
from examples.shop.notifications import mails
from examples.shop.supervisor import SERVER, SERVICES, StartFailed, Supervisor
from mainstem import StreamError

REPORT_S = 15.0
FIRST_OUTAGE_S = 40.0
OUTAGE_S = 25.0
REPAIR_S = 30.0
"""From the end of an outage to the redrive: time to look at the dead letters in the console."""
PAUSE_S = 90.0


def report(line: str) -> None:
    """Print a line for people."""
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def introduction(shop: Supervisor) -> str:
    """What a visitor wants to know."""
    console = f"http://{shop.http}/#"
    pids = ", ".join(f"{name} {shop.processes[name].pid}" for name in (SERVER, *SERVICES))
    return f"""
The shop is open. Its console:

    {console}/topics/orders?tab=tail           orders as they come
    {console}/subscriptions/orders.payments    the work of payments: retries, dead letters, redrive
    {console}/search?topics=orders             search, also `address.town:Atlantis`; an order's trace

Kill what you like with kill -9; no order is lost, and none is charged twice:
    {pids}

Data and logs are in {shop.folder}. Ctrl-C closes the shop.
"""


async def count_for_ever() -> None:
    """Report what the shop has done, all runs on this folder together."""
    while True:
        await asyncio.sleep(REPORT_S)
        charges = await asyncio.to_thread(bank.charges.all)
        paid = sum(charge.is_approved for charge in charges)
        shipped, sent = await asyncio.to_thread(lambda: (len(carrier.labels.all()), len(mails.all())))
        report(f"{paid:,} orders paid, {len(charges) - paid:,} declined; {shipped:,} parcels, {sent:,} mails")


async def redrive(topic: str, group: str, where: str = "", since: datetime | None = None) -> None:
    """Deliver dead letters again, as the console's button and `mainstem queues redrive` do."""
    try:
        async with stream:
            done = await stream.redrive(topic, group=group, where=where, since=since)
    except StreamError as error:  # somebody has killed the server just now: the next time
        report(f"no redrive of {topic}.{group}: {error}")
    else:
        report(f"{done.published} dead letters of {topic}.{group} are delivered again")


async def operate(shop: Supervisor) -> None:
    """The troubles of a shop, and what an operator does about them."""
    towns = iter(UNKNOWN_TOWNS)
    await asyncio.sleep(FIRST_OUTAGE_S)
    while True:
        begin = datetime.now(UTC)  # earlier letters were redriven after their own outage
        bank.be_down(OUTAGE_S)
        page = f"http://{shop.http}/#/subscriptions/orders.payments"
        report(f"the bank is down for {OUTAGE_S:g} s: watch attempts and dead letters at {page}")
        await asyncio.sleep(OUTAGE_S + REPAIR_S)
        await redrive("orders", "payments", since=begin)
        town = next(towns, None)
        if town is not None:
            carrier.learn(town)
            report(f"the carrier goes to {town} now")
            await redrive("payments", "shipping", where=f"address.town:{town}")
        await asyncio.sleep(PAUSE_S)


async def run(folder: Path, kafka: str, http: str, per_second: float) -> None:
    """Run the shop until Ctrl-C, SIGTERM, or the end of the terminal. StartFailed."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with Supervisor(folder, kafka=kafka, http=http, report=report) as shop:
        # This process is a client, too: where the others find the server, and the books.
        os.environ |= {"MAINSTEM_AT": shop.kafka, "SHOP_DATA": str(shop.folder)}
        await shop.add("customers", "-m", "examples.shop.customers", f"{per_second:g}")
        print(introduction(shop), flush=True)
        tasks = [asyncio.ensure_future(work) for work in (stopped.wait(), count_for_ever(), operate(shop))]
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for task in ended:
            await task  # an error in this file closes the shop, and is shown
        report("closing: services stop, then the server")
    report("closed")


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.shop.demo", description="Run the shop.")
    parser.add_argument("--folder", type=Path, default=Path("shop-data"), help="data and logs (shop-data)")
    parser.add_argument("--kafka", default="127.0.0.1:19092", help="HOST:PORT for Kafka clients")
    parser.add_argument("--http", default="127.0.0.1:18080", help="HOST:PORT of the console")
    parser.add_argument("--rate", type=float, default=10.0, help="orders a second (10)")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(run(options.folder, options.kafka, options.http, options.rate))
    except StartFailed as error:
        print(f"the shop does not open: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

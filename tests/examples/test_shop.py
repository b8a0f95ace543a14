"""The shop of examples/shop: its rules, the checks of its promises, and the shop while it is killed."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import msgspec
import pytest

from examples.shop import bank, carrier, orders, payments, shipping
from examples.shop.events import Accepted, Cart, PostalAddress, carts
from examples.shop.notifications import mails
from examples.shop.supervisor import SERVER, SERVICES
from mainstem import RequestFailed
from mainstem.pytest_plugin import MainstemBroker
from tests.examples.shop_kills import run_shop
from tests.examples.shop_promises import ShopFacts

ROOT = Path(__file__).parents[2]
stream = payments.stream
MODULES = (orders, payments, shipping)
"""Imported, each has declared its subscribers: here they run in one process."""
CART = Cart("ada", {"coffee": 2, "mug": 1}, "4539 0000 1178 0000", PostalAddress("1 Mill Lane", "York"))
TOTAL = 2 * 1_290 + 1_600


@pytest.fixture(autouse=True)
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DATA", str(tmp_path))
    monkeypatch.setattr(bank, "ONE_WAY_S", (0.0, 0.0))


@asynccontextmanager
async def open_shop(broker: MainstemBroker) -> AsyncIterator[None]:
    async with broker.running(stream, allow_dead=True):
        yield


async def buy(cart: Cart, order: str) -> Accepted:
    return await carts.request(cart, Accepted, headers={"message-id": order}, timeout=5)


def subjects() -> list[str]:
    return sorted(mail.subject.partition(" ")[0] for mail in mails.all())


def test_an_order_is_paid_shipped_and_notified_once_however_often_it_is_asked_for(
    mainstem_broker: MainstemBroker,
) -> None:
    async def go() -> None:
        async with open_shop(mainstem_broker):
            for _ in range(2):
                assert await buy(CART, "ada-1") == Accepted("ada-1", TOTAL)
            await mainstem_broker.expect("shipments", "order:ada-1")
            await mainstem_broker.settled()

    asyncio.run(go())
    assert bank.charges.all() == [bank.CardCharge("ada-1", CART.card, TOTAL, is_approved=True)]
    assert [label.order for label in carrier.labels.all()] == ["ada-1"]
    assert subjects() == ["Parcel", "Thank"]


def test_a_card_that_is_declined_is_an_outcome_and_no_failure(mainstem_broker: MainstemBroker) -> None:
    async def go() -> None:
        async with mainstem_broker.running(stream):
            await buy(msgspec.structs.replace(CART, card=bank.DECLINED_CARD), "ada-2")
            await mainstem_broker.expect("payments", "order:ada-2 state:declined")
            await mainstem_broker.settled()

    asyncio.run(go())
    assert carrier.labels.all() == []
    assert subjects() == ["Your"]


def test_an_article_that_the_shop_does_not_have_is_refused(mainstem_broker: MainstemBroker) -> None:
    async def go() -> None:
        async with open_shop(mainstem_broker):
            with pytest.raises(RequestFailed, match="does not have tea"):
                await buy(msgspec.structs.replace(CART, articles={"tea": 1}), "ada-3")
            await mainstem_broker.settled()

    asyncio.run(go())
    assert bank.charges.all() == []


def test_an_unknown_town_is_a_dead_letter_until_the_carrier_knows_it(mainstem_broker: MainstemBroker) -> None:
    async def go() -> None:
        async with open_shop(mainstem_broker):
            await buy(
                msgspec.structs.replace(CART, address=PostalAddress("1 High Street", "Avalon")), "ada-4"
            )
            await mainstem_broker.expect("payments.shipping.dead", "order:ada-4")
            await mainstem_broker.settled()
            assert carrier.labels.all() == []
            carrier.learn("Avalon")
            done = await stream.redrive("payments", group="shipping", where="address.town:Avalon")
            assert done.published == 1
            await mainstem_broker.expect("shipments", "order:ada-4 town:Avalon")
            await mainstem_broker.settled()

    asyncio.run(go())
    assert subjects() == ["Parcel", "Thank"]


def test_what_a_bank_that_is_down_does_not_charge_is_charged_later(mainstem_broker: MainstemBroker) -> None:
    async def go() -> None:
        async with mainstem_broker.running(stream) as running:
            bank.be_down(600)
            await buy(CART, "ada-5")
            while not running.failures:
                await asyncio.sleep(0.005)
            bank.be_down(0)
            mainstem_broker.advance(2)
            await mainstem_broker.expect("payments", "order:ada-5 state:paid")
            await mainstem_broker.settled()

    asyncio.run(go())
    assert [charge.key for charge in bank.charges.all()] == ["ada-5"]


# ----------------------------------------------------------------------------------------------------------
# the checks of the shop under fire

FACTS = ShopFacts(
    accepted=[("ada", "a", 100), ("bo", "x", 300), ("ada", "b", 200)],
    ordered=[("ada", "a"), ("bo", "x"), ("ada", "b"), ("ada", "a")],
    paid=[("ada", "a", "paid"), ("ada", "a", "paid"), ("ada", "b", "declined"), ("bo", "x", "paid")],
    shipped=[("ada", "a", "T1"), ("bo", "x", "T2"), ("bo", "x", "T2")],
    charges=[("a", 100, True), ("x", 300, True), ("b", 200, False)],
    labels=[("a", "T1"), ("x", "T2")],
    mails=["a", "a", "b", "x", "x"],
)
BROKEN = {
    "b: accepted, and lost": {"ordered": FACTS.ordered[:2]},
    "x: charged 0 times": {"charges": [FACTS.charges[0], FACTS.charges[2]]},
    "a: charged 2 times": {"charges": [*FACTS.charges, ("a", 100, True)]},
    "a charge that is not of an order: orders/0/0": {"charges": [*FACTS.charges, ("orders/0/0", 1, True)]},
    "a: 1 charged, 100 promised": {"charges": [("a", 1, True), *FACTS.charges[1:]]},
    "b: approved False, and the payments say []": {"paid": [*FACTS.paid[:2], FACTS.paid[3]]},
    "a: approved True, and the payments say ['paid', 'paid', 'declined']": {
        "paid": [*FACTS.paid, ("ada", "a", "declined")]
    },
    "b: approved False, and 1 parcels": {"labels": [*FACTS.labels, ("b", "T3")]},
    "x: approved True, and 2 parcels": {"labels": [*FACTS.labels, ("x", "T3")]},
    "a: parcels ['T1'], and the shipments say []": {"shipped": FACTS.shipped[1:]},
    "x: approved True, and 1 mails": {"mails": FACTS.mails[:4]},
    "a: approved True, and 3 mails": {"mails": [*FACTS.mails, "a"]},
    "orders of ada: not in order": {"ordered": [*reversed(FACTS.ordered[:3])]},
    "payments of ada: not in order": {"paid": [*reversed(FACTS.paid)]},
}


def test_what_was_kept_is_no_problem_and_neither_are_copies() -> None:
    assert FACTS.problems() == []
    late = replace(FACTS, paid=[*reversed(FACTS.paid)], late={"payments": ["a"]})
    assert late.problems() == []


@pytest.mark.parametrize("problem", BROKEN)
def test_a_promise_that_is_broken_is_named(problem: str) -> None:
    assert replace(FACTS, **BROKEN[problem]).problems() == [problem]  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------------------
# the shop as processes


@pytest.mark.slow
def test_the_demo_serves_customers_and_leaves_nothing_behind(tmp_path: Path) -> None:
    doors = ("--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0")
    command = (sys.executable, "-m", "examples.shop.demo", "--folder", str(tmp_path / "shop"), *doors)
    printed = ""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        try:
            for line in demo.stdout:
                printed += line
                if re.search(r"[1-9][\d,]* orders paid", line):
                    break
            console = re.findall(r"http://[\d.:]+", printed)[0]
            assert httpx.get(console, trust_env=False).status_code == 200
            demo.send_signal(signal.SIGINT)
            printed += demo.stdout.read()
            assert demo.wait(60) == 0, printed
        finally:
            demo.terminate()
    assert printed.endswith("closed\n")
    processes = dict(re.findall(r"(\w+) (\d+)(?:,|$)", printed, re.MULTILINE))
    assert processes.keys() == {SERVER, *SERVICES}
    for process in processes.values():
        with pytest.raises(ProcessLookupError):
            os.kill(int(process), 0)


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_killed_at_random_the_shop_loses_no_order_and_charges_none_twice(tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(31)
    run = asyncio.run(run_shop(seed, 60, tmp_path))
    print(run)
    assert run.left == [], run
    assert run.kills.total() >= 10
    assert len(run.accepted) >= 100

"""The bank, in place of a real one: slow, sometimes down, and with idempotency keys, as payment providers
have them.
"""

from __future__ import annotations

import asyncio
import random
import time

import msgspec

from examples.shop.ledger import Book

DECLINED_CARD = "4000 0000 0000 0002"
"""The card without money."""
ONE_WAY_S = (0.005, 0.05)
"""How long a request travels, and its answer, seconds."""


class BankIsDown(Exception):
    """The bank does not answer. Nothing was charged."""


class CardCharge(msgspec.Struct, frozen=True):
    """An entry in the bank's books."""

    key: str
    card: str
    amount: int
    is_approved: bool


class Outage(msgspec.Struct, frozen=True):
    """When the bank is back, seconds since 1970."""

    until: float


charges = Book("charges", CardCharge)
outages = Book("outages", Outage)


async def charge(key: str, card: str, amount: int) -> CardCharge:
    """Charge a card. With a key that was used before, nothing is charged, and the first answer comes again.
    BankIsDown."""
    await asyncio.sleep(random.uniform(*ONE_WAY_S))  # the way to the bank
    answer = await asyncio.to_thread(_enter, key, card, amount)
    await asyncio.sleep(random.uniform(*ONE_WAY_S))  # and back: who is killed here has been charged
    return answer


def _enter(key: str, card: str, amount: int) -> CardCharge:
    outage = outages.get("latest")
    if outage is not None and time.time() < outage.until:
        raise BankIsDown("the bank does not answer")
    return charges.once(key, CardCharge(key, card, amount, is_approved=card != DECLINED_CARD))


def be_down(seconds: float) -> None:
    """Give no answers for a while; 0: be back."""
    outages.put("latest", Outage(time.time() + seconds))

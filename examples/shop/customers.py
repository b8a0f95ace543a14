"""The customers: they fill carts, and insist until each is an order.

    python -m examples.shop.customers [ORDERS_PER_SECOND]

They do what the web server of a shop would do: send a request, and wait for the reply.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
import time
from collections.abc import Callable

from examples.shop.bank import DECLINED_CARD
from examples.shop.carrier import TOWNS
from examples.shop.events import Accepted, Cart, PostalAddress, carts, stream
from examples.shop.orders import PRICES
from mainstem import RequestFailed, StreamError

NAMES = (
    *("ada", "alan", "barbara", "bertrand", "claude", "dennis", "donald", "edsger", "emmy", "frances"),
    *("grace", "hedy", "ivan", "jean", "john", "karen", "katherine", "ken", "leslie", "linus", "lynn"),
    *("margaret", "mary", "niklaus", "peter", "radia", "richard", "robin", "rosalind", "sophie", "tim"),
)
STREETS = ("Abbey Road", "Canal Street", "High Street", "Mill Lane", "Station Road", "The Shambles")
UNKNOWN_TOWNS = ("Atlantis", "Avalon", "Brigadoon", "Camelot", "Lyonesse")
PATIENCE_S = 10.0


def new_cart(customer: str, rng: random.Random) -> Cart:
    """Some coffee, more often than a grinder; now and then a card without money, or a fairy tale's town."""
    wanted = rng.choices(list(PRICES), weights=[10, 8, 1, 2, 5, 2], k=rng.randint(1, 4))
    has_money = rng.random() < 0.94
    card = f"4539 {rng.randint(0, 9_999):04} 1178 {rng.randint(0, 9_999):04}" if has_money else DECLINED_CARD
    town = rng.choice(UNKNOWN_TOWNS) if rng.random() < 0.01 else rng.choice(TOWNS)
    address = PostalAddress(f"{rng.randint(1, 120)} {rng.choice(STREETS)}", town)
    return Cart(customer, {article: wanted.count(article) for article in sorted(set(wanted))}, card, address)


async def place(cart: Cart, order: str) -> Accepted | None:
    """Ask until the shop has answered, always with the same id: so it is one order, however often it is asked
    for. None: the shop does not want it."""
    while True:
        try:
            return await carts.request(cart, Accepted, timeout=PATIENCE_S, headers={"message-id": order})
        except RequestFailed:
            return None
        except StreamError:  # no reply in time, or no server: nothing is known of the order
            await asyncio.sleep(1)


async def shop_for_a_while(
    customer: str,
    rng: random.Random,
    pause_s: Callable[[], float],
    stop: asyncio.Event,
    accepted: Callable[[Cart, Accepted], None],
) -> None:
    """One customer: an order, a pause, the next order, until `stop` is set."""
    while not stop.is_set():
        try:
            async with asyncio.timeout(pause_s() * rng.expovariate(1)):
                await stop.wait()
        except TimeoutError:
            cart = new_cart(customer, rng)
            reply = await place(cart, f"{customer}-{rng.getrandbits(32):08x}")
            if reply is not None:
                accepted(cart, reply)


async def main(per_second: float) -> None:
    """Place this many orders a second, more or less: a shop has its rush hours, here every ten minutes."""

    def pause_s() -> float:
        return len(NAMES) / per_second / (1 + 0.6 * math.sin(time.time() / 600 * 2 * math.pi))

    async with stream:
        never = asyncio.Event()
        rng = random.Random()
        await asyncio.gather(
            *(shop_for_a_while(name, rng, pause_s, never, lambda *_: None) for name in NAMES)
        )


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0))

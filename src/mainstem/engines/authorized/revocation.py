"""Ends what takes long within RECHECK_S of a change that revokes the right to it.

Owns: that, for one awaitable. Refuses: to decide, which the authorizer does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mainstem.access_contract import RequesterRights
from mainstem.clock import Clock
from mainstem.contract import NotAuthorized

T = TypeVar("T")

RECHECK_S = 0.5
"""How often a call that waits looks whether rights have changed."""


async def while_allowed(
    rights: RequesterRights, clock: Clock, require: Callable[[], None], work: Awaitable[T]
) -> T:
    """The result of `work`, which may wait for long. When rights change, `require` is called, and if it
    raises NotAuthorized, the work is cancelled or its result discarded."""
    version = rights.version
    denied: NotAuthorized | None = None

    timer = clock.call_later(RECHECK_S, lambda: look())

    def look() -> None:
        nonlocal denied, timer, version
        if rights.version != version:
            version = rights.version
            try:
                require()
            except NotAuthorized as error:
                denied = error
                limit.reschedule(0.0)  # at once
                return
        timer = clock.call_later(RECHECK_S, look)

    try:
        async with asyncio.timeout(None) as limit:
            result = await work
    except TimeoutError:
        if denied is None:
            raise
        raise denied from None
    finally:
        timer.cancel()
    if rights.version != version:
        require()
    return result

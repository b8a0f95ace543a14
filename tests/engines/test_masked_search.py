"""A search ends when a field that it tests is masked while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

from mainstem.access_contract import ANONYMOUS, Requester
from mainstem.clock import LoopClock
from mainstem.contract import Engine, Event, InvalidArgument
from mainstem.engines.authorized.engine import AuthorizedViews
from mainstem.search.contract import Hit, SearchRequest
from tests.support.memory_masks import MemoryMasks, mask_rule
from tests.support.rule_authorizer import RuleAuthorizer

REQUESTER = Requester(principal=ANONYMOUS, host="127.0.0.1")


class EndlessSearch:
    """Finds the same event again and again."""

    async def search(self, request: SearchRequest) -> AsyncGenerator[Any, None]:
        assert request.readable is not None
        assert request.readable("orders")
        while True:
            yield Hit(Event("orders", 0, 7, 0, None, b'{"card": "4111", "n": 1}'))


@pytest.mark.parametrize(("query", "ends"), [("card:4*", True), ("4111", True), ("n:1", False)])
def test_a_search_ends_when_what_it_tests_is_masked(query: str, ends: bool) -> None:
    async def run() -> None:
        masks = MemoryMasks()
        clock = LoopClock(asyncio.get_running_loop())
        search = cast(Any, EndlessSearch())
        views = AuthorizedViews(cast(Engine, object()), lambda: search, RuleAuthorizer(), masks, clock)
        hits = views.search(REQUESTER).search(SearchRequest(query=query))
        first = cast(Hit, await anext(hits))
        assert first.event.value == b'{"card": "4111", "n": 1}'
        masks.put_rule(mask_rule("others", "card"))
        await anext(hits)
        masks.put_rule(mask_rule("orders", "card"))
        if ends:
            with pytest.raises(InvalidArgument, match="masked for you"):
                await anext(hits)
        else:
            masked = cast(Hit, await anext(hits))
            assert masked.event.value is not None
            assert b"4111" not in masked.event.value
        await hits.aclose()

    asyncio.run(run())

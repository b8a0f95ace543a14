"""The authorized view of a search: what it refuses is a denial, and what it leaves out is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

from mainstem.access_contract import (
    AccessDecision,
    Operation,
    Principal,
    Requester,
    RequesterRights,
    Resource,
    ResourceType,
)
from mainstem.contract import NotAuthorized
from mainstem.engines.authorized.search import AuthorizedSearch
from mainstem.engines.kafka.access import NoMasks
from mainstem.masking.contract import RequesterMasks
from mainstem.search import targets
from mainstem.search.contract import Search, SearchRequest
from tests.support.access import AccessRig
from tests.support.clock import SimClock

ALICE = Requester(principal=Principal("User", "alice"), host="127.0.0.1")


class NamesOnly:
    """A search that only looks at the names of topics."""

    async def search(self, request: SearchRequest) -> AsyncGenerator[Any, None]:
        targets.refuse_unreadable(request, request.topics)
        assert request.readable is not None
        assert [name for name in ("orders", "secrets") if request.readable(name)] == []
        return
        yield

    async def histogram(self, topics: Any, *_: Any, readable: Any) -> list[Any]:
        targets.refuse_unreadable(SearchRequest(topics=topics, readable=readable), topics)
        return []


@pytest.mark.parametrize(("topics", "denials"), [(["secrets"], 1), (["sec*"], 0), ([], 0)])
def test_a_denied_name_is_in_the_audit_and_a_topic_that_is_left_out_is_not(
    topics: list[str], denials: int
) -> None:
    rig = AccessRig()
    decided: list[tuple[str, bool]] = []

    def on_decision(
        requester: Requester, operation: Operation, resource: Resource, decision: AccessDecision
    ) -> None:
        assert (operation, resource.type) == (Operation.READ, ResourceType.TOPIC)
        decided.append((resource.name, decision.allowed))

    rig.authorizer.on_decision = on_decision
    rights = RequesterRights(rig.authorizer, ALICE)
    inner = cast(Search, NamesOnly())
    search = AuthorizedSearch(lambda: inner, rights, RequesterMasks(NoMasks(), ALICE), SimClock())

    async def run() -> None:
        for attempt in (
            lambda: anext(search.search(SearchRequest(topics=topics)), None),
            lambda: search.histogram(topics, None, None, 1),
        ):
            try:
                await attempt()
            except NotAuthorized:
                assert denials

    asyncio.run(run())
    assert decided == [("secrets", False)] * 2 * denials

"""Facets and comparisons of whole searches: results so far, cancelling, what queries themselves ask for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from mainstem.contract import Position
from mainstem.search import compare, execution
from mainstem.search.compare import ComparedSearches
from mainstem.search.contract import Comparison, Done, Facets, Progress, SearchRequest, Unreadable
from mainstem.search.execution import SearchExecution
from mainstem.search.match.own_terms import OwnTerms
from mainstem.search.query.errors import QueryError
from tests.scenarios import flights
from tests.search.search_rig import NOW_MS, SearchRig, compared, count_facets, run_on_search_rig

FLIGHTS = 600
UNITED = SearchRequest(query="carrier:UA", limit=None)
OTHERS = SearchRequest(query="NOT carrier:UA", limit=None)


async def fill(rig: SearchRig) -> None:
    """Create a topic with flights, in batches of 50."""
    await rig.engine.create_topic("flights", partitions=2)
    lines = flights.sample()[:FLIGHTS]
    for number in range(0, len(lines), 50):
        rows = [(None, line, (), NOW_MS) for line in lines[number : number + 50]]
        await rig.append("flights", number // 50 % 2, rows, codec=("none", "zstd")[number // 100 % 2])


def test_values_that_a_query_names_are_left_out_of_its_facets(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        for search in rig.searches():
            facets, _ = await count_facets(
                search, SearchRequest(query="carrier:(UA OR B6)", limit=None), (), 9
            )
            assert "carrier" not in facets.values
            assert facets.values["origin"]
            facets, _ = await count_facets(
                search, SearchRequest(query="carrier:UA OR JFK", limit=None), (), 9
            )
            assert {"UA", "JFK"}.isdisjoint(value for counts in facets.values.values() for value, _ in counts)
            assert len(facets.values["carrier"]) > 3
            facets, _ = await count_facets(search, UNITED, ["carrier"], 9)
            assert facets.values["carrier"] == [("UA", facets.events)]

    run_on_search_rig(tmp_path, work)


def test_differences_that_follow_from_the_queries_are_left_out(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        for search in rig.searches():
            comparison, done = await compared(search, UNITED, OTHERS)
            assert comparison.selected + comparison.baseline == done.totals.matches == FLIGHTS
            assert {row.field for row in comparison.differences} >= {"origin", "dest"}
            assert "carrier" not in {row.field for row in comparison.differences}
            comparison, _ = await compared(search, UNITED, OTHERS, ["carrier"])
            first = comparison.differences[0]
            assert (first.field, first.value, first.selected_share, first.baseline) == (
                "carrier",
                "UA",
                1.0,
                0,
            )
            late = SearchRequest(query="arr_delay:>60", limit=None)
            comparison, _ = await compared(
                search, late, SearchRequest(query="arr_delay:<0", limit=None), top=300
            )
            assert "arr_delay" not in {row.field for row in comparison.differences}

    run_on_search_rig(tmp_path, work)


@pytest.mark.parametrize(
    ("query", "named", "tested"),
    [
        ("carrier:UA", [("carrier", "ua")], []),
        ("NOT (a:1 OR key:x)", [("a", "1.0"), ("a", "1"), ("key", "x")], []),
        ("a:null", [("a", "null")], []),
        ('a:"1"', [("a", "1")], []),
        ("new york", [("city", "New"), ("key", "york")], []),
        ('"new york"', [("city", "New York, NY")], []),
        ("a:>5 b:x* /^N1/ c:[2013 TO 2014]", [], [("a", "5.1"), ("b", "xy"), ("any", "N14"), ("c", "2013")]),
        ("topic:orders partition:2", [("topic", "orders"), ("partition", "2")], []),
        ("partition:>2", [], [("partition", "3")]),
    ],
)
def test_a_query_names_and_tests_values(query: str, named: list[Any], tested: list[Any]) -> None:
    own = OwnTerms("zzz", query)
    assert all(own.names(*value) and own.may_name(value[0]) and own.tests(*value) for value in named)
    assert all(own.tests(*value) and not own.names(*value) for value in tested)
    for field, value in (("carrier", "AA"), ("a", "2"), ("b", "1"), ("topic", "x"), ("partition", "1")):
        assert not own.tests(field, value)


def test_results_so_far_come_while_values_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        monkeypatch.setattr(execution, "PROGRESS_INTERVAL_S", 0.0)
        monkeypatch.setattr(execution, "PARTIAL_INTERVAL_S", 0.0)
        monkeypatch.setattr(compare, "PARTIAL_INTERVAL_S", 0.0)
        async with aclosing(rig.local.facets(UNITED, ["origin"], 3)) as updates:
            counted = [update async for update in updates if not isinstance(update, Unreadable)]
        events = [update.events for update in counted if isinstance(update, Facets)]
        assert events == sorted(events)
        assert len({*events}) > 3
        assert isinstance(counted[-1], Done)
        async with aclosing(rig.local.compare(UNITED, OTHERS)) as comparing:
            lines = [update async for update in comparing]
        shares = [update.totals.share for update in lines if isinstance(update, Progress)]
        assert shares == sorted(shares)
        partial = [update for update in lines if isinstance(update, Comparison)]
        assert len(partial) > 3
        # Both searches advance together, so that a comparison so far is one of about the same events.
        assert any(0 < update.selected < partial[-1].selected for update in partial if update.baseline)
        assert isinstance(lines[-1], Done)
        assert lines[-2] == partial[-1]
        assert partial[-1].selected + partial[-1].baseline == FLIGHTS

    run_on_search_rig(tmp_path, work, workers=1, block_bytes=4096)


def test_what_both_searches_of_a_comparison_leave_out_is_reported_and_counted_once(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        problem = Unreadable(Position("flights", 0, 0), "no broker answers")
        executions = [
            SearchExecution(rig.local.pool, rig.local._clock, request, NOW_MS, [], [], problems=[problem])
            for request in (UNITED, SearchRequest(query="carrier:B6", limit=None))
        ]
        async with aclosing(ComparedSearches(executions, None, 9).updates(rig.local._clock)) as updates:
            unreadable, _, done = [update async for update in updates]
        assert unreadable == problem
        assert isinstance(done, Done)
        assert done.totals.undecodable == 1

    run_on_search_rig(tmp_path, work)


def test_two_searches_of_the_same_events_read_each_of_them_once(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        for number, (query, baseline) in enumerate(
            [
                ("carrier:UA", "NOT (carrier:UA)"),
                ("dep_delay:>60 JFK", "dep_delay:<0"),
                ("", "dest:ATL"),
                ("ATL", ""),
            ]
        ):
            search = rig.searches()[number % 2]
            selection = SearchRequest(query=query, limit=None)
            once, done = await compared(
                search, selection, SearchRequest(query=baseline, limit=None), top=5_000
            )
            assert done.totals.events == FLIGHTS or "" not in (query, baseline)
            assert done.totals.events <= FLIGHTS
            # Another budget makes them two searches, each of which reads all events that it cannot exclude.
            other = SearchRequest(query=baseline, limit=None, budget_s=60.0)
            apart, end = await compared(search, selection, other, top=5_000)
            assert apart == once
            assert end.totals.events > done.totals.events
            assert end.totals.matches == done.totals.matches == once.selected + once.baseline

    run_on_search_rig(tmp_path, work)


def test_a_count_that_is_closed_frees_its_worker(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        started: list[AsyncGenerator[Any, None]] = [
            rig.local.compare(UNITED, OTHERS),
            rig.local.facets(UNITED, (), 5),
        ]
        for unfinished in started:
            async with aclosing(unfinished) as updates:
                await anext(updates)
        facets, done = await count_facets(rig.local, UNITED, ["origin"], 3)
        assert done.reason == "complete"
        assert facets.events == sum(count for _, count in facets.values["origin"])
        assert len(rig.local.pool.pids) == 1

    run_on_search_rig(tmp_path, work, workers=1, block_bytes=4096)


def test_a_comparison_ends_at_its_limits(tmp_path: Path) -> None:
    async def work(rig: SearchRig) -> None:
        await fill(rig)
        for search in rig.searches():
            comparison, done = await compared(search, SearchRequest(query="carrier:UA", limit=7), OTHERS)
            assert (comparison.selected, done.reason) == (7, "limit")
            with pytest.raises(QueryError):
                await compared(search, UNITED, SearchRequest(query="("))

    run_on_search_rig(tmp_path, work)

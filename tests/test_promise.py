"""A promise, and the promises that are derived from it."""

from __future__ import annotations

import pytest

from mainstem.promise import Promise, gather


def test_a_chain_has_the_result_of_its_last_promise() -> None:
    first: Promise[int] = Promise()
    second: Promise[str] = Promise()
    chained = first.chain(lambda value: second)
    first.resolve(1)
    assert not chained.done
    second.resolve("two")
    assert chained.result() == "two"


def test_an_error_anywhere_in_a_chain_is_its_result() -> None:
    def broken(value: int) -> Promise[str]:
        raise ValueError(value)

    def never(value: int) -> Promise[str]:
        raise AssertionError

    for chained in (
        Promise.resolved(1).chain(broken),
        Promise.resolved(1).chain(lambda value: Promise[str].failed(ValueError(value))),
        Promise[int].failed(ValueError(1)).chain(never),
    ):
        with pytest.raises(ValueError, match="1"):
            chained.result()


def test_a_promise_is_set_once() -> None:
    promise = Promise.resolved(1)
    with pytest.raises(AssertionError):
        promise.resolve(2)
    assert promise.map(str).result() == "1"


def test_gathered_promises_keep_their_own_results() -> None:
    promises: list[Promise[int]] = [Promise(), Promise()]
    gathered = gather(promises)
    promises[1].fail(ValueError())
    assert not gathered.done
    promises[0].resolve(1)
    assert [promise.error is None for promise in gathered.result()] == [True, False]
    assert gather([]).done

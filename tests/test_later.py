"""A result that comes later, and what is made of it."""

from __future__ import annotations

import pytest

from mainstem.promise import Promise, gather


def test_a_chain_gives_what_the_last_of_it_gives() -> None:
    first: Promise[int] = Promise()
    second: Promise[str] = Promise()
    out = first.chain(lambda value: second)
    first.resolve(1)
    assert not out.done
    second.resolve("two")
    assert out.result() == "two"


def test_an_error_anywhere_in_a_chain_passes_on() -> None:
    def broken(value: int) -> Promise[str]:
        raise ValueError(value)

    def never(value: int) -> Promise[str]:
        raise AssertionError

    for out in (
        Promise.resolved(1).chain(broken),
        Promise.resolved(1).chain(lambda value: Promise[str].failed(ValueError(value))),
        Promise[int].failed(ValueError(1)).chain(never),
    ):
        with pytest.raises(ValueError, match="1"):
            out.result()


def test_it_is_set_once() -> None:
    later = Promise.resolved(1)
    with pytest.raises(AssertionError):
        later.resolve(2)
    assert later.map(str).result() == "1"


def test_gathered_ones_are_looked_at_one_by_one() -> None:
    laters: list[Promise[int]] = [Promise(), Promise()]
    out = gather(laters)
    laters[1].fail(ValueError())
    assert not out.done
    laters[0].resolve(1)
    assert [one.error is None for one in out.result()] == [True, False]
    assert gather([]).done

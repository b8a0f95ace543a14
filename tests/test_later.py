"""A result that comes later, and what is made of it."""

from __future__ import annotations

import pytest

from mainstem.promise import Later, gather


def test_a_chain_gives_what_the_last_of_it_gives() -> None:
    first: Later[int] = Later()
    second: Later[str] = Later()
    out = first.chain(lambda value: second)
    first.resolve(1)
    assert not out.done
    second.resolve("two")
    assert out.result() == "two"


def test_an_error_anywhere_in_a_chain_passes_on() -> None:
    def broken(value: int) -> Later[str]:
        raise ValueError(value)

    def never(value: int) -> Later[str]:
        raise AssertionError

    for out in (
        Later.of(1).chain(broken),
        Later.of(1).chain(lambda value: Later[str].failed(ValueError(value))),
        Later[int].failed(ValueError(1)).chain(never),
    ):
        with pytest.raises(ValueError, match="1"):
            out.result()


def test_it_is_set_once() -> None:
    later = Later.of(1)
    with pytest.raises(AssertionError):
        later.resolve(2)
    assert later.map(str).result() == "1"


def test_gathered_ones_are_looked_at_one_by_one() -> None:
    laters: list[Later[int]] = [Later(), Later()]
    out = gather(laters)
    laters[1].fail(ValueError())
    assert not out.done
    laters[0].resolve(1)
    assert [one.error is None for one in out.result()] == [True, False]
    assert gather([]).done

"""The headers of dead letters, as RabbitMQ writes them, and which letters would go in circles."""

from __future__ import annotations

from mainstem.amqp.deaths import Death, buried, deaths_of, without_cycles
from mainstem.amqp.field_values import FieldValue, Timestamp
from mainstem.amqp.properties import Properties


def died(queue: str, reason: str = "rejected", time_s: int = 10) -> Death:
    return Death(queue, reason, "orders", ("order.paid", "copy"), time_s)


def test_the_first_death() -> None:
    properties = Properties(expiration="5000", headers={"tenant": "eu", "CC": ["copy"]}, priority=3)
    letter = buried(properties, died("billing", "expired"), drops_cc=False)
    assert letter == Properties(
        priority=3,
        headers={
            "tenant": "eu",
            "CC": ["copy"],
            "x-death": [
                {
                    "count": 1,
                    "reason": "expired",
                    "queue": "billing",
                    "time": Timestamp(10),
                    "exchange": "orders",
                    "routing-keys": ["order.paid", "copy"],
                    "original-expiration": "5000",
                }
            ],
            "x-first-death-reason": "expired",
            "x-first-death-queue": "billing",
            "x-first-death-exchange": "orders",
            "x-last-death-reason": "expired",
            "x-last-death-queue": "billing",
            "x-last-death-exchange": "orders",
        },
    )
    assert properties.headers == {"tenant": "eu", "CC": ["copy"]}


def test_deaths_are_counted_for_each_queue_and_reason_the_newest_first() -> None:
    letter = Properties(headers={"CC": ["copy"], "BCC": ["hidden"]})
    for queue, reason, time_s in (("a", "rejected", 1), ("b", "expired", 2), ("a", "rejected", 3)):
        letter = buried(letter, died(queue, reason, time_s), drops_cc=True)
    assert letter.headers is not None
    assert "CC" not in letter.headers
    assert "BCC" not in letter.headers
    entries = [
        (item["queue"], item["reason"], item["count"], item["time"]) for item in deaths_of(letter.headers)
    ]
    assert entries == [("a", "rejected", 2, 1), ("b", "expired", 1, 2)]
    assert letter.headers["x-first-death-queue"] == "a"
    letter = buried(letter, died("c", "maxlen"), drops_cc=True)
    assert letter.headers is not None
    assert letter.headers["x-last-death-reason"] == "maxlen"
    assert letter.headers["x-first-death-reason"] == "rejected"


def test_a_header_that_is_no_list_of_deaths_is_replaced() -> None:
    wrongs: list[FieldValue] = ["text", [1, "a"], {"count": 1}]
    for wrong in wrongs:
        letter = buried(Properties(headers={"x-death": wrong}), died("a"), drops_cc=False)
        assert [entry["queue"] for entry in deaths_of(letter.headers)] == ["a"]


def test_what_died_in_a_queue_does_not_come_back_unless_a_consumer_rejected_it() -> None:
    letter = Properties()
    for queue in ("work", "retry"):
        letter = buried(letter, died(queue, "expired"), drops_cc=False)
    assert without_cycles(["work", "retry", "other"], letter) == (["other"], ["work", "retry"])
    rejected = buried(
        buried(Properties(), died("work"), drops_cc=False), died("retry", "expired"), drops_cc=False
    )
    assert without_cycles(["work", "retry"], rejected) == (["work"], ["retry"])

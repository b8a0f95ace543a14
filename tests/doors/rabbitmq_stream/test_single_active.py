"""Which consumer of a group is sent events."""

from __future__ import annotations

from mainstem.amqp.streams import StreamPlace
from mainstem.doors.rabbitmq_stream.single_active import GroupKey, SingleActiveGroups

KEY = GroupKey(StreamPlace("invoices", 1), "billing")


class RecordedConsumer:
    """Records what it is asked."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    def set_active(self, is_active: bool) -> None:
        self.asked.append(is_active)


def test_of_a_plain_stream_the_oldest_consumer_is_active() -> None:
    groups, first, second = SingleActiveGroups(), RecordedConsumer(), RecordedConsumer()
    groups.join(KEY, first, None)
    groups.join(KEY, second, None)
    assert (first.asked, second.asked) == ([True], [])
    groups.leave(KEY, first)
    groups.leave(KEY, first)
    assert second.asked == [True]


def test_of_a_partition_the_next_one_waits_for_the_answer_of_the_one_before() -> None:
    groups, first, second = SingleActiveGroups(), RecordedConsumer(), RecordedConsumer()
    groups.join(KEY, first, 1)
    groups.join(KEY, second, 1)
    assert (first.asked, second.asked) == ([True, False], [])
    groups.stopped(KEY, second)
    assert second.asked == []
    groups.stopped(KEY, first)
    assert second.asked == [True]
    groups.leave(KEY, second)
    assert first.asked == [True, False, True]


def test_a_consumer_that_leaves_while_it_stops_makes_room() -> None:
    groups, first, second = SingleActiveGroups(), RecordedConsumer(), RecordedConsumer()
    groups.join(KEY, first, 1)
    groups.join(KEY, second, 1)
    groups.leave(KEY, first)
    assert second.asked == [True]

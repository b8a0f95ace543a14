"""The authorized view of an engine: complete, and it passes on only what its requester may do."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any, cast

import pytest

from mainstem.access_contract import ANONYMOUS, CLUSTER_NAME, Operation, Requester, ResourceType
from mainstem.attach_contract import AttachesConsumers
from mainstem.clock import Clock, LoopClock
from mainstem.contract import (
    Admin,
    Engine,
    Event,
    EventLog,
    GroupInfo,
    GroupPosition,
    HasFiles,
    Health,
    MemberInfo,
    NewEvent,
    NotAuthorized,
    Position,
    PreviewsSettings,
    ReadResult,
    ReportsMetrics,
    TopicInfo,
    TopicSummary,
    UnknownTopic,
)
from mainstem.door_contract import PublishesOnce, TopicChange, WatchesTopics
from mainstem.engines.authorized import revocation
from mainstem.engines.authorized.engine import NOT_OFFERED, AuthorizedViews
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.engines.kafka.access import NoMasks
from mainstem.engines.kafka.engine import KafkaEngine
from mainstem.masking.contract import Masks
from mainstem.queue_contract import (
    DeadLetterInfo,
    Delivery,
    EventInSubscription,
    QueueDepth,
    Queues,
    SubscriptionSettings,
    SubscriptionTotals,
)
from mainstem.routing_contract import OffersRoutedQueues
from mainstem.search.contract import Search
from tests.engines.test_read_only import calls_of
from tests.support.clock import SimClock
from tests.support.rule_authorizer import RuleAuthorizer

REQUESTER = Requester(principal=ANONYMOUS, host="127.0.0.1")
CONTRACTS = (
    *(EventLog, Admin, Engine, HasFiles, PreviewsSettings, Queues, ReportsMetrics),
    *(PublishesOnce, WatchesTopics, OffersRoutedQueues, AttachesConsumers),
)
PLACE = Position("orders", 0, 7)
SETTINGS = SubscriptionSettings(topics=("orders",), dead_letter_topic="dead")
CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "publish": (("orders", [NewEvent(b"1")]), {}),
    "publish_once": (("orders", "me", [(1, NewEvent(b"1"))]), {}),
    "last_published": (("orders", "me"), {}),
    "partitions": (("orders",), {}),
    "topic_id": (("orders",), {}),
    "bounds": (("orders", 0), {}),
    "offset_for_time": (("orders", 0, 5), {}),
    "reader": (([PLACE],), {}),
    "join": (("readers", ["orders"]), {"start": "earliest"}),
    "topics": ((), {"internal": True}),
    "topic": (("orders",), {}),
    "create_topic": (("orders",), {}),
    "add_partitions": (("orders", 3), {}),
    "alter_topic": (("orders", {}), {}),
    "delete_topic": (("orders",), {}),
    "delete_records": (("orders", 0, 5), {}),
    "groups": ((), {}),
    "group": (("readers",), {}),
    "set_positions": (("readers", [PLACE]), {}),
    "delete_group": (("readers",), {}),
    "cluster": ((), {}),
    "health": ((), {}),
    "watch_topics": ((lambda change: None,), {}),
    "preview_settings": (("orders", {}), {}),
    "partition_files": (("orders", 0), {}),
    "byte_ranges": (("orders", 0, 0, 9), {}),
    "metric_values": ((), {}),
    "subscriptions": ((), {}),
    "subscription": (("work",), {}),
    "subscription_settings": (("work",), {}),
    "subscription_totals": ((), {}),
    "event_states": ((PLACE,), {}),
    "snapshots": (("work",), {}),
    "create_subscription": (("work", SETTINGS), {}),
    "alter_subscription": (("work", SETTINGS), {}),
    "delete_subscription": (("work",), {}),
    "take_snapshot": (("work", "s"), {}),
    "delete_snapshot": (("work", "s"), {}),
    "seek": (("work", "earliest"), {}),
    "purge": (("work",), {}),
    "wake": (("work", None), {}),
    "cancel": (("work", None), {}),
    "redrive": (("work", [PLACE]), {}),
    "pull": (("work", "me"), {"max_events": 5}),
    "settle": (("work", []), {}),
    "browse": (("work",), {}),
    "dead_letters": (("work",), {"max_events": 5}),
}
"""Arguments for each call, of the topic `orders`, the group `readers` and the subscription `work`."""
FOR_EVERYBODY = {"cluster", "health", "close", "routed_queues", "attached"}
LISTS = {"topics", "groups", "subscriptions", "subscription_totals", "watch_topics"}
NAMES = {
    ResourceType.TOPIC: ("orders", "dead"),
    ResourceType.GROUP: ("readers",),
    ResourceType.SUBSCRIPTION: ("work",),
    ResourceType.CLUSTER: (CLUSTER_NAME,),
}


class FakeReader:
    """A reader, or a member, whose reads wait for `arrived`."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()

    async def read(self, *, max_events: int = 1_000, wait_ms: int = 1_000) -> ReadResult:
        await self.arrived.wait()
        return ReadResult([Event("orders", 0, 7, 0, None, b"secret")])


class FakeEngine:
    """Has all capabilities, notes the calls that reach it, and returns what `results` has."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.callback: Any = None
        self.routed_queues = self.attached = None
        self.results: dict[str, Any] = {
            "topics": [TopicSummary("hidden", 1, 5), TopicSummary("orders", 1, 9)],
            "topic": TopicInfo("orders", "id", False, (), ()),
            "groups": [],
            "group": GroupInfo("readers", "Stable", "range", (), ()),
            "subscriptions": ["hidden", "work"],
            "subscription_settings": SETTINGS,
            "subscription_totals": [],
            "health": Health(False, ("the disk of hidden is full",)),
            "event_states": [],
            "pull": [],
            "dead_letters": [],
        }

    async def topic_id(self, topic: str) -> str:
        self.made.append("topic_id")
        if topic == "new":
            raise UnknownTopic("there is no topic new")
        return "id"

    def partition_files(self, topic: str, partition: int) -> str:
        self.made.append("partition_files")
        return "files"

    def metric_values(self) -> dict[str, float]:
        self.made.append("metric_values")
        return {"a": 1.0}

    def watch_topics(self, callback: Any) -> Any:
        self.made.append("watch_topics")
        self.callback = callback
        return lambda: None

    def __getattr__(self, name: str) -> Any:
        if name not in CALLS and name != "close":
            raise AttributeError(name)

        async def call(*arguments: object, **options: object) -> Any:
            self.made.append(name)
            return self.results.get(name, name)

        return call


@pytest.fixture(autouse=True)
def quick_rechecks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation, "RECHECK_S", 0.005)


def view_of(
    engine: object, rules: RuleAuthorizer, clock: Clock | None = None, masks: Masks | None = None
) -> Any:
    no_search = cast(Search, None)
    views = AuthorizedViews(
        cast(Engine, engine), lambda: no_search, rules, masks or NoMasks(), clock or SimClock()
    )
    return views.engine(REQUESTER)


async def call(view: Any, name: str) -> Any:
    """Make the call of this name with its arguments."""
    arguments, options = CALLS[name]
    result = getattr(view, name)(*arguments, **options)
    return await result if inspect.isawaitable(result) else result


def declared_calls() -> Iterator[tuple[str, Any]]:
    view = view_of(FakeEngine(), RuleAuthorizer())
    for class_ in type(view).__mro__[:-1]:
        for name, function in vars(class_).items():
            if not name.startswith("_"):
                yield name, getattr(function, "fget", function)


# ----------------------------------------------------------------------------------------------------------
# completeness


def test_every_call_of_the_contract_is_declared_with_its_rights() -> None:
    declared = dict(declared_calls())
    assert set(declared) == calls_of(*CONTRACTS)
    for name, function in declared.items():
        rights = function.rights
        assert rights or name in FOR_EVERYBODY, name


@pytest.mark.parametrize("engine", [EmbeddedEngine, KafkaEngine])
def test_every_public_call_of_an_engine_is_declared_or_not_offered(engine: type) -> None:
    public = {name for class_ in engine.__mro__[:-1] for name in vars(class_) if not name.startswith("_")}
    unknown = public - calls_of(*CONTRACTS) - NOT_OFFERED
    assert unknown <= {"connect", "explain", "node", "address"}


def test_a_view_has_the_capabilities_of_its_engine() -> None:
    view = view_of(FakeEngine(), RuleAuthorizer())
    assert isinstance(view, Queues)
    assert isinstance(view, HasFiles)

    class WithoutCapabilities:
        def __getattr__(self, name: str) -> Any:
            if name in calls_of(EventLog, Admin, Engine):
                return lambda: None
            raise AttributeError(name)

    assert not isinstance(view_of(WithoutCapabilities(), RuleAuthorizer()), Queues)
    for name in NOT_OFFERED:
        assert not hasattr(view, name)


# ----------------------------------------------------------------------------------------------------------
# every call, without rights and with those that it declares


@pytest.mark.parametrize("name", sorted(set(CALLS) - FOR_EVERYBODY - LISTS))
def test_a_call_without_rights_is_denied_and_does_not_reach_the_engine(name: str) -> None:
    engine = FakeEngine()
    with pytest.raises(NotAuthorized, match=r"User:ANONYMOUS may not"):
        asyncio.run(call(view_of(engine, RuleAuthorizer(is_on=True)), name))
    assert engine.made == []


@pytest.mark.parametrize("name", sorted(set(CALLS) - LISTS - FOR_EVERYBODY))
def test_a_call_needs_each_of_its_rights_and_no_other(name: str) -> None:
    rights = dict(declared_calls())[name].rights
    rules = RuleAuthorizer(is_on=True)
    for operation, resource_type in rights:
        for resource in NAMES[resource_type]:
            rules.allow(resource_type, resource, operation)
    engine = FakeEngine()
    if name in ("subscription", "snapshots"):
        engine.results["subscription"] = cast(Any, _Info())
    asyncio.run(call(view_of(engine, rules), name))
    assert name in engine.made


class _Info:
    settings = SETTINGS


def test_lists_have_only_what_may_be_described() -> None:
    rules = RuleAuthorizer(is_on=True)
    view = view_of(FakeEngine(), rules)
    assert asyncio.run(call(view, "topics")) == []
    assert asyncio.run(call(view, "subscriptions")) == []
    rules.allow(ResourceType.TOPIC, "orders", Operation.READ)
    rules.allow(ResourceType.SUBSCRIPTION, "work", Operation.DESCRIBE)
    assert [topic.name for topic in asyncio.run(call(view, "topics"))] == ["orders"]
    assert asyncio.run(call(view, "subscriptions")) == ["work"]


def test_everybody_sees_whether_it_is_well_and_not_why() -> None:
    rules = RuleAuthorizer(is_on=True)
    view = view_of(FakeEngine(), rules)
    health = asyncio.run(view.health())
    assert not health.ok
    assert "hidden" not in str(health)
    rules.allow_cluster(Operation.DESCRIBE)
    assert "hidden" in str(asyncio.run(view.health()))


def test_settings_of_a_topic_need_a_right_of_their_own() -> None:
    rules = RuleAuthorizer(is_on=True)
    engine = FakeEngine()
    engine.results["topic"] = TopicInfo("orders", "id", False, (), (cast(Any, "setting"),))
    rules.allow(ResourceType.TOPIC, "orders", Operation.DESCRIBE)
    assert asyncio.run(view_of(engine, rules).topic("orders")).settings == ()
    rules.allow(ResourceType.TOPIC, "orders", Operation.DESCRIBE_CONFIGS)
    assert asyncio.run(view_of(engine, rules).topic("orders")).settings == ("setting",)


def test_a_group_shows_nothing_of_hidden_topics() -> None:
    rules = RuleAuthorizer(is_on=True)
    engine = FakeEngine()
    places = tuple(GroupPosition(topic, 0, 5, 9, 4, 0) for topic in ("hidden", "orders"))
    member = MemberInfo("m", "c", "h", None, (("hidden", 0), ("orders", 0)))
    engine.results["group"] = GroupInfo("readers", "Stable", "range", (member,), places)
    rules.allow(ResourceType.GROUP, "readers", Operation.DESCRIBE)
    rules.allow(ResourceType.TOPIC, "orders", Operation.DESCRIBE)
    info = asyncio.run(view_of(engine, rules).group("readers"))
    assert "hidden" not in str(info)
    assert "orders" in str(info)


def test_a_subscription_shows_nothing_of_hidden_topics() -> None:
    rules = RuleAuthorizer(is_on=True)
    engine = FakeEngine()
    settings = SubscriptionSettings(topics=("hidden", "orders"), dead_letter_topic="hidden-dead")
    engine.results["subscription_settings"] = settings
    engine.results["subscription_totals"] = [
        SubscriptionTotals(
            name=name,
            topics=settings.topics,
            depth=QueueDepth(1, 0, 0, 0, 0, 0),
            oldest_ms=None,
            consumers=0,
            problems=("topic hidden-dead refuses events",),
        )
        for name in ("another", "work")
    ]
    rules.allow(ResourceType.SUBSCRIPTION, "work", Operation.DESCRIBE)
    rules.allow(ResourceType.TOPIC, "orders", Operation.DESCRIBE)
    view = view_of(engine, rules)
    (totals,) = asyncio.run(view.subscription_totals())
    assert totals.name == "work"
    assert totals.topics == ("orders",)
    assert "hidden" not in str(totals)
    assert "hidden" not in str(asyncio.run(view.subscription_settings("work")))


def test_states_of_an_event_are_those_of_visible_subscriptions() -> None:
    rules = RuleAuthorizer(is_on=True)
    engine = FakeEngine()
    engine.results["event_states"] = [EventInSubscription(name, "ready") for name in ("hidden", "work")]
    rules.allow(ResourceType.TOPIC, "orders", Operation.DESCRIBE)
    rules.allow(ResourceType.SUBSCRIPTION, "work", Operation.READ)
    states = asyncio.run(view_of(engine, rules).event_states(PLACE))
    assert [state.subscription for state in states] == ["work"]


def test_news_of_hidden_topics_do_not_arrive() -> None:
    rules = RuleAuthorizer(is_on=True)
    rules.allow(ResourceType.TOPIC, "orders", Operation.DESCRIBE)
    engine = FakeEngine()
    news: list[TopicChange] = []
    view_of(engine, rules).watch_topics(news.append)
    for topic in ("hidden", "orders"):
        engine.callback(TopicChange("created", topic, "id"))
    assert [change.topic for change in news] == ["orders"]


# ----------------------------------------------------------------------------------------------------------
# what is more than one right


def test_publishing_to_a_new_topic_needs_the_right_to_create_it() -> None:
    rules = RuleAuthorizer(is_on=True)
    engine = FakeEngine()
    view = view_of(engine, rules)
    rules.allow(ResourceType.TOPIC, "new", Operation.WRITE)
    with pytest.raises(NotAuthorized, match="may not CREATE topic new"):
        asyncio.run(view.publish("new", [NewEvent(b"1")]))
    rules.allow_cluster(Operation.CREATE)
    asyncio.run(view.publish("new", [NewEvent(b"1")]))
    assert engine.made == ["topic_id", "publish"]


def test_altering_needs_the_rights_of_the_present_settings_too() -> None:
    rules = RuleAuthorizer(is_on=True)
    engine = FakeEngine()
    engine.results["subscription_settings"] = SubscriptionSettings(topics=("hidden", "orders"))
    rules.allow(ResourceType.SUBSCRIPTION, "work", Operation.ALTER)
    rules.allow(ResourceType.TOPIC, "orders", Operation.READ)
    with pytest.raises(NotAuthorized, match="may not READ topic hidden"):
        asyncio.run(
            view_of(engine, rules).alter_subscription("work", SubscriptionSettings(topics=("orders",)))
        )
    assert "alter_subscription" not in engine.made


def test_a_subscription_delivers_nothing_of_a_topic_that_may_not_be_read() -> None:
    rules = RuleAuthorizer(is_on=True)
    engine = FakeEngine()
    rules.allow(ResourceType.SUBSCRIPTION, "work", Operation.READ)
    view = view_of(engine, rules)
    with pytest.raises(NotAuthorized, match="may not READ topic orders"):
        asyncio.run(view.pull("work", "me"))
    assert "pull" not in engine.made
    rules.allow(ResourceType.TOPIC, "orders", Operation.READ)
    event = Event("added-meanwhile", 0, 0, 0, None, b"secret")
    engine.results["pull"] = [Delivery(event=event, token="t", attempt=1, deadline_ms=0)]
    with pytest.raises(NotAuthorized, match="may not READ topic added-meanwhile"):
        asyncio.run(view.pull("work", "me"))


def test_dead_letters_of_an_earlier_topic_need_the_right_to_read_it() -> None:
    rules = RuleAuthorizer(is_on=True)
    engine = FakeEngine()
    engine.results["subscription_settings"] = SubscriptionSettings(topics=("orders",))
    letter = Event("dead", 0, 0, 0, None, b"secret")
    engine.results["dead_letters"] = [DeadLetterInfo(letter, PLACE, "id", "failed", "", 1, 0)]
    rules.allow(ResourceType.SUBSCRIPTION, "work", Operation.READ)
    with pytest.raises(NotAuthorized, match="may not READ topic dead"):
        asyncio.run(view_of(engine, rules).dead_letters("work"))


# ----------------------------------------------------------------------------------------------------------
# revocation


@pytest.mark.parametrize("wait_ms", [0, 60_000])
def test_a_read_returns_nothing_once_the_right_is_revoked(wait_ms: int) -> None:
    rules = RuleAuthorizer(is_on=True)
    rules.allow(ResourceType.TOPIC, "orders", Operation.READ)

    async def body() -> None:
        engine, reader = FakeEngine(), FakeReader()
        engine.results["reader"] = reader
        view = await view_of(engine, rules, LoopClock(asyncio.get_running_loop())).reader([PLACE])
        reading = asyncio.ensure_future(view.read(wait_ms=wait_ms))
        await asyncio.sleep(0)
        rules.forbid(ResourceType.TOPIC, "orders")
        if not wait_ms:
            reader.arrived.set()
        with pytest.raises(NotAuthorized, match="may not READ topic orders"):
            await reading

    asyncio.run(body())


def test_a_read_goes_on_if_another_right_changes() -> None:
    rules = RuleAuthorizer(is_on=True)
    rules.allow(ResourceType.TOPIC, "orders", Operation.READ)
    rules.allow(ResourceType.GROUP, "readers", Operation.READ)

    async def body() -> None:
        engine, member = FakeEngine(), FakeReader()
        engine.results["join"] = member
        view = await view_of(engine, rules, LoopClock(asyncio.get_running_loop())).join(
            "readers", ["orders"], start="earliest"
        )
        reading = asyncio.ensure_future(view.read(wait_ms=60_000))
        await asyncio.sleep(0)
        rules.allow(ResourceType.TOPIC, "others", Operation.READ)
        await asyncio.sleep(0.02)
        member.arrived.set()
        assert (await reading).events

    asyncio.run(body())

"""aiokafka against a server: `python -m tests.compat.aiokafka.suite ADDRESS [CASE…]`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.abc import AbstractTokenProvider
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.helpers import create_ssl_context
from aiokafka.structs import OffsetAndMetadata

from tests.compat.cases import CODECS, LOGIN, Address, case, fresh, main, same

WAIT = 20.0
HOUR_MS = 3_600_000
AsyncCase = Callable[[], Coroutine[Any, Any, None]]


def async_case(name: str) -> Callable[[AsyncCase], AsyncCase]:
    """A case that is a coroutine, run in a loop of its own."""

    def register(function: AsyncCase) -> AsyncCase:
        case(name)(lambda: asyncio.run(function()))
        return function

    return register


async def eventually(check: Callable[[], Any], what: str, seconds: float = WAIT) -> None:
    """Wait until `check()`, a coroutine function or a plain one, gives true."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if await answer if asyncio.iscoroutine(answer) else answer:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {seconds:.0f} s: {what}")
        await asyncio.sleep(0.05)


def login() -> dict[str, Any]:
    """LOGIN as arguments of the clients."""
    if not LOGIN:
        return {}
    arguments: dict[str, Any] = {
        "security_protocol": LOGIN["security"],
        "sasl_mechanism": LOGIN["mechanism"],
        "sasl_plain_username": LOGIN.get("user"),
        "sasl_plain_password": LOGIN.get("password"),
    }
    if "ca" in LOGIN:
        arguments["ssl_context"] = create_ssl_context(cafile=LOGIN["ca"])
    if "token" in LOGIN:
        arguments["sasl_oauth_token_provider"] = _AsyncTokens()
    return arguments


class _AsyncTokens(AbstractTokenProvider):  # type: ignore[misc]
    async def token(self) -> str:
        return LOGIN["token"]


@asynccontextmanager
async def admin() -> AsyncIterator[Any]:
    client = AIOKafkaAdminClient(bootstrap_servers=Address.value, **login())
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def topic(prefix: str, partitions: int = 1, config: dict[str, str] | None = None) -> str:
    name = fresh(prefix)
    async with admin() as client:
        answer = await client.create_topics([NewTopic(name, partitions, 1, topic_configs=config or {})])
        same([error[1] for error in answer.topic_errors], [0], "create_topics")

        async def there() -> bool:
            topic_info = (await client.describe_topics([name]))[0]
            return topic_info["error_code"] == 0 and len(topic_info["partitions"]) == partitions

        await eventually(there, "the topic shows in metadata")
    return name


@asynccontextmanager
async def consumer(*topics: str, **config: Any) -> AsyncIterator[Any]:
    base = {"auto_offset_reset": "earliest", "enable_auto_commit": False, **login()}
    base["bootstrap_servers"] = Address.value
    client = AIOKafkaConsumer(*topics, **(base | config))
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def send(
    name: str, values: list[Any], config: dict[str, Any] | None = None, **fields: Any
) -> list[Any]:
    """Produce the values, batched, and wait for the acknowledgements."""
    base = {"bootstrap_servers": Address.value, "linger_ms": 5, **login()}
    async with AIOKafkaProducer(**(base | (config or {}))) as producer:
        futures = [await producer.send(name, value, **fields) for value in values]
        return list(await asyncio.wait_for(asyncio.gather(*futures), WAIT))


async def take(client: Any, count: int) -> list[Any]:
    return [await asyncio.wait_for(client.getone(), WAIT) for _ in range(count)]


async def read(name: str, count: int, partition: int = 0, offset: int = 0) -> list[Any]:
    async with consumer() as client:
        where = TopicPartition(name, partition)
        client.assign([where])
        client.seek(where, offset)
        return await take(client, count)


async def _codec(codec: str) -> None:
    name = await topic("codec")
    values = [f"{i:04d}".encode() * 250 for i in range(200)]
    await send(name, values, {"compression_type": None if codec == "none" else codec})
    same([r.value for r in await read(name, 200)], values)


for _name in CODECS:
    async_case(f"produce-{_name}")(lambda codec=_name: _codec(codec))  # type: ignore[misc]


@async_case("headers")
async def _headers() -> None:
    name = await topic("headers")
    headers = [("a", b"1"), ("a", b"2"), ("empty", b""), ("ünï", "välue".encode())]
    await send(name, [b"x"], headers=headers)
    same(list((await read(name, 1))[0].headers), headers)


@async_case("null-key")
async def _null_key() -> None:
    name = await topic("nullkey")
    await send(name, [b"x"], key=None)
    await send(name, [b"y"], key=b"")
    same([r.key for r in await read(name, 2)], [None, b""])


@async_case("null-value")
async def _null_value() -> None:
    name = await topic("nullvalue")
    await send(name, [None], key=b"k")
    same([(r.key, r.value) for r in await read(name, 1)], [(b"k", None)])


@async_case("empty-value")
async def _empty_value() -> None:
    name = await topic("emptyvalue")
    await send(name, [b"", b""])
    same([r.value for r in await read(name, 2)], [b"", b""])


@async_case("idempotent-producer")
async def _idempotent() -> None:
    name = await topic("idempotent", 3)
    async with AIOKafkaProducer(bootstrap_servers=Address.value, enable_idempotence=True) as producer:
        futures = [await producer.send(name, b"%d" % i, partition=i % 3) for i in range(300)]
        await asyncio.gather(*futures)
    for partition in range(3):
        values = [r.value for r in await read(name, 100, partition)]
        same(values, [b"%d" % i for i in range(partition, 300, 3)])


@async_case("explicit-partition")
async def _explicit_partition() -> None:
    name = await topic("explicit", 4)
    for partition in (3, 1):
        sent = await send(name, [b"p%d" % partition], partition=partition)
        same((sent[0].partition, sent[0].offset), (partition, 0))
        same([r.value for r in await read(name, 1, partition)], [b"p%d" % partition])


@async_case("record-timestamp")
async def _timestamp() -> None:
    name = await topic("timestamp")
    stamp = int(time.time() * 1000) - 5 * HOUR_MS
    await send(name, [b"x"], timestamp_ms=stamp)
    record = (await read(name, 1))[0]
    same((record.timestamp_type, record.timestamp), (0, stamp))


@async_case("acks-0-and-1")
async def _acks() -> None:
    name = await topic("acks")
    await send(name, [b"one"], {"acks": 1})
    async with AIOKafkaProducer(bootstrap_servers=Address.value, acks=0) as producer:
        await producer.send(name, b"zero")
        await producer.flush()
    same([r.value for r in await read(name, 2)], [b"one", b"zero"])


@async_case("too-large-refused")
async def _too_large() -> None:
    name = await topic("toolarge", config={"max.message.bytes": "1000"})
    try:
        await send(name, [b"x" * 5000])
    except MessageSizeTooLargeError:
        return
    raise AssertionError("a record above max.message.bytes was taken")


@async_case("auto-create-topic")
async def _auto_create() -> None:
    name = fresh("auto")
    await send(name, [b"x"])
    same([r.value for r in await read(name, 1)], [b"x"])


@async_case("consume-earliest")
async def _earliest() -> None:
    name = await topic("earliest")
    await send(name, [b"a", b"b"])
    async with consumer(name, group_id=fresh("g")) as client:
        same([r.value for r in await take(client, 2)], [b"a", b"b"])


@async_case("consume-latest")
async def _latest() -> None:
    name = await topic("latest")
    await send(name, [b"old"])
    async with consumer(name, auto_offset_reset="latest") as client:
        same(await client.getmany(timeout_ms=1000), {}, "something before the new record")
        await send(name, [b"new"])
        same([r.value for r in await take(client, 1)], [b"new"])


@async_case("consume-from-offset")
async def _from_offset() -> None:
    name = await topic("offset")
    await send(name, [b"%d" % i for i in range(100)])
    same([r.value for r in await read(name, 3, offset=57)], [b"57", b"58", b"59"])
    where = TopicPartition(name, 0)
    async with consumer() as client:
        client.assign([where])
        await client.seek_to_end(where)
        same(await client.position(where), 100)
        await client.seek_to_beginning(where)
        same((await take(client, 1))[0].offset, 0)


@async_case("consume-from-time")
async def _from_time() -> None:
    name = await topic("time")
    base = int(time.time() * 1000) - HOUR_MS
    for i in range(6):
        await send(name, [b"%d" % i], timestamp_ms=base + i * 1000)
    where = TopicPartition(name, 0)
    async with consumer() as client:
        answers = (await client.offsets_for_times({where: base + 3500}))[where]
        same((answers.offset, answers.timestamp), (4, base + 4000))
        same((await client.offsets_for_times({where: base + HOUR_MS}))[where], None)


@async_case("offset-out-of-range-resets")
async def _out_of_range() -> None:
    name = await topic("range")
    await send(name, [b"a", b"b"])
    same([r.value for r in await read(name, 2, offset=500)], [b"a", b"b"])


async def _members(name: str, group: str, **config: Any) -> None:
    """Two members share 4 partitions; one leaves; the other has all again; every record is read."""
    config |= {"group_id": group, "heartbeat_interval_ms": 300}
    seen: dict[int, set[bytes]] = {p: set() for p in range(4)}

    async def drain(client: Any) -> None:
        async for record in client:
            seen[record.partition].add(record.value)

    async def fill(value: bytes) -> None:
        for partition in range(4):
            await send(name, [value], partition=partition)

    async with consumer(name, **config) as second:
        pump = [asyncio.create_task(drain(second))]
        async with consumer(name, **config) as first:
            pump.append(asyncio.create_task(drain(first)))
            await eventually(
                lambda: (len(first.assignment()), len(second.assignment())) == (2, 2), "2 each", 40
            )
            await fill(b"shared")
            await eventually(lambda: all(b"shared" in s for s in seen.values()), "every record read")
        await eventually(lambda: len(second.assignment()) == 4, "the other member has all 4 partitions", 40)
        await fill(b"last")
        await eventually(lambda: all(b"last" in s for s in seen.values()), "records after the leave")
    await asyncio.gather(*pump, return_exceptions=True)


@async_case("group-join-leave")
async def _group() -> None:
    await _members(await topic("group", 4), fresh("g"))


@async_case("group-sticky")
async def _sticky() -> None:
    strategy = (StickyPartitionAssignor,)
    await _members(await topic("sticky", 4), fresh("g"), partition_assignment_strategy=strategy)


def _has_both(client: Any) -> bool:
    return len(client.assignment()) == 2


@async_case("group-static-member")
async def _static_member() -> None:
    name, group = await topic("static", 2), fresh("g")
    for _ in range(2):
        config = {"group_id": group, "group_instance_id": "one", "session_timeout_ms": 10_000}
        async with consumer(name, **config) as client:
            await eventually(partial(_has_both, client), "both partitions")
    async with admin() as client:
        group_info = (await client.describe_consumer_groups([group]))[0].groups[0]
        same(len(group_info[5]), 1, "static member stays after close")


@async_case("group-commits-survive")
async def _commits() -> None:
    name, group = await topic("commit"), fresh("g")
    where = TopicPartition(name, 0)
    await send(name, [b"%d" % i for i in range(10)])
    async with consumer(name, group_id=group) as client:
        await take(client, 4)
        await client.commit({where: OffsetAndMetadata(4, "wörk")})
    async with consumer(name, group_id=group) as client:
        same((await take(client, 1))[0].value, b"4")
        same(await client.committed(where), 4)
    async with admin() as client:
        committed = await client.list_consumer_group_offsets(group)
        same((committed[where].offset, committed[where].metadata), (4, "wörk"))


@async_case("admin-create-topic")
async def _create() -> None:
    name = await topic("create", 5, config={"retention.ms": "60000"})
    async with admin() as client:
        bad = (NewTopic(name, 1, 1), NewTopic("no/such", 1, 1), NewTopic(fresh("x"), 0, 1))
        codes = [(await client.create_topics([topic])).topic_errors[0][1] for topic in bad]
        same(codes, [36, 17, 37], "exists, bad name, no partitions")
        checked = fresh("checked")
        await client.create_topics([NewTopic(checked, 1, 1)], validate_only=True)
        same(checked in await client.list_topics(), False, "made by validate_only")


@async_case("admin-describe-topic")
async def _describe() -> None:
    name = await topic("describe", 3)
    async with admin() as client:
        topic_info = (await client.describe_topics([name]))[0]
    same((topic_info["topic"], topic_info["is_internal"], len(topic_info["partitions"])), (name, False, 3))
    same({(p["leader"], tuple(p["isr"])) for p in topic_info["partitions"]}, {(1, (1,))})


@async_case("admin-delete-topic")
async def _delete() -> None:
    name = await topic("delete")
    async with admin() as client:
        answer = await client.delete_topics([name])
        same(answer.topic_error_codes, [(name, 0)])

        async def is_deleted() -> bool:
            return name not in await client.list_topics()

        await eventually(is_deleted, "the topic is gone")


@async_case("admin-create-partitions")
async def _create_partitions() -> None:
    name = await topic("grow", 2)
    async with admin() as client:
        await client.create_partitions({name: NewPartitions(6)})

        async def grown() -> bool:
            return len((await client.describe_topics([name]))[0]["partitions"]) == 6

        await eventually(grown, "6 partitions")
    await send(name, [b"x"], partition=5)
    same([r.value for r in await read(name, 1, 5)], [b"x"])


async def _config(client: Any, name: str) -> dict[str, str]:
    answers = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    return {entry[0]: entry[1] for entry in answers[0].resources[0][4]}


@async_case("admin-describe-configs")
async def _describe_configs() -> None:
    name = await topic("configs", config={"retention.ms": "123456"})
    async with admin() as client:
        settings = await _config(client, name)
    same((settings["retention.ms"], settings["cleanup.policy"]), ("123456", "delete"))


@async_case("admin-alter-configs")
async def _alter_configs() -> None:
    name = await topic("alter")
    async with admin() as client:

        async def change(configs: dict[str, str]) -> int:
            answers = await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs)])
            code: int = answers[0].resources[0][0]
            return code

        async def is_set(value: str) -> bool:
            return (await _config(client, name))["retention.ms"] == value

        same(await change({"retention.ms": "777000"}), 0)
        await eventually(lambda: is_set("777000"), "retention.ms is set")
        same(await change({"segment.bytes": "2097152"}), 0)
        await eventually(lambda: is_set("604800000"), "AlterConfigs replaces all")
        same([await change({"no.such.key": "1"}), await change({"retention.ms": "soon"})], [40, 40])


@async_case("admin-list-groups")
async def _list_groups() -> None:
    name, group = await topic("grp"), fresh("grp")
    async with consumer(name, group_id=group), admin() as client:
        same((group, "consumer") in [g[:2] for g in await client.list_consumer_groups()], True)


@async_case("admin-describe-group")
async def _describe_group() -> None:
    name, group = await topic("grp", 2), fresh("grp")
    async with consumer(name, group_id=group, client_id="who") as member, admin() as client:
        await eventually(lambda: len(member.assignment()) == 2, "assigned")
        code, *rest = (await client.describe_consumer_groups([group]))[0].groups[0]
        same((code, rest[:4]), (0, [group, "Stable", "consumer", "roundrobin"]))
        same(rest[4][0][1] if rest[4][0][1] == "who" else rest[4][0][2], "who")


@async_case("admin-delete-records")
async def _delete_records() -> None:
    name = await topic("trim")
    where = TopicPartition(name, 0)
    await send(name, [b"%d" % i for i in range(10)])
    async with admin() as client:
        same(await client.delete_records({where: RecordsToDelete(before_offset=4)}), {where: 4})
    async with consumer() as client:
        same(await client.beginning_offsets([where]), {where: 4})
    same([r.value for r in await read(name, 1, offset=4)], [b"4"])


@async_case("admin-offsets-by-time")
async def _offsets_by_time() -> None:
    name = await topic("offsets")
    where = TopicPartition(name, 0)
    base = int(time.time() * 1000) - HOUR_MS
    for i in (0, 5, 3):
        await send(name, [b"x"], timestamp_ms=base + i * 1000)
    async with consumer() as client:
        same((await client.offsets_for_times({where: base + 1}))[where].offset, 1)
        same((await client.beginning_offsets([where]))[where], 0)
        same((await client.end_offsets([where]))[where], 3)


@async_case("admin-describe-cluster")
async def _describe_cluster() -> None:
    async with admin() as client:
        cluster = await client.describe_cluster()
    broker = cluster["brokers"][0]
    same((len(cluster["brokers"]), cluster["controller_id"], bool(cluster["cluster_id"])), (1, 1, True))
    same(f"{broker['host']}:{broker['port']}", Address.value)


if __name__ == "__main__":
    main()

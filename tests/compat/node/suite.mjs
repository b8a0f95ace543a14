// KafkaJS against a server: node suite.mjs ADDRESS [CASE...]
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { address, eventually, fresh, main, refused, same, sleep, test } from './cases.mjs';

const require = createRequire(import.meta.url);
const { AssignerProtocol, CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs');
const lz4 = require('lz4-napi');
const { ZstdCodec } = require('zstd-codec');

const zstd = await new Promise((resolve) => ZstdCodec.run((found) => resolve(new found.Simple())));
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy');
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: async (buffer) => lz4.decompressFrame(buffer),
});
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(zstd.decompress(buffer)),
});

const HOUR_MS = 3_600_000;
const maxWaitTimeInMs = 200; // disconnect() waits for the fetch that is under way
// How to log in: security (Kafka's word), ca (a file, with TLS), mechanism, user, password, token.
const credentials = JSON.parse(process.env.COMPAT_LOGIN ?? '{}');
const login = {};
if (credentials.ca) login.ssl = { ca: [readFileSync(credentials.ca)] };
if (credentials.token) login.sasl = { mechanism: 'oauthbearer', oauthBearerProvider: async () => ({ value: credentials.token }) };
else if (credentials.mechanism) login.sasl = { mechanism: credentials.mechanism.toLowerCase(), username: credentials.user, password: credentials.password };

const kafka = new Kafka({ clientId: 'compat', brokers: [address], logLevel: logLevel.NOTHING, retry: { retries: 8, initialRetryTime: 100 }, ...login });
const admin = kafka.admin();
await admin.connect();

async function topic(numPartitions = 1, configEntries = []) {
  const name = fresh('node');
  same(await admin.createTopics({ topics: [{ topic: name, numPartitions, configEntries }] }), true, 'made');
  return name;
}

async function send(name, messages, options = {}, producerOptions = {}) {
  const producer = kafka.producer(producerOptions);
  await producer.connect();
  const answer = await producer.send({ topic: name, messages, ...options }).finally(() => producer.disconnect());
  return answer;
}

const values = (records) => records.map((record) => record.message.value?.toString() ?? null);

// Reads `count` records of a topic as the only member of a group; `start` seeks once it runs.
async function read(name, count, { groupId = fresh('g'), fromBeginning = true, start = undefined } = {}) {
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs });
  const records = [];
  await consumer.connect();
  try {
    await consumer.subscribe({ topics: [name], fromBeginning });
    await consumer.run({ autoCommit: false, eachMessage: async (record) => void records.push(record) });
    if (start) consumer.seek({ topic: name, ...start });
    await eventually(`${count} records of ${name}`, () => records.length >= count, 20);
  } finally {
    await consumer.disconnect();
  }
  return records.slice(0, count);
}

// Producing.

for (const [codec, compression] of Object.entries({ none: 0, gzip: 1, snappy: 2, lz4: 3, zstd: 4 })) {
  test(`produce-${codec}`, async () => {
    const name = await topic();
    const messages = Array.from({ length: 100 }, (_, i) => ({ value: `${i}`.repeat(300) }));
    await send(name, messages, { compression });
    same(values(await read(name, 100)), messages.map((each) => each.value));
  });
}

test('headers', async () => {
  const name = await topic();
  await send(name, [{ value: 'x', headers: { a: ['1', '2'], empty: '', ünï: 'välue' } }]);
  const [{ message }] = await read(name, 1);
  same(Object.entries(message.headers).map(([key, value]) => [key, `${value}`]), [['a', '1,2'], ['empty', ''], ['ünï', 'välue']]);
});

test('null-key', async () => {
  const name = await topic();
  await send(name, [{ value: 'x' }, { key: '', value: 'y' }]);
  same((await read(name, 2)).map((record) => record.message.key?.toString() ?? null), [null, '']);
});

test('null-value', async () => {
  const name = await topic();
  await send(name, [{ key: 'k', value: null }]);
  same(values(await read(name, 1)), [null]);
});

test('empty-value', async () => {
  const name = await topic();
  await send(name, [{ value: '' }, { value: '' }]);
  same(values(await read(name, 2)), ['', '']);
});

test('idempotent-producer', async () => {
  const name = await topic(2);
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  for (let i = 0; i < 50; i += 1) await producer.send({ topic: name, messages: [{ value: `${i}`, partition: i % 2 }] });
  await producer.disconnect();
  const records = await read(name, 50);
  for (const partition of [0, 1]) {
    const got = values(records.filter((record) => record.partition === partition));
    same(got, Array.from({ length: 25 }, (_, i) => `${i * 2 + partition}`));
  }
});

test('acks-0-and-1', async () => {
  const name = await topic();
  await send(name, [{ value: 'one' }], { acks: 1 });
  await send(name, [{ value: 'zero' }], { acks: 0 });
  same(values(await read(name, 2)), ['one', 'zero']);
});

test('explicit-partition', async () => {
  const name = await topic(4);
  const [sent] = await send(name, [{ value: 'p3', partition: 3 }]);
  same([sent.partition, sent.baseOffset, sent.errorCode], [3, '0', 0]);
  const [record] = await read(name, 1);
  same([record.partition, `${record.message.value}`], [3, 'p3']);
});

test('record-timestamp', async () => {
  const name = await topic();
  const timestamp = `${Date.now() - 5 * HOUR_MS}`;
  await send(name, [{ value: 'x', timestamp }]);
  same((await read(name, 1))[0].message.timestamp, timestamp);
});

test('too-large-refused', async () => {
  const name = await topic(1, [{ name: 'max.message.bytes', value: '1000' }]);
  await refused('MESSAGE_TOO_LARGE', send(name, [{ value: 'x'.repeat(5000) }]));
});

test('auto-create-topic', async () => {
  const name = fresh('auto');
  await send(name, [{ value: 'x' }]);
  same(values(await read(name, 1)), ['x']);
});

// Consuming.

test('consume-earliest', async () => {
  const name = await topic();
  await send(name, [{ value: 'a' }, { value: 'b' }]);
  same(values(await read(name, 2)), ['a', 'b']);
});

test('consume-latest', async () => {
  const name = await topic();
  await send(name, [{ value: 'old' }]);
  const consumer = kafka.consumer({ groupId: fresh('g'), maxWaitTimeInMs });
  const records = [];
  const joined = new Promise((resolve) => consumer.on(consumer.events.FETCH, resolve));
  await consumer.connect();
  await consumer.subscribe({ topics: [name], fromBeginning: false });
  await consumer.run({ eachMessage: async (record) => void records.push(record) });
  await joined;
  await send(name, [{ value: 'new' }]);
  await eventually('one record', () => records.length > 0, 20);
  await consumer.disconnect();
  same(values(records), ['new']);
});

test('consume-from-offset', async () => {
  const name = await topic();
  await send(name, Array.from({ length: 100 }, (_, i) => ({ value: `${i}` })));
  const groupId = fresh('g');
  await admin.setOffsets({ groupId, topic: name, partitions: [{ partition: 0, offset: '57' }] });
  same(values(await read(name, 3, { groupId })), ['57', '58', '59']);
});

test('consume-from-time', async () => {
  const name = await topic();
  const base = Date.now() - HOUR_MS;
  for (let i = 0; i < 6; i += 1) await send(name, [{ value: `${i}`, timestamp: `${base + i * 1000}` }]);
  const [{ offset }] = await admin.fetchTopicOffsetsByTimestamp(name, base + 3500);
  same(offset, '4');
  const groupId = fresh('g');
  await admin.setOffsets({ groupId, topic: name, partitions: [{ partition: 0, offset }] });
  same(values(await read(name, 2, { groupId })), ['4', '5']);
});

// Groups.

async function member(name, groupId, seen) {
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs, heartbeatInterval: 300, rebalanceTimeout: 10_000 });
  const state = { share: 0 };
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    state.share = (payload.memberAssignment[name] ?? []).length;
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [name], fromBeginning: true });
  await consumer.run({ eachMessage: async ({ partition, message }) => void seen.add(`${partition}${message.value}`) });
  return { consumer, state };
}

test('group-join-leave', async () => {
  const [name, group, seen] = [await topic(4), fresh('g'), new Set()];
  const fill = async (value) => {
    await send(name, [0, 1, 2, 3].map((partition) => ({ partition, value })));
    await eventually(`all ${value} read`, () => [0, 1, 2, 3].every((partition) => seen.has(`${partition}${value}`)));
  };
  const first = await member(name, group, seen);
  await eventually('first has all', () => first.state.share === 4);
  const second = await member(name, group, seen);
  await eventually('2 each', () => first.state.share === 2 && second.state.share === 2);
  await fill('shared');
  await first.consumer.disconnect();
  await eventually('second has all', () => second.state.share === 4);
  await fill('last');
  await second.consumer.disconnect();
});

async function groupWithCommit() {
  const [name, group] = [await topic(), fresh('g')];
  await send(name, [{ value: 'a' }, { value: 'b' }, { value: 'c' }]);
  const consumer = kafka.consumer({ groupId: group, maxWaitTimeInMs });
  let count = 0;
  await consumer.connect();
  await consumer.subscribe({ topics: [name], fromBeginning: true });
  await consumer.run({ autoCommit: false, eachMessage: async () => void (count += 1) });
  await eventually('3 records', () => count === 3, 20);
  await consumer.commitOffsets([{ topic: name, partition: 0, offset: '2', metadata: 'wörk' }]);
  await consumer.disconnect();
  return { name, group };
}

test('group-commits-survive', async () => {
  const { name, group } = await groupWithCommit();
  same(values(await read(name, 1, { groupId: group })), ['c']);
  const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [name] });
  same(partitions, [{ partition: 0, offset: '2', metadata: 'wörk' }]);
});

// Administration.

test('admin-create-topic', async () => {
  const name = await topic(5);
  same((await admin.fetchTopicMetadata({ topics: [name] })).topics[0].partitions.length, 5);
  same(await admin.createTopics({ topics: [{ topic: name }] }), false, 'made twice');
  await refused('INVALID_TOPIC_EXCEPTION', admin.createTopics({ topics: [{ topic: 'no/such' }] }));
  await refused('INVALID_REPLICATION_FACTOR', admin.createTopics({ topics: [{ topic: fresh('x'), replicationFactor: 3 }] }));
});

test('admin-describe-topic', async () => {
  const name = await topic(3);
  const [found] = (await admin.fetchTopicMetadata({ topics: [name] })).topics;
  const leaders = found.partitions.map((each) => [each.partitionId, each.leader, each.isr]).sort();
  same([found.name, leaders], [name, [0, 1, 2].map((partition) => [partition, 1, [1]])]);
  same((await admin.listTopics()).includes(name), true, 'listed');
});

test('admin-delete-topic', async () => {
  const name = await topic();
  await admin.deleteTopics({ topics: [name] });
  await eventually('gone', async () => !(await admin.listTopics()).includes(name));
});

test('admin-create-partitions', async () => {
  const name = await topic(2);
  await admin.createPartitions({ topicPartitions: [{ topic: name, count: 6 }] });
  await eventually('6', async () => (await admin.fetchTopicMetadata({ topics: [name] })).topics[0].partitions.length === 6);
  await send(name, [{ value: 'x', partition: 5 }]);
});

async function setting(name, key) {
  const found = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type: ConfigResourceTypes.TOPIC, name }] });
  const entry = found.resources[0].configEntries.find((each) => each.configName === key);
  return [entry.configValue, entry.configSource];
}

test('admin-describe-configs', async () => {
  const name = await topic(1, [{ name: 'retention.ms', value: '123456' }]);
  same(await setting(name, 'retention.ms'), ['123456', 1]);
  same(await setting(name, 'cleanup.policy'), ['delete', 5]);
});

test('admin-alter-configs', async () => {
  const name = await topic();
  const change = (key, value) => admin.alterConfigs({ validateOnly: false, resources: [{ type: ConfigResourceTypes.TOPIC, name, configEntries: [{ name: key, value }] }] });
  await change('retention.ms', '777000');
  await eventually('set', async () => (await setting(name, 'retention.ms'))[0] === '777000');
  await refused('INVALID_CONFIG', change('no.such', '1'));
});

test('admin-list-groups', async () => {
  const { group } = await groupWithCommit();
  const { groups } = await admin.listGroups();
  same(groups.find((each) => each.groupId === group), { groupId: group, protocolType: 'consumer' });
});

test('admin-describe-group', async () => {
  const [name, group] = [await topic(2), fresh('g')];
  const { consumer, state } = await member(name, group, new Set());
  await eventually('has both', () => state.share === 2);
  const { groups: [found] } = await admin.describeGroups([group]);
  same([found.state, found.protocol, found.members.length, found.members[0].clientId], ['Stable', 'RoundRobinAssigner', 1, 'compat']);
  const { assignment } = AssignerProtocol.MemberAssignment.decode(found.members[0].memberAssignment);
  same(assignment, { [name]: [0, 1] });
  await consumer.disconnect();
});

test('admin-delete-group', async () => {
  const { group } = await groupWithCommit();
  await admin.deleteGroups([group]);
  same((await admin.listGroups()).groups.some((each) => each.groupId === group), false, 'listed');
});

test('admin-group-offsets', async () => {
  const { name, group } = await groupWithCommit();
  await admin.setOffsets({ groupId: group, topic: name, partitions: [{ partition: 0, offset: '1' }] });
  same((await admin.fetchOffsets({ groupId: group }))[0].partitions[0].offset, '1', 'all topics');
  await admin.resetOffsets({ groupId: group, topic: name, earliest: true });
  same(values(await read(name, 1, { groupId: group })), ['a']);
});

test('admin-delete-records', async () => {
  const name = await topic();
  await send(name, ['a', 'b', 'c', 'd'].map((value) => ({ value })));
  await admin.fetchTopicOffsets(name); // KafkaJS finds the leader only in what it knows already
  await admin.deleteTopicRecords({ topic: name, partitions: [{ partition: 0, offset: '3' }] });
  same((await admin.fetchTopicOffsets(name))[0].low, '3');
  same(values(await read(name, 1)), ['d']);
});

test('admin-offsets-by-time', async () => {
  const name = await topic();
  const base = Date.now() - HOUR_MS;
  for (const i of [0, 5, 3]) await send(name, [{ value: 'x', timestamp: `${base + i * 1000}` }]);
  same(await admin.fetchTopicOffsets(name), [{ partition: 0, offset: '3', high: '3', low: '0' }]);
  same((await admin.fetchTopicOffsetsByTimestamp(name, base + 1))[0].offset, '1');
});

test('admin-describe-cluster', async () => {
  const found = await admin.describeCluster();
  same([found.controller, found.brokers.map((each) => `${each.host}:${each.port}`)], [1, [address]]);
});

await sleep(0);
await main();

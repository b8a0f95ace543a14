// amqplib against any server of AMQP 0-9-1: node suite.mjs ADDRESS [CASE...]
import { createRequire } from 'node:module';
import { address, eventually, main, same, test } from '../../node/cases.mjs';

const amqp = createRequire(import.meta.url)('amqplib');
const url = (query = '') => `amqp://guest:guest@${address}/%2f?${query}`;

async function connected(body, query) {
  const connection = await amqp.connect(url(query));
  connection.on('error', () => {});
  try {
    return await body(connection);
  } finally {
    await connection.close().catch(() => {});
  }
}

const channel = (body) => connected(async (connection) => body(await connection.createChannel(), connection));
const exclusive = async (channel) => (await channel.assertQueue('', { exclusive: true })).queue;
const text = (message) => message.content.toString();

async function polled(channel, queue, options = { noAck: true }) {
  let message = false;
  await eventually(`a message in ${queue}`, async () => {
    message = await channel.get(queue, options);
    return message;
  });
  return message;
}

test('publish-and-consume', () =>
  channel(async (channel) => {
    const queue = await exclusive(channel);
    const received = [];
    await channel.consume(queue, (message) => {
      received.push([message.properties.messageId, message.properties.headers.number, text(message)]);
      channel.ack(message);
    });
    for (let i = 0; i < 200; i++) channel.sendToQueue(queue, Buffer.from(`order ${i}`), { messageId: `m${i}`, headers: { number: i }, persistent: true });
    await eventually('200 orders', () => received.length === 200);
    same(received, Array.from({ length: 200 }, (_, i) => [`m${i}`, i, `order ${i}`]), 'in order');
  }));

test('headers', () =>
  channel(async (channel) => {
    const queue = await exclusive(channel);
    const headers = { text: 'Zürich', number: 1.5, whole: 7, large: 2 ** 40, yes: true, none: null, list: [1, 'two'], table: { a: { b: 1 } }, time: { '!': 'timestamp', value: 1_700_000_000 }, decimal: { '!': 'decimal', value: { digits: 1250, places: 2 } } };
    channel.sendToQueue(queue, Buffer.from('order'), { headers, contentType: 'application/json', priority: 3, timestamp: 1_700_000_000, appId: 'shop', type: 'order' });
    const { properties } = await polled(channel, queue);
    same(properties.headers, headers, 'headers');
    same([properties.contentType, properties.priority, properties.timestamp, properties.appId, properties.type], ['application/json', 3, 1_700_000_000, 'shop', 'order'], 'properties');
  }));

test('confirms', () =>
  connected(async (connection) => {
    const channel = await connection.createConfirmChannel();
    const queue = await exclusive(channel);
    let confirmed = 0;
    for (let i = 0; i < 500; i++) channel.sendToQueue(queue, Buffer.from(`order ${i}`), {}, (error) => (confirmed += error ? 0 : 1));
    await channel.waitForConfirms();
    same(confirmed, 500, 'confirmed');
    same((await channel.checkQueue(queue)).messageCount, 500, 'messages');
  }));

test('full-queue', () =>
  connected(async (connection) => {
    const channel = await connection.createConfirmChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true, maxLength: 1, arguments: { 'x-overflow': 'reject-publish' } });
    channel.sendToQueue(queue, Buffer.from('order 7'));
    await channel.waitForConfirms();
    channel.sendToQueue(queue, Buffer.from('order 8'));
    const error = await channel.waitForConfirms().then(() => null, (error) => error);
    same(error?.message, 'message nacked', 'refused');
  }));

test('returned', () =>
  channel(async (channel) => {
    const returned = [];
    channel.on('return', (message) => returned.push([message.fields.replyCode, text(message)]));
    channel.sendToQueue('node-no-such', Buffer.from('order 7'), { mandatory: true });
    await eventually('a return', () => returned.length);
    same(returned, [[312, 'order 7']], 'returned');
  }));

test('errors', () =>
  connected(async (connection) => {
    const causes = [
      [404, (channel) => channel.checkQueue('node-no-such')],
      [406, (channel) => channel.assertExchange('amq.direct', 'fanout')],
      [403, (channel) => channel.assertQueue('amq.node')],
      [404, (channel) => channel.consume('node-no-such', () => {})],
    ];
    for (const [code, cause] of causes) {
      const channel = await connection.createChannel();
      channel.on('error', () => {});
      const error = await cause(channel).then(() => null, (error) => error);
      same(error?.code, code, 'code');
    }
    const channel = await connection.createChannel();
    let reason;
    channel.on('error', (error) => (reason = error.code));
    channel.ack({ fields: { deliveryTag: 42 } });
    await eventually('closed', () => reason);
    same(reason, 406, 'unknown delivery tag');
  }));

test('bindings', () =>
  channel(async (channel) => {
    await channel.assertExchange('node-orders', 'topic', { autoDelete: true });
    await channel.assertExchange('node-all', 'fanout', { autoDelete: true });
    const queue = await exclusive(channel);
    await channel.bindQueue(queue, 'node-all', '');
    await channel.bindExchange('node-all', 'node-orders', 'order.*');
    channel.publish('node-orders', 'flight.late', Buffer.from('flight'));
    channel.publish('node-orders', 'order.placed', Buffer.from('order 7'), { CC: ['order.copied'] });
    same(text(await polled(channel, queue)), 'order 7', 'body');
    await channel.unbindExchange('node-all', 'node-orders', 'order.*');
    await channel.unbindQueue(queue, 'node-all', '');
  }));

test('dead-letters', () =>
  channel(async (channel) => {
    const dead = await exclusive(channel);
    const { queue } = await channel.assertQueue('', { exclusive: true, messageTtl: 50, deadLetterExchange: '', deadLetterRoutingKey: dead });
    channel.sendToQueue(queue, Buffer.from('order 7'));
    const [death] = (await polled(channel, dead)).properties.headers['x-death'];
    same([death.reason, death.queue, death.count], ['expired', queue, 1], 'x-death');
  }));

test('prefetch', () =>
  channel(async (channel) => {
    const queue = await exclusive(channel);
    await channel.prefetch(3);
    const received = [];
    for (let i = 0; i < 10; i++) channel.sendToQueue(queue, Buffer.from('order'));
    await channel.consume(queue, (message) => received.push(message));
    await eventually('three', () => received.length === 3);
    channel.ack(received[2], true);
    await eventually('three more', () => received.length === 6);
    channel.nackAll(true);
    await eventually('redelivered', () => received.some((message) => message.fields.redelivered));
  }));

test('cancelled', () =>
  channel(async (channel, connection) => {
    const { queue } = await channel.assertQueue('node-cancelled', { durable: false });
    const received = [];
    await channel.consume(queue, (message) => received.push(message));
    await (await connection.createChannel()).deleteQueue(queue);
    await eventually('cancelled by the server', () => received.length);
    same(received, [null], 'a null for the end');
  }));

test('reply-to', () =>
  channel(async (channel) => {
    const queue = await exclusive(channel);
    await channel.consume(queue, (message) => channel.sendToQueue(message.properties.replyTo, Buffer.from(text(message).toUpperCase())), { noAck: true });
    const answers = [];
    await channel.consume('amq.rabbitmq.reply-to', (message) => answers.push(text(message)), { noAck: true });
    channel.sendToQueue(queue, Buffer.from('flight'), { replyTo: 'amq.rabbitmq.reply-to' });
    await eventually('an answer', () => answers.length);
    same(answers, ['FLIGHT'], 'answer');
  }));

test('large-message', () =>
  connected(async (connection) => {
    const channel = await connection.createConfirmChannel();
    const queue = await exclusive(channel);
    const body = Buffer.alloc(1_000_000, 'abc');
    channel.sendToQueue(queue, body);
    await channel.waitForConfirms();
    same((await polled(channel, queue)).content.equals(body), true, 'in 250 frames');
  }, 'frameMax=4096'));

test('update-secret', () =>
  connected(async (connection) => {
    await connection.updateSecret(Buffer.from('guest'), 'renewed');
    await connection.createChannel();
  }));

await main();

// Google's Node client: node suite.mjs HOST:PORT [CASE…]
import { PubSub } from "@google-cloud/pubsub";

const [, , address, ...only] = process.argv;
process.env.PUBSUB_EMULATOR_HOST = address;
const pubsub = new PubSub({ projectId: "compat" });
const fresh = (prefix) => `${prefix}-${Math.random().toString(16).slice(2, 10)}`;
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function same(actual, expected, what = "value") {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: got ${a}, expected ${b}`);
}

async function eventually(check, what, seconds = 20) {
  const end = Date.now() + seconds * 1000;
  while (!check()) {
    if (Date.now() > end) throw new Error(`not so after ${seconds} s: ${what}`);
    await wait(50);
  }
}

async function made(options = {}) {
  const [topic] = await pubsub.createTopic(fresh("orders"));
  const [subscription] = await topic.createSubscription(fresh("billing"), options);
  return { topic, subscription };
}

const cases = {
  async "publish-and-receive"() {
    const { topic, subscription } = await made();
    const received = new Map();
    subscription.on("message", (message) => {
      received.set(message.id, [message.data.toString(), message.attributes.shop]);
      message.ack();
    });
    const ids = await Promise.all(
      [...Array(100).keys()].map((i) =>
        topic.publishMessage({ data: Buffer.from(`${i}`), attributes: { shop: "grüße" } }),
      ),
    );
    await eventually(() => received.size === 100, "100 messages");
    ids.forEach((id, i) => same(received.get(id), [`${i}`, "grüße"]));
    await subscription.close();
  },

  async "nack-brings-a-message-again"() {
    const { topic, subscription } = await made();
    let times = 0;
    subscription.on("message", (message) => (++times < 3 ? message.nack() : message.ack()));
    await topic.publishMessage({ data: Buffer.from("{}") });
    await eventually(() => times >= 3, "three deliveries");
    await subscription.close();
  },

  async "ordering-keys"() {
    const { topic, subscription } = await made({ enableMessageOrdering: true });
    const ordered = pubsub.topic(topic.name, { messageOrdering: true });
    const received = {};
    let count = 0;
    subscription.on("message", (message) => {
      received[message.orderingKey] = [...(received[message.orderingKey] ?? []), Number(message.data)];
      count++;
      message.ack();
    });
    for (let i = 0; i < 100; i++)
      ordered.publishMessage({ data: Buffer.from(`${i}`), orderingKey: `customer-${i % 4}` });
    await eventually(() => count >= 100, "100 messages");
    for (let key = 0; key < 4; key++)
      same(received[`customer-${key}`], [...Array(25).keys()].map((i) => i * 4 + key));
    await subscription.close();
  },

  async "exactly-once"() {
    const { topic, subscription } = await made({ enableExactlyOnceDelivery: true });
    const results = [];
    subscription.on("message", async (message) => results.push(await message.ackWithResponse()));
    for (let i = 0; i < 20; i++) await topic.publishMessage({ data: Buffer.from(`${i}`) });
    await eventually(() => results.length >= 20, "20 acks", 40);
    same(results, Array(20).fill("SUCCESS"));
    await subscription.close();
  },

  async "flow-control"() {
    const { topic, subscription } = await made();
    const limited = pubsub.subscription(subscription.name, {
      flowControl: { maxMessages: 2 },
      streamingOptions: { maxStreams: 5 },
    });
    const received = new Set();
    for (let i = 0; i < 20; i++) topic.publishMessage({ data: Buffer.from(`${i}`) });
    limited.on("message", async (message) => {
      await wait(20);
      received.add(message.data.toString());
      message.ack();
    });
    await eventually(() => received.size === 20, "20 messages", 40);
    await limited.close();
  },

  async administer() {
    const { topic, subscription } = await made({ labels: { team: "shop" } });
    same((await subscription.exists())[0], true);
    await subscription.setMetadata({ ackDeadlineSeconds: 30 });
    same((await subscription.getMetadata())[0].ackDeadlineSeconds, 30);
    const names = (await topic.getSubscriptions())[0].map((item) => item.name);
    same(names, [subscription.name]);
    await subscription.delete();
    await topic.delete();
    same((await topic.exists())[0], false);
  },
};

let failed = 0;
for (const [name, run] of Object.entries(cases)) {
  if (only.length && !only.includes(name)) continue;
  try {
    await Promise.race([run(), wait(60_000).then(() => Promise.reject(new Error("still running after 60 s")))]);
    console.log(`PASS ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAIL ${name}: ${String(error.message).replaceAll("\n", " ")}`);
  }
}
process.exit(failed ? 1 : 0);

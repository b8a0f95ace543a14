// Naming the cases, running them one by one, printing `PASS name` or `FAIL name: reason`.
import { randomBytes } from 'node:crypto';
import { isDeepStrictEqual, inspect } from 'node:util';

export const [address, ...only] = process.argv.slice(2);
const cases = new Map();

export const test = (name, body) => cases.set(name, body);
export const fresh = (prefix) => `${prefix}-${randomBytes(4).toString('hex')}`;
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export function same(got, expected, what = 'value') {
  if (!isDeepStrictEqual(got, expected)) throw new Error(`${what}: got ${inspect(got)}, expected ${inspect(expected)}`);
}

export async function eventually(what, check, seconds = 40) {
  const deadline = Date.now() + seconds * 1000;
  while (!(await check())) {
    if (Date.now() > deadline) throw new Error(`not so after ${seconds} s: ${what}`);
    await sleep(50);
  }
}

export async function refused(type, promise) {
  let answer;
  try {
    answer = await promise;
  } catch (error) {
    const types = [error.type, error.cause?.type, ...(error.errors ?? []).map((each) => each.type)];
    if (types.includes(type)) return;
    throw new Error(`refused with ${types} (${error.message}), expected ${type}`);
  }
  throw new Error(`not refused with ${type}: ${inspect(answer)}`);
}

async function run(body) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('case still running after 60 s')), 60_000);
  });
  await Promise.race([body(), late]).finally(() => clearTimeout(timer));
}

export async function main() {
  let failed = 0;
  for (const [name, body] of cases) {
    if (only.length && !only.includes(name)) continue;
    try {
      await run(body);
      console.log(`PASS ${name}`);
    } catch (error) {
      failed += 1;
      console.error(error);
      console.log(`FAIL ${name}: ${error}`.replaceAll(/\s+/g, ' ').slice(0, 400));
    }
  }
  process.exit(failed ? 1 : 0);
}

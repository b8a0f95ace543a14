/**
 * SCRAM verifiers of passwords (RFC 5802, RFC 7677): the password itself never leaves the browser.
 *
 * Browsers offer the functions for that only over HTTPS and on localhost: `canHash()` says whether.
 */

const ITERATIONS = 8192;
const SALT_BYTES = 24;
const MECHANISMS = [
  { mechanism: "SCRAM-SHA-256", hash: "SHA-256", bytes: 32 },
  { mechanism: "SCRAM-SHA-512", hash: "SHA-512", bytes: 64 },
];

export const canHash = () => Boolean(globalThis.crypto?.subtle);

/** The verifiers of a password, as the server keeps them, one for each mechanism. */
export async function passwordVerifiers(password) {
  const bytes = new TextEncoder().encode(password); // not normalized: neither do Kafka's clients
  return Promise.all(MECHANISMS.map((kind) => verifier(kind, bytes)));
}

async function verifier({ mechanism, hash, bytes }, password) {
  const salt = crypto.getRandomValues(new Uint8Array(SALT_BYTES));
  const base = await crypto.subtle.importKey("raw", password, "PBKDF2", false, ["deriveBits"]);
  const derivation = { name: "PBKDF2", hash, salt, iterations: ITERATIONS };
  const salted = await crypto.subtle.deriveBits(derivation, base, bytes * 8);
  const clientKey = await sign(salted, hash, "Client Key");
  return {
    mechanism,
    salt: base64(salt),
    iterations: ITERATIONS,
    stored_key: base64(await crypto.subtle.digest(hash, clientKey)),
    server_key: base64(await sign(salted, hash, "Server Key")),
  };
}

async function sign(secret, hash, text) {
  const key = await crypto.subtle.importKey("raw", secret, { name: "HMAC", hash }, false, ["sign"]);
  return crypto.subtle.sign("HMAC", key, new TextEncoder().encode(text));
}

const base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));

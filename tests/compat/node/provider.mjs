// An OpenID Connect provider for tests: node provider.mjs PORT REDIRECT. Any login name is let in; the claim
// `groups` has the words after the name ("alice ops support").
import { generateKeyPairSync } from "node:crypto";
import { Provider } from "oidc-provider";

const [port, redirect] = process.argv.slice(2);
const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: "console",
      token_endpoint_auth_method: "none",
      redirect_uris: [redirect],
      id_token_signed_response_alg: "ES256",
    },
  ],
  jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), use: "sig", alg: "ES256", kid: `key-${Date.now()}` }] },
  cookies: { keys: ["for tests"] },
  claims: { profile: ["preferred_username", "groups"] },
  conformIdTokenClaims: false,
  async findAccount(_context, id) {
    const [name, ...groups] = id.split(" ");
    return { accountId: id, claims: async () => ({ sub: id, preferred_username: name, groups }) };
  },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));

// An OpenID provider (oidc-provider of npm) whose users are jobs of CI: node oidc_provider.mjs MODULE PORT JOBS
// MODULE: the folder of oidc-provider. JOBS: {subject: claims} as JSON. Its clients are the audiences of the ID tokens.
import { pathToFileURL } from "node:url";

const [module, port, jobs] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(`${module}/lib/index.js`));
const { audiences, redirect, accounts } = JSON.parse(jobs);
const names = [...new Set(Object.values(accounts).flatMap(Object.keys))];

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: audiences.map((client_id) => ({
    client_id,
    client_secret: "secret",
    redirect_uris: [redirect],
    token_endpoint_auth_method: "client_secret_post",
  })),
  claims: { openid: ["sub", ...names] },
  conformIdTokenClaims: false,
  pkce: { required: () => false },
  findAccount: (_context, id) => ({ accountId: id, claims: () => ({ ...accounts[id], sub: id }) }),
});
provider.listen(Number(port), "127.0.0.1");

// oidc-provider as a test's issuer: signs in whom the test names, and misbehaves as the test says.
//
//   node provider.mjs FOLDER_OF_node_modules '{"port": 1, "cert": "PEM", "key": "PEM", "clients": [...]}'
//
// POST /-/control with a JSON object changes it: {"accounts": {"sub": {claims}}, "account": "sub",
// "rotate": true, "algorithm": "ES256", "clientChanges": {...},
// "stall": ["/token"], "broken": {"/jwks": 500}, "garbage": ["/token"], "deny": true, "refreshes": false}.
// GET /-/asked counts the requests by path.
import { createRequire } from 'node:module';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:https';
import { pathToFileURL } from 'node:url';

const [, , folder, text] = process.argv;
const require = createRequire(pathToFileURL(`${folder}/`));
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));

const { port, cert, key, clients } = JSON.parse(text);
const issuer = `https://127.0.0.1:${port}`;
const state = {
  accounts: {}, account: '', algorithm: 'RS256', clientChanges: {},
  stall: [], broken: {}, garbage: [], deny: false,
  refreshes: true,
};
let keys = [];
let asked = {};
let provider;

function newKey(algorithm) {
  const { privateKey } = algorithm === 'ES256'
    ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
    : generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), alg: algorithm, use: 'sig' };
}

async function interaction(ctx, next) {
  if (!ctx.path.startsWith('/interaction/')) return next();
  const details = await provider.interactionDetails(ctx.req, ctx.res);
  const grant = new provider.Grant({ accountId: state.account, clientId: details.params.client_id });
  grant.addOIDCScope('openid email profile groups offline_access');
  if (state.deny) return provider.interactionFinished(ctx.req, ctx.res, { error: 'access_denied' });
  const result = { login: { accountId: state.account }, consent: { grantId: await grant.save() } };
  return provider.interactionFinished(ctx.req, ctx.res, result);
}

function configure() {
  const changed = clients.map((client) => ({
    id_token_signed_response_alg: state.algorithm, ...client, ...state.clientChanges,
  }));
  provider = new Provider(issuer, {
    clients: changed,
    jwks: { keys },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'], groups: ['groups'] },
    scopes: ['openid', 'offline_access', 'email', 'profile', 'groups'],
    conformIdTokenClaims: false,
    cookies: { keys: ['only for tests'] },
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'HS256'] },
    features: { devInteractions: { enabled: false }, rpInitiatedLogout: { enabled: false } },
    ttl: { AccessToken: 60, AuthorizationCode: 60, IdToken: 300, RefreshToken: 3600, Interaction: 60,
           Session: 60, Grant: 3600 },
    findAccount: async (ctx, sub) => state.accounts[sub] && {
      accountId: sub, claims: async () => ({ sub, ...state.accounts[sub] }),
    },
    // Without this it gives one only where the client asks for `prompt=consent`, too.
    issueRefreshToken: async () => state.refreshes,
    rotateRefreshToken: true,
  });
  provider.use(interaction);
}

async function bodyOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return JSON.parse(Buffer.concat(parts).toString() || '{}');
}

function change(orders) {
  const { rotate, ...rest } = orders;
  Object.assign(state, rest);
  if (rotate) keys = [newKey('RS256'), newKey('ES256')];
  // A new one has forgotten whom it gave tokens to.
  if (rotate || ['algorithm', 'clientChanges'].some((it) => it in rest)) configure();
}

async function serve(request, response) {
  const { pathname } = new URL(request.url, issuer);
  if (pathname === '/-/control') {
    change(await bodyOf(request));
    return response.end('{}');
  }
  if (pathname === '/-/asked') return response.end(JSON.stringify(asked));
  asked[pathname] = (asked[pathname] ?? 0) + 1;
  if (state.stall.includes(pathname)) return undefined;
  if (pathname in state.broken) return response.writeHead(state.broken[pathname]).end('broken');
  if (state.garbage.includes(pathname)) {
    return response.writeHead(200, { 'Content-Type': 'application/json' }).end('{"id_token": ');
  }
  return provider.callback()(request, response);
}

change({ rotate: true });
createServer({ cert, key }, serve).listen(port, '127.0.0.1', () => console.log('ready'));

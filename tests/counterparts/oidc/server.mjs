// The OpenID provider `oidc-provider`, and a small FHIR server that takes its tokens and no others.
// Arguments: a folder with es.json and rs.json, the public key sets of two clients.
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const load = (name) =>
  import(pathToFileURL(path.join(process.cwd(), 'node_modules', ...name.split('/'))));
const { Provider } = await load('oidc-provider/lib/index.js');
const { createRemoteJWKSet, jwtVerify } = await load('jose/dist/webapi/index.js');

const keys = (name) => JSON.parse(readFileSync(path.join(process.argv[2], name), 'utf8'));
const machine = { grant_types: ['client_credentials'], redirect_uris: [], response_types: [] };
const scopes = ['system/Patient.rs', 'system/Observation.rs'];
const listen = (server) =>
  new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));

const state = { tokens: 0, elsewhere: 0, grants: {}, signIns: [], moved: false };
const front = createServer((request, response) => {
  if (request.url === '/token') state.tokens += 1;
  return provider.callback()(request, response);
});
const issuerPort = await listen(front);
const issuer = `http://127.0.0.1:${issuerPort}`;
const audience = 'urn:fhir';
const fhir = createServer((request, response) => answered(request, response));
const port = await listen(fhir);
const base = `http://127.0.0.1:${port}/fhir`;
const published = (file) => ({ jwks_uri: `http://127.0.0.1:${port}/${file}`, token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: 'ES384', ...machine });
const provider = new Provider(issuer, {
  clients: [
    { client_id: 'published', ...published('es.json') },
    { client_id: 'unpublished', ...published('nobody.json') },
    { client_id: 'narrow', scope: scopes[0], client_secret: 'the secret+of/post', token_endpoint_auth_method: 'client_secret_post', ...machine },
    { client_id: 'basic', client_secret: 'the secret+of/basic', token_endpoint_auth_method: 'client_secret_basic', ...machine },
    { client_id: 'post', client_secret: 'the secret+of/post', token_endpoint_auth_method: 'client_secret_post', ...machine },
    { client_id: 'es', jwks: keys('es.json'), token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: 'ES384', ...machine },
    { client_id: 'rs', jwks: keys('rs.json'), token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: 'RS384', ...machine },
    {
      client_id: 'portal',
      token_endpoint_auth_method: 'none',
      application_type: 'native',
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      redirect_uris: ['http://127.0.0.1/callback'],
    },
  ],
  scopes: ['openid', 'offline_access', ...scopes],
  enabledJWA: { clientAuthSigningAlgValues: ['RS384', 'ES384'] },
  rotateRefreshToken: true,
  // Without the provider's own guard, which keeps it from fetching key sets on loopback.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  issueRefreshToken: async () => true,
  ttl: { AccessToken: 2, ClientCredentials: 300, RefreshToken: 3600, Interaction: 600, Session: 600, Grant: 600 },
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => audience,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: scopes.join(' '),
        audience,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});
provider.on('server_error', (_, error) => console.error(error));
provider.on('grant.success', (context) => {
  const kind = context.oidc.params.grant_type;
  state.grants[kind] = (state.grants[kind] ?? 0) + 1;
  if (context.oidc.entities.Grant) state.signIns.push(context.oidc.entities.Grant.jti);
});

const verified = createRemoteJWKSet(new URL(`${issuer}/jwks`));
const statement = (base) => ({
  resourceType: 'CapabilityStatement', status: 'active', date: '2026-01-01', kind: 'instance',
  fhirVersion: '4.0.1', format: ['json'], implementation: { description: 'counterpart', url: base },
  rest: [{ mode: 'server', resource: [{ type: 'Patient', interaction: [{ code: 'search-type' }] }] }],
});
const answered = async (request, response) => {
  const url = new URL(request.url, 'http://127.0.0.1');
  const answer = (status, body) => {
    response.writeHead(status, { 'content-type': 'application/fhir+json' });
    response.end(JSON.stringify(body));
  };
  if (url.pathname === '/state') {
    if (url.searchParams.has('moved')) state.moved = url.searchParams.get('moved') === '1';
    if (url.searchParams.has('end')) {
      for (const signIn of new Set(state.signIns)) await provider.RefreshToken.revokeByGrantId(signIn);
    }
    return answer(200, state);
  }
  if (url.pathname === '/elsewhere') {
    state.elsewhere += 1;
    return answer(200, { access_token: 'stolen', token_type: 'Bearer', expires_in: 60 });
  }
  if (url.pathname === '/es.json') return answer(200, keys('es.json'));
  if (url.pathname === '/nobody.json') return answer(200, { keys: [] });
  if (url.pathname === '/fhir/metadata') return answer(200, statement(`${base}`));
  if (url.pathname === '/fhir/.well-known/smart-configuration') {
    return answer(200, {
      token_endpoint: state.moved ? `http://127.0.0.1:${port}/elsewhere` : `${issuer}/token`,
      authorization_endpoint: `${issuer}/auth`,
      capabilities: ['client-confidential-asymmetric', 'permission-v2'],
      grant_types_supported: ['client_credentials', 'authorization_code'],
      code_challenge_methods_supported: ['S256'],
    });
  }
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
  try {
    await jwtVerify(token ?? '', verified, { issuer, audience });
  } catch {
    return answer(401, { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code: 'login' }] });
  }
  return answer(200, { resourceType: 'Bundle', type: 'searchset', total: 0 });
};
console.log(JSON.stringify({ name: 'oidc', port, issuer, fhir: base, state: `http://127.0.0.1:${port}/state` }));

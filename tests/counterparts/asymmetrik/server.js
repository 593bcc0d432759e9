// node-fhir-server-core with one synthetic Patient in memory: STU3 at /3_0_1, R4 at /4_0_0.
const fs = require('fs');
const os = require('os');
const path = require('path');
const core = require('@asymmetrik/node-fhir-server-core');

const service = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'counterpart-')), 'patient.service.js');
fs.writeFileSync(
  service,
  `const patient = { resourceType: 'Patient', id: 'canary-1', name: [{ family: 'Canary' }] };
   const make = () => ({ ...patient, toJSON: () => patient });
   module.exports.search = async () => ({
     resourceType: 'Bundle', type: 'searchset', total: 1, entry: [{ resource: patient }],
   });
   module.exports.searchById = async (args) => (args.id === 'canary-1' ? make() : undefined);
   module.exports.create = async () => ({ id: 'x' });
   module.exports.update = async () => ({ id: 'x' });
   module.exports.remove = async () => ({});
  `,
);
process.on('exit', () => fs.rmSync(path.dirname(service), { recursive: true, force: true }));

const server = core.initialize({
  logging: { level: 'error' },
  profiles: { patient: { service, versions: ['3_0_1', '4_0_0'] } },
});
const listener = require('http').createServer(server.app);
listener.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ name: 'asymmetrik', port: listener.address().port }));
});
process.on('SIGTERM', () => process.exit(0));

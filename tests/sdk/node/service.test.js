'use strict';
// The service SDK for Node, unmodified: every call of it that the hub answers, and what it does with those that it refuses.
const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const iothub = require('azure-iothub');
const { SCENE, subscribed, test, within } = require('./kit');
const { DigitalTwinClient } = iothub;

const REST = ['http'];
const KEY = Buffer.alloc(32, 7).toString('base64');

const service = (hub, policy = 'iothubowner') => hub.connectionString('--service', '--policy', policy);
const registryOf = (hub, policy) => iothub.Registry.fromConnectionString(service(hub, policy));
const body = (result) => result.responseBody;
const refused = (promise, name) => assert.rejects(promise, (error) => {
  assert.strictEqual(error.name, name, `${error.name}: ${error.message} ${error.responseBody}`);
  return true;
});

test('a device is made, read, changed by its etag, listed and deleted', REST, async ({ hub, tag }) => {
  const registry = registryOf(hub);
  const deviceId = `d-${tag}`;
  const made = body(await registry.create({ deviceId, status: 'enabled' }));
  assert.match(made.authentication.symmetricKey.primaryKey, /^.{44}$/);
  await refused(registry.create({ deviceId }), 'DeviceAlreadyExistsError');
  const got = body(await registry.get(deviceId));
  assert.deepStrictEqual(got.authentication, made.authentication);
  assert.strictEqual(got.capabilities.iotEdge, false);
  const changed = body(await registry.update({ ...got, status: 'disabled', statusReason: 'in repair' }));
  assert.strictEqual(changed.status, 'disabled');
  assert.strictEqual(changed.statusReason, 'in repair');
  assert.deepStrictEqual(changed.authentication, made.authentication);
  const all = body(await registry.list());
  assert.ok(all.some((device) => device.deviceId === deviceId));
  assert.ok(all.some((device) => device.deviceId === SCENE.edge && device.capabilities.iotEdge));
  assert.strictEqual((await registry.delete(deviceId)).httpResponse.statusCode, 204);
  await refused(registry.get(deviceId), 'DeviceNotFoundError');
});

test('a device has own keys or thumbprints when they are given', REST, async ({ hub, tag }) => {
  const registry = registryOf(hub);
  const keys = { symmetricKey: { primaryKey: KEY, secondaryKey: KEY } };
  const sas = body(await registry.create({ deviceId: `k-${tag}`, authentication: keys }));
  assert.strictEqual(sas.authentication.symmetricKey.primaryKey, KEY);
  const thumbprint = 'AB'.repeat(20);
  const x509 = { x509Thumbprint: { primaryThumbprint: thumbprint } };
  const self = body(await registry.create({ deviceId: `x-${tag}`, authentication: x509 }));
  assert.strictEqual(self.authentication.type, 'selfSigned');
  assert.strictEqual(self.authentication.x509Thumbprint.primaryThumbprint, thumbprint);
});

test('devices are added, updated and removed in bulk', REST, async ({ hub, tag }) => {
  const registry = registryOf(hub);
  const devices = [1, 2].map((number) => ({ deviceId: `b${number}-${tag}` }));
  assert.deepStrictEqual(body(await registry.addDevices(devices)), { isSuccessful: true, errors: [], warnings: [] });
  await refused(registry.addDevices(devices), 'ArgumentError');
  const changed = devices.map((device) => ({ ...device, status: 'disabled' }));
  assert.ok(body(await registry.updateDevices(changed, true)).isSuccessful);
  assert.strictEqual(body(await registry.get(devices[0].deviceId)).status, 'disabled');
  assert.ok(body(await registry.removeDevices(devices, true)).isSuccessful);
  await refused(registry.get(devices[1].deviceId), 'DeviceNotFoundError');
});

test('a module is added, read, updated, listed and removed', REST, async ({ hub, tag }) => {
  const registry = registryOf(hub);
  const moduleId = `m-${tag}`;
  await registry.addModule({ deviceId: SCENE.edge, moduleId, managedBy: 'me' });
  const got = body(await registry.getModule(SCENE.edge, moduleId));
  assert.strictEqual(got.managedBy, 'me');
  assert.match(got.authentication.symmetricKey.secondaryKey, /^.{44}$/);
  await registry.updateModule({ ...got, managedBy: 'you' });
  const modules = body(await registry.getModulesOnDevice(SCENE.edge));
  assert.strictEqual(modules.find((module) => module.moduleId === moduleId).managedBy, 'you');
  assert.ok(modules.some((module) => module.moduleId === '$edgeHub'));
  await refused(registry.updateModule(got), 'InvalidEtagError');
  await registry.removeModule(SCENE.edge, moduleId);
  await assert.rejects(registry.getModule(SCENE.edge, moduleId), /Not found/);
});

test('twins are read and changed by the registry and by themselves', REST, async ({ hub, tag }) => {
  const registry = registryOf(hub);
  const twin = body(await registry.getTwin('leaf-1'));
  assert.strictEqual(twin.deviceId, 'leaf-1');
  const changed = body(await registry.updateTwin('leaf-1', { tags: { tag }, properties: { desired: { tag } } }, twin.etag));
  assert.deepStrictEqual([changed.tags.tag, changed.properties.desired.tag], [tag, tag]);
  await refused(registry.updateTwin('leaf-1', { tags: { tag } }, twin.etag), 'InvalidEtagError');
  const own = body(await registry.getModuleTwin(SCENE.edge, 'sender'));
  assert.strictEqual(own.moduleId, 'sender');
  assert.strictEqual(typeof own.properties.desired.$version, 'number');
  assert.ok(own.properties.reported.$metadata);
  const module = body(await registry.updateModuleTwin(SCENE.edge, 'sender', { properties: { desired: { tag } } }, '*'));
  await module.update({ properties: { desired: { more: tag } } });
  await module.get();
  assert.deepStrictEqual([module.properties.desired.tag, module.properties.desired.more], [tag, tag]);
  await refused(registry.getTwin('nobody'), 'DeviceNotFoundError');
  await refused(registry.updateTwin('leaf-1', { tags: { 'a b': 1 } }, '*'), 'ArgumentError');
});

test('a query gives pages of twins', REST, async ({ hub }) => {
  const registry = registryOf(hub);
  const query = registry.createQuery(`SELECT * FROM devices.modules WHERE deviceId = '${SCENE.edge}'`, 2);
  const found = [];
  while (query.hasMoreResults) {
    for (const twin of (await query.nextAsTwin()).result) found.push(twin.moduleId);
  }
  for (const name of ['$edgeAgent', '$edgeHub', ...SCENE.modules]) assert.ok(found.includes(name), name);
  const devices = await registry.createQuery('SELECT * FROM devices WHERE deviceId = \'leaf-1\'').next();
  assert.deepStrictEqual(devices.result.map((twin) => twin.deviceId), ['leaf-1']);
  await refused(registry.createQuery('SELECT tags FROM devices').next(), 'ArgumentError');
});

test('statistics count devices', REST, async ({ hub }) => {
  const statistics = body(await registryOf(hub).getRegistryStatistics());
  assert.ok(statistics.totalDeviceCount >= 3, JSON.stringify(statistics));
  assert.strictEqual(statistics.totalDeviceCount, statistics.enabledDeviceCount + statistics.disabledDeviceCount);
});

test('configurations are kept', REST, async ({ hub, tag }) => {
  const registry = registryOf(hub);
  const configuration = { id: `c-${tag}`, content: { deviceContent: {} }, targetCondition: '*', priority: 3 };
  await registry.addConfiguration(configuration);
  const got = body(await registry.getConfiguration(configuration.id));
  assert.strictEqual(got.priority, 3);
  await registry.updateConfiguration({ ...got, priority: 4 });
  const all = body(await registry.getConfigurations());
  assert.strictEqual(all.find((one) => one.id === configuration.id).priority, 4);
  await registry.removeConfiguration(configuration.id);
  await assert.rejects(registry.getConfiguration(configuration.id), /Not found/);
});

test('a manifest is applied, and a bad one is refused whole', REST, async ({ hub, tag }) => {
  const registry = registryOf(hub);
  const own = body(await registry.getModuleTwin(SCENE.edge, 'plain')).properties.desired;
  const routes = { ...SCENE.routes, [`n-${tag}`]: { route: 'FROM /messages/* INTO $upstream', priority: 2, timeToLiveSecs: 60 } };
  const hubPart = { schemaVersion: '1.1', routes, storeAndForwardConfiguration: { timeToLiveSecs: 7200 } };
  const content = { modulesContent: { $edgeHub: { 'properties.desired': hubPart }, plain: { 'properties.desired.tag': tag } } };
  await registry.applyConfigurationContentOnDevice(SCENE.edge, content);
  const route = await hub.api('GET', `/routes/n-${tag}`);
  assert.deepStrictEqual([route.priority, route.timeToLiveSecs], [2, 60]);
  assert.strictEqual(body(await registry.getModuleTwin(SCENE.edge, 'plain')).properties.desired.tag, tag);
  content.modulesContent.$edgeHub['properties.desired'] = { ...hubPart, routes: { bad: 'FROM' } };
  content.modulesContent.plain = { 'properties.desired': {} };
  await refused(registry.applyConfigurationContentOnDevice(SCENE.edge, content), 'ArgumentError');
  assert.strictEqual(body(await registry.getModuleTwin(SCENE.edge, 'plain')).properties.desired.tag, tag);
  assert.notStrictEqual(own.tag, tag);
});

test('a direct method is called, with the errors that the SDK knows', ['mqtt'], async ({ clients, hub, tag }) => {
  const client = await clients.module('receiver', 'mqtt');
  client.onMethod('echo', (request, response) => response.send(201, { echo: request.payload }));
  await subscribed();
  const caller = iothub.Client.fromConnectionString(service(hub, 'service'));
  const call = { methodName: 'echo', payload: { tag }, responseTimeoutInSeconds: 10 };
  const answer = await within(caller.invokeDeviceMethod(SCENE.edge, 'receiver', call), 'the method is answered');
  assert.deepStrictEqual(answer.result, { status: 201, payload: { echo: { tag } } });
  await assert.rejects(caller.invokeDeviceMethod('leaf-2', { methodName: 'echo', responseTimeoutInSeconds: 5 }), /Not found/);
  await refused(caller.invokeDeviceMethod('nobody', { methodName: 'echo' }), 'DeviceNotFoundError');
});

test('a policy without the right is refused', REST, async ({ hub }) => {
  await refused(registryOf(hub, 'registryRead').create({ deviceId: 'never' }), 'UnauthorizedError');
  await refused(registryOf(hub, 'service').get(SCENE.edge), 'UnauthorizedError');
  await refused(registryOf(hub, 'registryReadWrite').getTwin(SCENE.edge), 'UnauthorizedError');
  assert.strictEqual(body(await registryOf(hub, 'registryRead').get(SCENE.edge)).deviceId, SCENE.edge);
  const wrong = service(hub).replace(/SharedAccessKey=.*/, `SharedAccessKey=${KEY}`);
  await refused(iothub.Registry.fromConnectionString(wrong).get(SCENE.edge), 'UnauthorizedError');
});

test('what is not offered is refused in words', REST, async ({ hub }) => {
  const registry = registryOf(hub);
  const jobs = iothub.JobClient.fromConnectionString(service(hub));
  const twins = new DigitalTwinClient(new iothub.IoTHubTokenCredentials(service(hub)));
  const blob = 'https://blob.example';
  const calls = [
    () => registry.listJobs(), () => registry.getJob('1'), () => registry.cancelJob('1'),
    () => registry.importDevicesFromBlob(blob, blob), () => registry.importDevicesFromBlobByIdentity(blob, blob),
    () => registry.exportDevicesToBlob(blob, true), () => registry.exportDevicesToBlobByIdentity(blob, true),
    () => jobs.getJob('1'), () => jobs.cancelJob('1'), () => jobs.createQuery().next(),
    () => jobs.scheduleTwinUpdate('1', 'true', {}, new Date(), 10),
    () => jobs.scheduleDeviceMethod('1', 'true', { methodName: 'm' }, new Date(), 10),
    () => twins.getDigitalTwin('d'), () => twins.updateDigitalTwin('d', []),
    () => twins.invokeCommand('d', 'c', {}), () => twins.invokeComponentCommand('d', 'c', 'e', {}),
  ];
  for (const call of calls) await assert.rejects(call, /NotImplemented|not offered/, String(call));
});

test('every call of the SDK has a row in the table of compatibility', REST, async () => {
  const page = fs.readFileSync(path.join(__dirname, '..', '..', '..', 'docs', 'compatibility.md'), 'utf8');
  const classes = { Registry: iothub.Registry, Client: iothub.Client, JobClient: iothub.JobClient, DigitalTwinClient };
  for (const [name, kind] of Object.entries(classes)) {
    for (const method of Object.getOwnPropertyNames(kind.prototype)) {
      if (method === 'constructor' || method.startsWith('_')) continue;
      assert.ok(page.includes(`| \`${name}.${method}\` |`), `${name}.${method} has no row`);
    }
  }
});

test('a command is sent and received over AMQP', ['amqp'], async ({ clients, hub, tag }) => {
  const device = await clients.device('leaf-1', 'mqtt');
  const received = new Promise((done) => device.on('message', (message) => {
    device.complete(message, () => {});
    if (message.getData().toString() === tag) done(message);
  }));
  await subscribed();
  const sender = iothub.Client.fromConnectionString(service(hub, 'service'));
  await within(sender.open(), 'the service client opens');
  try {
    await within(sender.getFeedbackReceiver(), 'the link of feedback opens');
    await within(sender.send('leaf-1', tag), 'the command is taken in');
    await within(received, 'the command arrives');
  } finally {
    await within(sender.close(), 'the service client closes');
  }
});

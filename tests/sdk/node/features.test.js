'use strict';
// The unmodified Node device SDK: twins, direct methods and cloud-to-device messages, against the real binary.
const assert = require('node:assert');
const iothub = require('azure-iothub');
const { Inbox, SCENE, called, property, subscribed, test, waitFor, within } = require('./kit');

const ALL = ['mqtt', 'mqttws'];

/** The client answers every method with its name and what it was given. */
function answers(client, names, on = 'onMethod') {
  for (const name of names) {
    client[on](name, (request, response) => response.send(203, { did: request.methodName, with: request.payload }, () => {}));
  }
}

/** What an operator wants of a module, by the service SDK; gives the version. */
async function setDesired(hub, module, desired) {
  const registry = iothub.Registry.fromConnectionString(hub.service());
  const changed = registry.updateModuleTwin(SCENE.edge, module, { properties: { desired } }, '*');
  return (await within(changed, 'it is desired')).responseBody.properties.desired.$version;
}

/** What a module has reported, by the service SDK. */
async function reported(hub, module) {
  const registry = iothub.Registry.fromConnectionString(hub.service());
  return (await within(registry.getModuleTwin(SCENE.edge, module), 'the twin')).responseBody.properties.reported;
}

const report = (twin, patch) => called('it is reported', (done) => twin.properties.reported.update(patch, done));

test('a reported patch is in the twin that client and operator see', ALL, async ({ clients, hub, tag, transport }) => {
  const client = await clients.module('sender', transport);
  const twin = await within(client.getTwin(), 'the twin');
  assert.strictEqual(typeof twin.properties.desired.$version, 'number');
  await report(twin, { seen: { tag, gone: 1 } });
  await report(twin, { seen: { gone: null } });
  const again = await within(client.getTwin(), 'the twin again');
  assert.deepStrictEqual(again.properties.reported.seen, { tag });
  assert.deepStrictEqual((await reported(hub, 'sender')).seen, { tag });
});

test('a patch that breaks a rule is an error and the client goes on', ALL, async ({ clients, tag, transport }) => {
  const twin = await within((await clients.device('leaf-1', transport)).getTwin(), 'the twin');
  await assert.rejects(report(twin, { 'bad.name': tag }));
  await report(twin, { good: tag });
});

test('a desired property reaches the client with its version', ALL, async ({ clients, hub, tag, transport }) => {
  const client = await clients.module('receiver', transport);
  const twin = await within(client.getTwin(), 'the twin');
  const patches = [];
  twin.on('properties.desired', (patch) => patches.push(patch));
  await subscribed();
  const version = await setDesired(hub, 'receiver', { interval: tag, old: null });
  const patch = await waitFor(() => patches.find((one) => one.interval === tag), 'the patch arrives');
  assert.strictEqual(patch.$version, version);
  assert.strictEqual(twin.properties.desired.interval, tag);
});

for (const [kind, payload] of [['an object', { n: [1, null, 'ä'] }], ['a text', 'x'], ['null', null]]) {
  test(`a module calls a module with ${kind}`, ALL, async ({ clients, transport }) => {
    answers(await clients.module('receiver', transport), ['poke']);
    await subscribed();
    const call = { methodName: 'poke', payload, connectTimeoutInSeconds: 5, responseTimeoutInSeconds: 10 };
    const sender = await clients.module('sender', transport);
    const { status, payload: answer } = await within(sender.invokeMethod(SCENE.edge, 'receiver', call), 'the answer');
    assert.deepStrictEqual([status, answer], [203, { did: 'poke', with: payload }]);
  });
}

test('a back end calls a module and a leaf device', ALL, async ({ clients, hub, transport }) => {
  answers(await clients.module('receiver', transport), ['poke']);
  answers(await clients.device('leaf-1', transport), ['component*poke'], 'onDeviceMethod');
  await subscribed();
  const service = iothub.Client.fromConnectionString(hub.service());
  for (const [target, methodName] of [[[SCENE.edge, 'receiver'], 'poke'], [['leaf-1'], 'component*poke']]) {
    const call = { methodName, payload: { a: 1 }, responseTimeoutInSeconds: 10 };
    const { result } = await within(service.invokeDeviceMethod(...target, call), 'the answer');
    assert.deepStrictEqual(result, { status: 203, payload: { did: methodName, with: { a: 1 } } });
  }
});

test('a command reaches a leaf device with its properties', ALL, async ({ clients, hub, tag, transport }) => {
  const name = `leaf-${tag}`;
  await hub.device(name);
  await hub.command(name, 'close', { messageId: 'm-1', contentType: 'text/plain', properties: { tag, 'a b': 'ü/+' } });
  const { text, message } = await new Inbox(await clients.device(name, transport), tag, 'message').next();
  assert.deepStrictEqual([text, message.messageId, message.contentType], ['close', 'm-1', 'text/plain']);
  assert.strictEqual(property(message, 'a b'), 'ü/+');
  await waitFor(async () => await hub.commands(name) === 0, 'it is settled');
});

test('commands wait for a device that is away and come in order', ALL, async ({ clients, hub, tag, transport }) => {
  const name = `leaf-${tag}`;
  await hub.device(name);
  const texts = ['c0', 'c1', 'c2', 'c3', 'c4'];
  for (const text of texts) await hub.command(name, text, { properties: { tag } });
  const box = new Inbox(await clients.device(name, transport), tag, 'message');
  assert.deepStrictEqual(await box.texts(5), texts);
});

test('everything goes on after the hub was killed', ALL, async ({ clients, hub, tag, transport }) => {
  const name = `leaf-${tag}`;
  await hub.device(name);
  const module = await clients.module('receiver', transport);
  const device = await clients.device(name, transport);
  const box = new Inbox(device, tag, 'message');
  answers(module, ['poke']);
  const twin = await within(module.getTwin(), 'the twin');
  const patches = [];
  twin.on('properties.desired', (patch) => patches.push(patch));
  await report(twin, { kept: tag });
  await subscribed();
  await hub.kill();
  await hub.restart();
  await setDesired(hub, 'receiver', { after: tag });
  await hub.command(name, 'after', { properties: { tag } });
  assert.strictEqual((await box.next(60)).text, 'after');
  await waitFor(() => patches.find((one) => one.after === tag), 'the patch arrives', 60);
  const answer = await hub.call('poke', 2, { module: 'receiver', connect: 60 });
  assert.deepStrictEqual(answer, { status: 203, payload: { did: 'poke', with: 2 } });
  assert.strictEqual((await reported(hub, 'receiver')).kept, tag);
});

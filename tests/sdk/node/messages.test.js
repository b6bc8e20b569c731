'use strict';
// The unmodified Node device SDK: messages, against the real binary.
const assert = require('node:assert');
const {
  Inbox, SCENE, common, device, message, property, subscribed, test, waitFor, withWrongKey, within,
} = require('./kit');

const ALL = ['mqtt', 'mqttws'];

test('output reaches input with properties and stamp', ALL, async ({ clients, tag, transport }) => {
  const box = new Inbox(await clients.module('receiver', transport), tag);
  await subscribed();
  const sent = message('{"temp":21}', tag, { 'sp ace': 'v a/l&u=e+%', unicode: 'äß✓', empty: '' });
  Object.assign(sent, {
    messageId: 'm-1', correlationId: 'c-1', contentType: 'application/json', contentEncoding: 'utf-8',
  });
  await within((await clients.module('sender', transport)).sendOutputEvent('out1', sent), 'it is acknowledged');
  const got = await box.next();
  assert.deepStrictEqual([got.input, got.text], ['in1', '{"temp":21}']);
  const { messageId, correlationId, contentType, contentEncoding } = got.message;
  assert.deepStrictEqual(
    [messageId, correlationId, contentType, contentEncoding], ['m-1', 'c-1', 'application/json', 'utf-8']);
  assert.strictEqual(property(got.message, 'sp ace'), 'v a/l&u=e+%');
  assert.strictEqual(property(got.message, 'unicode'), 'äß✓');
  assert.strictEqual(property(got.message, 'empty'), '');
  if (transport.startsWith('mqtt')) {
    assert.strictEqual(property(got.message, '$.cdid'), SCENE.edge);
    assert.strictEqual(property(got.message, '$.cmid'), 'sender');
  }
});

test('a message without an output is routed by its module', ALL, async ({ clients, tag, transport }) => {
  const box = new Inbox(await clients.module('receiver', transport), tag);
  await subscribed();
  await within((await clients.module('plain', transport)).sendEvent(message('plain', tag)), 'it is acknowledged');
  assert.strictEqual((await box.next()).input, 'plain');
});

test('every byte of a body arrives', ALL, async ({ clients, tag, transport }) => {
  const body = Buffer.from([...Array(256).keys()]);
  const box = new Inbox(await clients.module('receiver', transport), tag);
  await subscribed();
  await within((await clients.module('sender', transport)).sendOutputEvent('out1', message(body, tag)), 'it is sent');
  assert.deepStrictEqual((await box.next()).message.getBytes(), body);
});

test('a hundred messages arrive in order', ALL, async ({ clients, tag, transport }) => {
  const box = new Inbox(await clients.module('receiver', transport), tag);
  await subscribed();
  const sender = await clients.module('sender', transport);
  const texts = [...Array(100).keys()].map((number) => `m${number}`);
  await within(Promise.all(texts.map((text) => sender.sendOutputEvent('out1', message(text, tag)))), 'all are sent');
  assert.deepStrictEqual(await box.texts(100), texts);
});

test('a condition on a property decides', ALL, async ({ clients, tag, transport }) => {
  const box = new Inbox(await clients.module('receiver', transport), tag);
  await subscribed();
  const sender = await clients.module('sender', transport);
  for (const level of ['low', 'high']) {
    await within(sender.sendOutputEvent('byprop', message(level, tag, { level })), 'it is acknowledged');
  }
  assert.strictEqual((await box.next()).text, 'high');
  await box.quiet();
});

test('a leaf device reaches a module', ALL, async ({ clients, tag, transport }) => {
  const box = new Inbox(await clients.module('receiver', transport), tag);
  await subscribed();
  await within((await clients.device('leaf-1', transport)).sendEvent(message('leaf', tag)), 'it is acknowledged');
  const got = await box.next();
  assert.deepStrictEqual([got.input, got.text], ['leaf', 'leaf']);
  if (transport.startsWith('mqtt')) {
    assert.strictEqual(property(got.message, '$.cdid'), 'leaf-1');
    assert.strictEqual(property(got.message, '$.cmid'), undefined);
  }
});

test('messages wait for a receiver that is away', ALL, async ({ clients, tag, transport }) => {
  const away = await clients.module('receiver', transport);
  new Inbox(away, tag);
  await subscribed();
  await within(away.close(), 'the receiver leaves');
  const sender = await clients.module('sender', transport);
  const texts = ['q0', 'q1', 'q2', 'q3', 'q4'];
  for (const text of texts) await within(sender.sendOutputEvent('out1', message(text, tag)), 'it is acknowledged');
  const box = new Inbox(await clients.module('receiver', transport), tag);
  assert.deepStrictEqual(await box.texts(5), texts);
});

test('a token is renewed on a connection that goes on', ALL, async ({ clients, hub, tag, transport }) => {
  const box = new Inbox(await clients.module('receiver', transport), tag);
  await subscribed();
  const tokenRenewal = { tokenValidTimeInSeconds: 6, tokenRenewalMarginInSeconds: 3 };
  const sender = await clients.module('sender', transport, { options: { tokenRenewal } });
  const { since } = await hub.client('sender');
  const renewed = async () => { const now = await hub.client('sender'); return now && now.since !== since; };
  // Over MQTT a new token is a new connection, which the SDK makes by itself.
  await waitFor(renewed, 'the sender has come with a new token', 15);
  await within(sender.sendOutputEvent('out1', message('renewed', tag)), 'it is acknowledged');
  assert.strictEqual((await box.next()).text, 'renewed');
});

test('messages go on after the hub was killed', ALL, async ({ clients, hub, tag, transport }) => {
  const box = new Inbox(await clients.module('receiver', transport), tag);
  await subscribed();
  const sender = await clients.module('sender', transport);
  await within(sender.sendOutputEvent('out1', message('before', tag)), 'it is acknowledged');
  assert.strictEqual((await box.next()).text, 'before');
  await hub.kill();
  await hub.restart();
  await within(sender.sendOutputEvent('out1', message('after', tag)), 'it is acknowledged', 60);
  // What was delivered in the moment of the kill may come once more: at least once.
  await waitFor(() => box.messages.some((got) => got.text === 'after'), 'the message arrives', 60);
});

test('a wrong key is refused', ALL, async ({ clients, hub, transport }) => {
  const forged = withWrongKey(hub.connectionString('--device', SCENE.edge, '--module', 'sender'));
  const client = await clients.make(device.ModuleClient, forged, transport);
  client.setRetryPolicy(new common.NoRetry());
  await assert.rejects(within(client.open(), 'it is refused'), { name: 'UnauthorizedError' });
});

'use strict';
// rhea as a raw AMQP client, against the real binary: what the SDKs do not do.
const assert = require('node:assert');
const crypto = require('node:crypto');
const nodeTest = require('node:test');
const rhea = require('rhea');
const { Hub, SCENE, waitFor } = require('./hub');

let hub;
nodeTest.before(async () => { hub = await Hub.start(); });
nodeTest.after(async () => assert.strictEqual(await hub.stop(), 0));

const EVENTS = `/devices/${SCENE.edge}/modules/sender/messages/events`;

/** Resolves with the next event of this name. */
const once = (emitter, name, seconds = 20) => new Promise((done, failed) => {
  const timer = setTimeout(() => failed(new Error(`no ${name} in ${seconds} s`)), seconds * 1000);
  emitter.once(name, (context) => { clearTimeout(timer); done(context); });
});

function token(connectionString) {
  const parts = Object.fromEntries(connectionString.split(';').map((part) => part.split(/=(.*)/s).slice(0, 2)));
  const module = parts.ModuleId ? `/modules/${parts.ModuleId}` : '';
  const audience = encodeURIComponent(`${parts.HostName}/devices/${parts.DeviceId}${module}`);
  const until = Math.floor(Date.now() / 1000) + 3600;
  const signature = crypto.createHmac('sha256', Buffer.from(parts.SharedAccessKey, 'base64'))
    .update(`${audience}\n${until}`).digest('base64');
  return [audience, `SharedAccessSignature sr=${audience}&sig=${encodeURIComponent(signature)}&se=${until}`];
}

async function open() {
  const container = rhea.create_container();
  const [host, port] = hub.listen.amqp.split(':');
  const connection = container.connect({
    host, port: Number(port), transport: 'tls', servername: SCENE.gateway, ca: hub.trust(), reconnect: false,
  });
  await once(connection, 'connection_open');
  return connection;
}

async function put(connection, connectionString) {
  const [name, signature] = token(connectionString);
  const sender = connection.open_sender('$cbs');
  const receiver = connection.open_receiver('$cbs');
  await Promise.all([once(sender, 'sendable'), once(receiver, 'receiver_open')]);
  const properties = { operation: 'put-token', type: 'servicebus.windows.net:sastoken', name };
  sender.send({ message_id: 'm', application_properties: properties, body: signature });
  const { message } = await once(receiver, 'message');
  return message.application_properties['status-code'];
}

nodeTest('ten thousand messages are each accepted once, and credit never runs dry for long', async () => {
  const connection = await open();
  assert.strictEqual(await put(connection, hub.connectionString('--device', SCENE.edge, '--module', 'sender')), 200);
  const sender = connection.open_sender(EVENTS);
  const total = 10_000;
  let sent = 0;
  let accepted = 0;
  const body = rhea.message.data_section(Buffer.alloc(100, 'x'));
  const fill = () => { while (sent < total && sender.sendable()) { sender.send({ body }); sent += 1; } };
  sender.on('sendable', fill);
  sender.on('accepted', () => { accepted += 1; });
  await waitFor(() => accepted === total, 'all are accepted', 60);
  connection.close();
});

nodeTest('a refused link is attached and then detached with the reason', async () => {
  const connection = await open();
  const sender = connection.open_sender(EVENTS);
  const { sender: closed } = await once(sender, 'sender_error');
  assert.strictEqual(closed.error.condition, 'amqp:unauthorized-access');
  const other = connection.open_sender('/nothing');
  const { sender: missing } = await once(other, 'sender_error');
  assert.strictEqual(missing.error.condition, 'amqp:not-found');
  connection.close();
});

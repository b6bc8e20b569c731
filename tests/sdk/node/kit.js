'use strict';
// What the tests of the Node SDKs share: one hub for each file, clients that are closed, messages by tag.
const crypto = require('node:crypto');
const nodeTest = require('node:test');
const common = require('azure-iot-common');
const device = require('azure-iot-device');
const { Amqp, AmqpWs } = require('azure-iot-device-amqp');
const { Http } = require('azure-iot-device-http');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');
const { Hub, SCENE, waitFor } = require('./hub');

const TRANSPORTS = { mqtt: Mqtt, mqttws: MqttWs, amqp: Amqp, amqpws: AmqpWs, http: Http };
/** Listener that a transport needs. */
const LISTENER = { mqtt: 'mqtt', mqttws: 'https', amqp: 'amqp', amqpws: 'https', http: 'https' };

let hub;
nodeTest.before(async () => { hub = await Hub.start(); });
nodeTest.after(async () => {
  const code = hub && await hub.stop();
  // A client that still retries keeps the process alive for minutes.
  setTimeout(() => process.exit(), 2000).unref();
  if (code !== 0) throw new Error(`the hub did not end in good order: ${code}`);
});

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** What `promise` gives, which must be there in time. */
function within(promise, what, seconds = 20) {
  let timer;
  const late = new Promise((_, failed) => {
    timer = setTimeout(() => failed(new Error(`did not happen in ${seconds} s: ${what}`)), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A function of the SDK that wants a callback. */
const called = (what, call) => within(new Promise((done, failed) => {
  call((error, value) => (error ? failed(error) : done(value)));
}), what);

/** Clients of one test; closed when it ends. */
class Clients {
  constructor() { this.open = []; }

  async module(name, transport, { options, connectionString } = {}) {
    const text = connectionString || hub.connectionString('--device', SCENE.edge, '--module', name);
    return this.connect(await this.make(device.ModuleClient, text, transport, options), name);
  }

  async device(name, transport, { options, connectionString } = {}) {
    const text = connectionString || hub.connectionString('--device', name);
    return this.connect(await this.make(device.Client, text, transport, options), name);
  }

  /** A module as IoT Edge starts it: it has no connection string, only variables. */
  async edgeModule(name, transport, workload) {
    Object.assign(process.env, hub.edgeEnvironment(name, workload));
    const client = await device.ModuleClient.fromEnvironment(TRANSPORTS[transport]);
    this.open.push(client);
    client.on('error', () => {});
    return this.connect(client, name);
  }

  /** A client that is not connected yet. */
  async make(kind, connectionString, transport, options) {
    const client = kind.fromConnectionString(connectionString, TRANSPORTS[transport]);
    this.open.push(client);
    client.on('error', () => {}); // Without a listener Node ends the process; the test sees it in its calls.
    await client.setOptions({ ca: hub.trust(), ...options });
    return client;
  }

  async connect(client, name) {
    await within(client.open(), `${name} connects`);
    return client;
  }

  async close() {
    const gone = this.open.map((client) => within(client.close(), 'a client closes', 8).catch(() => {}));
    await Promise.all(gone);
  }
}

/** Messages of one test, by its tag, in the order of their arrival. */
class Inbox {
  constructor(client, tag, event = 'inputMessage') {
    this.messages = [];
    this.taken = 0;
    client.on(event, (...args) => {
      const [input, message] = event === 'inputMessage' ? args : [undefined, ...args];
      client.complete(message, () => {});
      if (property(message, 'tag') === tag) this.messages.push({ input, message, text: message.getBytes().toString() });
    });
  }

  /** The next message. */
  async next(seconds = 20) {
    await waitFor(() => this.messages.length > this.taken, 'a message of this test arrives', seconds);
    return this.messages[this.taken++];
  }

  async texts(count) {
    const all = [];
    while (all.length < count) all.push((await this.next()).text);
    return all;
  }

  /** Nothing more may come. */
  async quiet(ms = 1500) {
    await sleep(ms);
    const more = this.messages.slice(this.taken).map((got) => got.text);
    if (more.length) throw new Error(`unwanted messages arrived: ${more}`);
  }
}

function property(message, key) {
  const found = message.properties.propertyList.find((one) => one.key === key);
  return found && found.value;
}

function message(body, tag, properties = {}) {
  const made = new common.Message(body);
  for (const [key, value] of Object.entries({ tag, ...properties })) made.properties.add(key, value);
  return made;
}

/** The SDK does not say when the hub has its subscription. */
const subscribed = () => sleep(500);

/** A connection string with the key of nobody. */
function withWrongKey(connectionString) {
  return connectionString.replace(/SharedAccessKey=[^;]*/, `SharedAccessKey=${crypto.randomBytes(32).toString('base64')}`);
}

/**
 * A test for each transport. `body` gets `{ clients, tag, hub, transport }`; a transport that the hub does not listen
 * for is skipped by name.
 */
function test(name, transports, body) {
  for (const transport of transports) {
    nodeTest(`${name} over ${transport}`, { timeout: 120_000 }, async (context) => {
      if (!hub.listen[LISTENER[transport]]) return context.skip(`the hub has no listener for ${transport}`);
      const clients = new Clients();
      const tag = crypto.randomBytes(6).toString('hex');
      try {
        await body({ clients, tag, hub, transport });
      } finally {
        await clients.close();
      }
    });
  }
}

module.exports = {
  Inbox, SCENE, called, common, device, message, property, sleep, subscribed, test, waitFor, withWrongKey, within,
};

'use strict';
// A hub under test: the real binary, on free ports, in a folder of its own. The same as hub.py is for Python.
//
// The SDKs fix their ports (8883, 443, 5671), so connections to the hub's two names are redirected below them; TLS
// names, tokens and certificates are untouched. Everything is provisioned by REST, as an operator would.
const { execFileSync, spawn } = require('node:child_process');
const dns = require('node:dns');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const tls = require('node:tls');

const SCENE = JSON.parse(fs.readFileSync(path.join(__dirname, '..', 'scene.json'), 'utf8'));
const TARGET = process.env.CARGO_TARGET_DIR || path.join(__dirname, '..', '..', '..', 'target');
const WEIR = process.env.WEIR_BIN || path.join(TARGET, 'release', 'weir');
const HOSTS = new Set([SCENE.gateway, SCENE.iothub]);
const PORTS = { mqtt: 8883, https: 443, amqp: 5671 };

/** Where the hub of this process listens, by the ports that the SDKs dial. */
const dialled = {};
let edgeCa = '';

redirect();

/** From here on the hub's two names lead to the hub of this process, and its CA is trusted beside the system's. */
function redirect() {
  const lookup = dns.lookup;
  dns.lookup = (name, options, callback) => {
    if (typeof options === 'function') [options, callback] = [{}, options];
    return lookup.call(dns, HOSTS.has(name) ? '127.0.0.1' : name, options, callback);
  };
  const connect = net.Socket.prototype.connect;
  net.Socket.prototype.connect = function (...args) {
    const options = Array.isArray(args[0]) ? args[0][0] : args[0];
    if (options && HOSTS.has(options.host)) options.port = dialled[options.port] || options.port;
    return connect.apply(this, args);
  };
  // As NODE_EXTRA_CA_CERTS would, which has to be there before the process, and so before the hub has made its CA.
  const createSecureContext = tls.createSecureContext;
  tls.createSecureContext = (options = {}) =>
    createSecureContext(options.ca ? options : { ...options, ca: [...tls.rootCertificates, edgeCa] });
}

/** Waits until `condition` gives something, and gives it. */
async function waitFor(condition, what, seconds = 20) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`did not happen in ${seconds} s: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

function freePort() {
  return new Promise((done, failed) => {
    const server = net.createServer().on('error', failed);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

class Hub {
  /** A hub that runs and has the identities and routes of scene.json. */
  static async start() {
    const hub = new Hub();
    hub.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'weir-sdk.'));
    hub.data = path.join(hub.dir, 'data');
    hub.config = path.join(hub.dir, 'weir.toml');
    const listen = [];
    for (const name of Object.keys(PORTS)) listen.push(`${name} = "127.0.0.1:${await freePort()}"`);
    const lines = [
      `data_dir = "${hub.data}"`, `hostname = "${SCENE.gateway}"`, `iothub_hostname = "${SCENE.iothub}"`,
      `device_id = "${SCENE.edge}"`, '[listen]', ...listen, 'api = "127.0.0.1:0"',
      '[workload]', `http = "127.0.0.1:${await freePort()}"`,
    ];
    fs.writeFileSync(hub.config, lines.join('\n') + '\n');
    hub.log = fs.openSync(path.join(hub.dir, 'weir.log'), 'a');
    await hub.restart();
    for (const name of SCENE.modules) await hub.module(name);
    for (const name of SCENE.devices) await hub.device(name);
    for (const [name, route] of Object.entries(SCENE.routes)) await hub.api('PUT', `/routes/${name}`, { route });
    return hub;
  }

  /** Starts the process, again after a kill; resolves when it takes messages. */
  async restart() {
    this.process = spawn(WEIR, ['run', '--config', this.config], { stdio: ['ignore', this.log, this.log] });
    this.ended = new Promise((done) => this.process.once('exit', (code, signal) => done(signal || code)));
    this.process.once('error', (error) => { throw error; });
    this.listen = await waitFor(() => this.ready(), 'ready.json is written');
    for (const [name, port] of Object.entries(PORTS)) {
      if (this.listen[name]) dialled[port] = Number(this.listen[name].split(':').pop());
    }
    edgeCa = this.trust();
  }

  ready() {
    if (this.process.exitCode !== null) throw new Error(`the hub ended: ${this.tail()}`);
    try {
      const ready = JSON.parse(fs.readFileSync(path.join(this.data, 'run', 'ready.json'), 'utf8'));
      return ready.pid === this.process.pid ? ready.listen : null;
    } catch {
      return null;
    }
  }

  async kill() {
    this.process.kill('SIGKILL');
    await this.ended;
  }

  /** Ends the hub; gives its exit code. */
  async stop() {
    this.process.kill('SIGTERM');
    const code = await this.ended;
    fs.closeSync(this.log);
    fs.rmSync(this.dir, { recursive: true, force: true });
    return code;
  }

  tail() {
    return fs.readFileSync(path.join(this.dir, 'weir.log'), 'utf8').slice(-4000);
  }

  trust() {
    return fs.readFileSync(path.join(this.data, 'pki', 'trust-bundle.pem'), 'utf8');
  }

  async api(method, resource, body) {
    const token = fs.readFileSync(path.join(this.data, 'admin.token'), 'utf8').trim();
    const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' };
    const text = body === undefined ? undefined : JSON.stringify(body);
    const answer = await fetch(`http://${this.listen.api}/api/v1${resource}`, { method, headers, body: text });
    const said = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${resource}: ${answer.status} ${said}`);
    return said ? JSON.parse(said) : null;
  }

  connectionString(...words) {
    return execFileSync(WEIR, ['connection-string', '--config', this.config, ...words], { encoding: 'utf8' }).trim();
  }

  /** The variables that IoT Edge sets for a module; by its socket, or by the port. */
  edgeEnvironment(name, transport) {
    const words = ['edge-environment', '--config', this.config, '--module', name];
    if (transport === 'http') words.push('--http');
    const lines = execFileSync(WEIR, words, { encoding: 'utf8' }).trim().split('\n');
    return Object.fromEntries(lines.map((line) => line.split(/=(.*)/s).slice(0, 2)));
  }

  /** Connection string of a module of the edge device, which is made if there is none. */
  async module(name) {
    await this.api('PUT', `/devices/${SCENE.edge}/modules/${name}`, { authentication: { type: 'sas' } });
    return this.connectionString('--device', SCENE.edge, '--module', name);
  }

  /** The same of a leaf device. */
  async device(name) {
    await this.api('PUT', `/devices/${name}`, { authentication: { type: 'sas' } });
    return this.connectionString('--device', name);
  }

  /** Calls a method as an operator; gives status and payload. */
  call(methodName, payload, { device = SCENE.edge, module, connect = 10, response = 10 }) {
    return this.api('POST', '/method-calls', {
      deviceId: device, moduleId: module, methodName, payload, connectTimeoutInSeconds: connect, responseTimeoutInSeconds: response,
    });
  }

  /** Sends a cloud-to-device message. */
  command(device, body, more = {}) {
    return this.api('POST', `/devices/${device}/commands`, { ...more, body });
  }

  /** How many of them wait. */
  async commands(device) {
    return (await this.api('GET', `/devices/${device}/commands`)).items.length;
  }

  /** Who is connected, by the name of the identity. */
  async client(name) {
    const { items } = await this.api('GET', '/clients');
    return items.find((one) => (one.moduleId || one.deviceId) === name);
  }

  /** Of a back end. */
  service() {
    return this.connectionString('--service');
  }
}

module.exports = { Hub, SCENE, waitFor };

"""A hub under test: the real binary, on free ports, in a folder of its own.

The SDKs fix their ports (8883, 443, 5671), so name resolution is redirected below them; TLS names, tokens and
certificates are untouched. Everything is provisioned by REST, as an operator would. node/hub.js is the same for Node.
"""
import base64
import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

with open(os.path.join(os.path.dirname(__file__), "scene.json")) as f:
    SCENE = json.load(f)
GATEWAY, IOTHUB, EDGE = SCENE["gateway"], SCENE["iothub"], SCENE["edge"]
PORTS = {"mqtt": 8883, "https": 443, "amqp": 5671}
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(os.path.dirname(__file__), "..", "..", "target"))
WEIR = os.environ.get("WEIR_BIN", os.path.join(TARGET, "release", "weir"))
GUESTS = os.path.join(TARGET, "plugins", "wasm32-wasip2", "release")
_ports = {}
_resolve = socket.getaddrinfo


def _redirected(host, port, *args, **kwargs):
    name = host.decode() if isinstance(host, bytes) else host
    if name in (GATEWAY, IOTHUB):
        host, port = "127.0.0.1", _ports.get(int(port), port)
    return _resolve(host, port, *args, **kwargs)


socket.getaddrinfo = _redirected


def wait_for(condition, what, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("did not happen in %s s: %s" % (seconds, what))


class Hub:
    def __init__(self, extra="", folder=None):
        self.dir = folder or tempfile.mkdtemp(prefix="weir-sdk.")
        self.data = os.path.join(self.dir, "data")
        self.config = os.path.join(self.dir, "weir.toml")
        # Free ports, but the same after every start: clients come back to them.
        listen = ['%s = "127.0.0.1:%d"' % (name, free_port()) for name in [*PORTS, "mqtt_plain"]]
        with open(self.config, "w") as f:
            f.write(
                'data_dir = "%s"\nhostname = "%s"\niothub_hostname = "%s"\ndevice_id = "%s"\n%s\n'
                '[listen]\n%s\napi = "127.0.0.1:0"\n[workload]\nhttp = "127.0.0.1:%d"\n'
                % (self.data, GATEWAY, IOTHUB, EDGE, extra, "\n".join(listen), free_port())
            )
        self.log = open(os.path.join(self.dir, "weir.log"), "ab")
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen([WEIR, "run", "--config", self.config], stdout=self.log, stderr=self.log)
        self.listen = wait_for(self._ready, "ready.json is written")["listen"]
        for name, port in PORTS.items():
            if name in self.listen:
                _ports[port] = int(self.listen[name].rsplit(":", 1)[1])

    def _ready(self):
        assert self.process.poll() is None, "the hub ended: " + self.tail()
        try:
            with open(os.path.join(self.data, "run", "ready.json")) as f:
                ready = json.load(f)
        except (OSError, ValueError):
            return None
        return ready if ready["pid"] == self.process.pid else None

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self, keep=False):
        self.process.terminate()
        code = self.process.wait(15)
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)
        return code

    def tail(self):
        with open(os.path.join(self.dir, "weir.log")) as f:
            return f.read()[-4000:]

    def api(self, method, path, body=None, raw=None):
        with open(os.path.join(self.data, "admin.token")) as f:
            token = f.read().strip()
        data = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        kind = "application/wasm" if raw is not None else "application/json"
        request = urllib.request.Request(
            "http://%s/api/v1%s" % (self.listen["api"], path),
            data=data,
            method=method,
            headers={"Authorization": "Bearer " + token, "Content-Type": kind},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError("%s %s: %s %s" % (method, path, error.code, error.read().decode())) from None
        return json.loads(text) if text else None

    def trust(self):
        with open(os.path.join(self.data, "pki", "trust-bundle.pem")) as f:
            return f.read()

    def connection_string(self, device, module=None):
        words = [WEIR, "connection-string", "--config", self.config, "--device", device]
        words += ["--module", module] if module else []
        return subprocess.check_output(words, text=True, timeout=20).strip()

    def module(self, name):
        self.api("PUT", "/devices/%s/modules/%s" % (EDGE, name), {"authentication": {"type": "sas"}})
        return self.connection_string(EDGE, name)

    def device(self, name):
        self.api("PUT", "/devices/%s" % name, {"authentication": {"type": "sas"}})
        return self.connection_string(name)

    def route(self, name, route, **more):
        self.api("PUT", "/routes/" + name, dict(route=route, **more))

    def set_desired(self, desired, device=EDGE, module=None):
        """What an operator wants of a client; gives the version."""
        body = {"properties": {"desired": desired}}
        return self.twin("PATCH", _path(device, module), body)["properties"]["desired"]["$version"]

    def reported(self, device=EDGE, module=None):
        reported = self.twin("GET", _path(device, module))["properties"]["reported"]
        return {key: value for key, value in reported.items() if not key.startswith("$")}

    def twin(self, method, path, body=None):
        """A request to the service paths, as a script of an operator signs it."""
        policy = dict(part.split("=", 1) for part in self.service().split(";"))
        name, key = policy["SharedAccessKeyName"], base64.b64decode(policy["SharedAccessKey"])
        signed = "%s\n%d" % (policy["HostName"], time.time() + 600)
        signature = base64.b64encode(hmac.new(key, signed.encode(), hashlib.sha256).digest()).decode()
        token = tuple(signed.split("\n")) + (urllib.parse.quote(signature, safe=""), name)
        request = urllib.request.Request(
            "https://%s/twins/%s?api-version=2021-04-12" % (GATEWAY, path),
            data=json.dumps(body).encode() if body is not None else None,
            method=method,
            headers={
                "Authorization": "SharedAccessSignature sr=%s&se=%s&sig=%s&skn=%s" % token,
                "Content-Type": "application/json",
                "If-Match": '"*"',
            },
        )
        with urllib.request.urlopen(request, timeout=60, context=ssl.create_default_context(cadata=self.trust())) as answer:
            return json.load(answer)

    def call(self, name, payload, device=EDGE, module=None, connect=10, response=10):
        """Calls a method as an operator; gives status and payload."""
        body = {"deviceId": device, "methodName": name, "payload": payload}
        body.update(connectTimeoutInSeconds=connect, responseTimeoutInSeconds=response)
        answer = self.api("POST", "/method-calls", dict(body, moduleId=module) if module else body)
        return answer["status"], answer["payload"]

    def command(self, device, body, **more):
        self.api("POST", "/devices/%s/commands" % device, dict(more, body=body))

    def commands(self, device):
        """How many wait."""
        return len(self.api("GET", "/devices/%s/commands" % device)["items"])

    def service(self):
        """Connection string of a back end."""
        words = [WEIR, "connection-string", "--config", self.config, "--service"]
        return subprocess.check_output(words, text=True, timeout=20).strip()

    def wasm(self, name, component, **spec):
        with open(os.path.join(GUESTS, component), "rb") as f:
            code = f.read()
        digest = "sha256:" + hashlib.sha256(code).hexdigest()
        self.api("PUT", "/artifacts/" + digest, raw=code)
        self.api("PUT", "/modules/" + name, dict(type="wasm", component=digest, **spec))
        return digest


def _path(device, module):
    return device + ("/modules/" + module if module else "")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]

"""The unmodified command line clients of Mosquitto, over plain MQTT and over TLS, against the real binary.

They are what people try first: no SDK, an ordinary topic, a token as password.
"""
import base64
import hashlib
import hmac
import os
import shutil
import subprocess
import urllib.parse

import pytest

from hub import EDGE, IOTHUB

pytestmark = pytest.mark.timeout(120)
TRANSPORTS = ["plain", "tls"]
FAR = 4_000_000_000
# What mosquitto_pub ends with: after CONNACK 5, and when the broker closes the connection before its PUBACK.
NOT_AUTHORISED = 5
CONNECTION_LOST = 7


@pytest.fixture(scope="module", autouse=True)
def installed():
    if shutil.which("mosquitto_pub") and shutil.which("mosquitto_sub"):
        return
    assert os.environ.get("WEIR_REQUIRE_MOSQUITTO") != "1", "mosquitto_pub is missing, and it is required"
    pytest.skip("mosquitto_pub is not installed: apt-get install mosquitto-clients")


def token(connection_string, expires=FAR):
    """A SAS token as Azure's documentation makes it."""
    parts = dict(part.split("=", 1) for part in connection_string.split(";"))
    resource = "%s/devices/%s" % (IOTHUB, parts["DeviceId"])
    if "ModuleId" in parts:
        resource += "/modules/" + parts["ModuleId"]
    resource = urllib.parse.quote(resource, safe="")
    key = base64.b64decode(parts["SharedAccessKey"])
    signed = hmac.new(key, ("%s\n%d" % (resource, expires)).encode(), hashlib.sha256).digest()
    signature = urllib.parse.quote(base64.b64encode(signed), safe="")
    return "SharedAccessSignature sr=%s&sig=%s&se=%d" % (resource, signature, expires)


class Mosquitto:
    """Command lines of one transport; what is still running is ended with the test."""

    def __init__(self, hub, transport):
        self.hub, self.transport, self.running = hub, transport, []

    def line(self, program, identity, password, *more):
        port = self.hub.listen["mqtt" if self.transport == "tls" else "mqtt_plain"].rsplit(":", 1)[1]
        words = [program, "-h", "localhost", "-p", port, "-q", "1", "-i", identity, "-P", password]
        words += ["-u", "%s/%s/?api-version=2021-04-12" % (IOTHUB, identity)]
        if self.transport == "tls":
            words += ["--cafile", os.path.join(self.hub.data, "pki", "trust-bundle.pem")]
        return words + list(more)

    def publish(self, device, *more, lines=None, password=None):
        """Publishes and waits for every PUBACK: mosquitto_pub at QoS 1 does not end before."""
        password = password or token(self.hub.device(device))
        words = self.line("mosquitto_pub", device, password, "-t", "devices/%s/messages/events/" % device, *more)
        return subprocess.run(words, input=lines, text=True, capture_output=True, timeout=60)

    def subscribe(self, module, count):
        """Starts a subscriber with a session that lasts; ready when the hub has its subscription."""
        identity = "%s/%s" % (EDGE, module)
        line = self.line("mosquitto_sub", identity, token(self.hub.module(module)), "-c", "-d", "-C", str(count))
        line += ["-t", "devices/%s/modules/%s/inputs/#" % (EDGE, module), "-F", "MESSAGE %t %p"]
        # -d prints the packets, by which one knows that the subscription stands.
        receiver = subprocess.Popen(["stdbuf", "-oL"] + line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.running.append(receiver)
        for text in receiver.stdout:
            if "Subscribed" in text:
                return receiver
        raise AssertionError("mosquitto_sub ended before it had subscribed: %s" % receiver.wait(10))

    def end(self):
        for receiver in self.running:
            receiver.kill()
            receiver.wait(10)
            receiver.stdout.close()


@pytest.fixture(params=TRANSPORTS)
def mosquitto(hub, request):
    clients = Mosquitto(hub, request.param)
    yield clients
    clients.end()


@pytest.fixture
def path(hub, tag):
    """Names of a device and a module of this test, with a route between them."""
    device, module = "pump-" + tag, "receiver-" + tag
    hub.module(module)
    route = "FROM /messages/* WHERE $connectionDeviceId = '%s' INTO BrokeredEndpoint(\"/modules/%s/inputs/in\")"
    hub.route("from-" + device, route % (device, module))
    return device, module


def received(receiver):
    """Topic and body of what the subscriber printed until it had enough."""
    text, _ = receiver.communicate(timeout=60)
    assert receiver.returncode == 0, text
    lines = [line.split(" ", 2) for line in text.splitlines() if line.startswith("MESSAGE ")]
    return [(topic, body) for _, topic, body in lines]


def test_a_published_line_arrives_at_the_modules_input_with_its_stamp(mosquitto, path):
    device, module = path
    receiver = mosquitto.subscribe(module, 1)
    sent = mosquitto.publish(device, "-m", '{"temperature": 30}')
    assert sent.returncode == 0, sent.stderr
    [(topic, body)] = received(receiver)
    assert body == '{"temperature": 30}'
    assert topic.startswith("devices/%s/modules/%s/inputs/in/" % (EDGE, module))
    assert "%24.cdid=" + device in topic


def test_what_was_published_before_a_kill_arrives_in_order_after_it(hub, mosquitto, path):
    device, module = path
    away = mosquitto.subscribe(module, 1)
    away.kill()
    away.wait(10)
    lines = ["line %03d" % number for number in range(300)]
    sent = mosquitto.publish(device, "-l", lines="\n".join(lines) + "\n")
    assert sent.returncode == 0, sent.stderr
    hub.kill()
    hub.start()
    receiver = mosquitto.subscribe(module, len(lines))
    assert [body for _, body in received(receiver)] == lines


def test_a_token_with_a_wrong_key_is_refused_and_a_right_one_is_taken(hub, mosquitto, path):
    device, _ = path
    right = token(hub.device(device))
    forged = right.replace("sig=", "sig=AAAA")
    assert mosquitto.publish(device, "-m", "{}", password=forged).returncode == NOT_AUTHORISED
    expired = token(hub.device(device), expires=1_500_000_000)
    assert mosquitto.publish(device, "-m", "{}", password=expired).returncode == NOT_AUTHORISED
    assert mosquitto.publish(device, "-m", "{}", password=right).returncode == 0


def test_a_publish_in_another_devices_name_is_never_acknowledged(hub, mosquitto, path, tag):
    device, module = path
    other = "other-" + tag
    line = mosquitto.line("mosquitto_pub", other, token(hub.device(other)))
    line += ["-t", "devices/%s/messages/events/" % device, "-m", "forged"]
    forged = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert (forged.returncode, forged.stderr) == (CONNECTION_LOST, "Error: The connection was lost.\n")
    receiver = mosquitto.subscribe(module, 1)
    assert mosquitto.publish(device, "-m", "real").returncode == 0
    assert [body for _, body in received(receiver)] == ["real"]


def test_a_client_that_does_not_know_the_edge_ca_does_not_connect(hub, path):
    device, _ = path
    client = Mosquitto(hub, "tls")
    line = client.line("mosquitto_pub", device, token(hub.device(device)), "-t", "devices/%s/messages/events/" % device)
    line[line.index("--cafile") + 1] = "/etc/ssl/certs/ca-certificates.crt"
    line += ["-m", "{}"]
    refused = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert refused.returncode != 0
    assert "TLS error" in refused.stderr

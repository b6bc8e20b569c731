"""python-qpid-proton as an AMQP client, with its default link names and its own SASL layer, against the real binary.

Proton names a sender and a receiver of one container and address alike, which AMQP 1.0 allows.
"""
import base64
import hashlib
import hmac
import time
import urllib.parse
import uuid

import pytest

proton = pytest.importorskip("proton")
from proton import Message, SSLDomain, symbol  # noqa: E402
from proton.utils import BlockingConnection, LinkDetached  # noqa: E402

from hub import EDGE, GATEWAY, IOTHUB  # noqa: E402

pytestmark = pytest.mark.timeout(120)


def token(connection_string, seconds=3600):
    """The audience and a shared access signature of an identity."""
    parts = dict(part.split("=", 1) for part in connection_string.split(";"))
    resource = "%s/devices/%s" % (parts["HostName"], parts["DeviceId"])
    if "ModuleId" in parts:
        resource += "/modules/" + parts["ModuleId"]
    audience = urllib.parse.quote(resource, safe="")
    until = int(time.time()) + seconds
    digest = hmac.new(base64.b64decode(parts["SharedAccessKey"]), f"{audience}\n{until}".encode(), hashlib.sha256)
    signature = urllib.parse.quote(base64.b64encode(digest.digest()).decode(), safe="")
    return audience, f"SharedAccessSignature sr={audience}&sig={signature}&se={until}"


class Client:
    def __init__(self, hub, **more):
        domain = SSLDomain(SSLDomain.MODE_CLIENT)
        domain.set_trusted_ca_db(str(hub.data) + "/pki/trust-bundle.pem")
        domain.set_peer_authentication(SSLDomain.VERIFY_PEER)
        url = "amqps://" + hub.listen["amqp"]
        self.connection = BlockingConnection(url, ssl_domain=domain, sni=GATEWAY, timeout=20, **more)
        self.cbs = None

    def put(self, connection_string):
        audience, signature = token(connection_string)
        if self.cbs is None:
            self.cbs = self.connection.create_sender("$cbs"), self.connection.create_receiver("$cbs")
        sender, receiver = self.cbs
        assert sender.link.name == receiver.link.name, "this is what the test is for"
        properties = {"operation": "put-token", "type": "servicebus.windows.net:sastoken", "name": audience}
        question = uuid.uuid4()
        sender.send(Message(id=question, properties=properties, body=signature))
        answer = receiver.receive()
        assert answer.correlation_id == question
        return answer.properties["status-code"]

    def close(self):
        self.connection.close()


@pytest.fixture
def client(hub):
    opened = Client(hub)
    yield opened
    opened.close()


@pytest.fixture(scope="module", autouse=True)
def route(hub):
    hub.module("proton-in")
    to = 'INTO BrokeredEndpoint("/modules/proton-in/inputs/in1")'
    hub.route("proton", "FROM /messages/modules/proton/outputs/* " + to)


def events(module):
    return "/devices/%s/modules/%s/messages/events" % (EDGE, module)


def test_a_message_reaches_an_input_over_links_of_one_name(hub, client):
    assert client.put(hub.module("proton")) == 200
    assert client.put(hub.module("proton-in")) == 200
    sender = client.connection.create_sender(events("proton"))
    receiver = client.connection.create_receiver(events("proton-in"), credit=10)
    body = uuid.uuid4().hex.encode()
    properties = {"iothub-outputname": "out1", "colour": "blue"}
    delivery = sender.send(Message(id=uuid.uuid4(), properties=properties, body=body, inferred=True))
    assert delivery.remote_state == proton.Delivery.ACCEPTED
    while True:
        got = receiver.receive()
        receiver.accept()
        if bytes(got.body) == body:
            break
    assert got.properties["colour"] == "blue"
    assert got.annotations[symbol("x-opt-input-name")] == "in1"
    assert got.annotations[symbol("iothub-connection-module-id")] == "proton"


def test_many_messages_are_accepted(hub, client):
    assert client.put(hub.module("proton")) == 200
    sender = client.connection.create_sender(events("proton"))
    for number in range(500):
        delivery = sender.send(Message(body=b"%d" % number, inferred=True))
        assert delivery.remote_state == proton.Delivery.ACCEPTED


def test_a_link_without_a_token_is_refused(client):
    with pytest.raises(LinkDetached) as refused:
        client.connection.create_receiver(events("proton"))
        client.connection.wait(lambda: False, timeout=2)
    assert "unauthorized-access" in str(refused.value)


def test_a_wrong_key_is_refused(hub, client):
    hub.module("proton")
    text = hub.connection_string(EDGE, "proton")
    wrong = text.split("SharedAccessKey=")[0] + "SharedAccessKey=" + base64.b64encode(b"x" * 32).decode()
    assert client.put(wrong) == 401


def test_sasl_plain_opens_the_identity(hub):
    _, signature = token(hub.module("proton"))
    user = "%s/modules/proton@sas.%s" % (EDGE, IOTHUB.split(".")[0])
    client = Client(hub, user=user, password=signature, allowed_mechs="PLAIN")
    try:
        sender = client.connection.create_sender(events("proton"))
        delivery = sender.send(Message(body=b"x", inferred=True))
        assert delivery.remote_state == proton.Delivery.ACCEPTED
    finally:
        client.close()

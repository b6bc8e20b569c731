"""The Python SDK as IoT Edge starts it: no connection string, only the workload API, by socket and by port."""
import base64
import http.client
import os
import subprocess

import pytest
from azure.iot.device import IoTHubModuleClient

from hub import EDGE, WEIR

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=["unix", "http"])
def transport(request):
    return request.param


@pytest.fixture
def start(hub, clients, monkeypatch, transport):
    """Starts a module in the environment that the hub prints."""

    def started(name, **more):
        hub.module(name)
        words = [WEIR, "edge-environment", "--config", hub.config, "--module", name]
        words += ["--http"] if transport == "http" else []
        for line in subprocess.check_output(words, text=True, timeout=20).splitlines():
            monkeypatch.setenv(*line.split("=", 1))
        return clients._keep(IoTHubModuleClient.create_from_edge_environment(connection_retry_interval=1, **more))

    return started


def test_modules_talk_without_a_connection_string(hub, start, inbox, message):
    hub.route(
        "environment",
        'FROM /messages/modules/env-sender/outputs/out INTO BrokeredEndpoint("/modules/env-receiver/inputs/in1")',
    )
    box = inbox(start("env-receiver"))
    start("env-sender", websockets=True).send_message_to_output(message("signed"), "out")
    got = box.next()
    assert (got.data, got.custom_properties["$.cmid"]) == (b"signed", "env-sender")


def test_a_module_calls_a_method_of_another(hub, start):
    from azure.iot.device import MethodResponse

    target = start("env-target")

    def answer(request):
        response = MethodResponse.create_from_method_request(request, 200, {"pong": request.payload["n"]})
        target.send_method_response(response)

    target.on_method_request_received = answer
    call = {"methodName": "ping", "payload": {"n": 7}, "responseTimeoutInSeconds": 10, "connectTimeoutInSeconds": 5}
    answered = start("env-caller").invoke_method(call, EDGE, "env-target")
    assert answered == {"status": 200, "payload": {"pong": 7}}


def test_a_name_that_needs_escaping_is_served(start):
    assert start("$odd=name").connected


def test_data_is_encrypted_for_one_module(hub, start):
    start("env-sender")
    address = hub.listen["workload"]
    path = "/modules/env-sender/genid/%s/" % os.environ["IOTEDGE_MODULEGENERATIONID"]

    def ask(verb, body):
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("POST", path + verb + "?api-version=2020-07-07", body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    text, vector = (base64.b64encode(part).decode() for part in (b"secret", b"vector"))
    status, sealed = ask("encrypt", '{"plaintext":"%s","initializationVector":"%s"}' % (text, vector))
    assert status == 200
    sealed = sealed[:-1] + ',"initializationVector":"%s"}' % vector
    assert ask("decrypt", sealed) == (200, '{"plaintext":"%s"}' % text)

"""Twins, direct methods and cloud-to-device messages with the unmodified Python device SDK, against the real binary."""
import queue

import pytest
from azure.iot.device import MethodResponse
from azure.iot.device import exceptions

from hub import EDGE, wait_for

pytestmark = pytest.mark.timeout(180)


class Desired:
    """Patches of the desired properties that a client is given."""

    def __init__(self, client):
        self.patches = queue.Queue()
        client.on_twin_desired_properties_patch_received = self.patches.put

    def until(self, key, value, seconds=30):
        """The patch that says so; earlier ones are of other tests."""
        while True:
            patch = self.patches.get(timeout=seconds)
            if patch.get(key) == value:
                return patch


class Commands:
    """Cloud-to-device messages of one test, by its tag."""

    def __init__(self, client, tag):
        self.messages, self.tag = queue.Queue(), tag
        client.on_message_received = self._take

    def _take(self, message):
        if message.custom_properties.get("tag") == self.tag:
            self.messages.put(message)

    def next(self, seconds=30):
        return self.messages.get(timeout=seconds)


def answers(client):
    """The client answers every method with its name and what it was given."""

    def answer(request):
        response = MethodResponse.create_from_method_request(request, 203, {"did": request.name, "with": request.payload})
        client.send_method_response(response)

    client.on_method_request_received = answer


def test_a_reported_patch_is_in_the_twin_that_the_client_and_the_operator_see(hub, clients, tag):
    client = clients.module("sender")
    version = client.get_twin()["reported"]["$version"]
    client.patch_twin_reported_properties({"seen": {"tag": tag, "gone": 1}})
    client.patch_twin_reported_properties({"seen": {"gone": None}})
    twin = client.get_twin()
    assert twin["reported"] == {**twin["reported"], "seen": {"tag": tag}, "$version": version + 2}
    assert "$metadata" not in twin["desired"] and "tags" not in twin
    assert hub.reported(module="sender")["seen"] == {"tag": tag}


def test_a_twin_of_a_leaf_device_is_its_own(hub, clients, tag):
    device = clients.device("leaf-" + tag)
    device.patch_twin_reported_properties({"leaf": tag})
    assert device.get_twin()["reported"]["leaf"] == tag
    assert "leaf" not in clients.module("sender").get_twin()["reported"]


def test_a_patch_that_breaks_a_rule_is_an_error_and_the_client_goes_on(hub, clients, tag):
    client = clients.module("sender")
    with pytest.raises(exceptions.ClientError) as raised:
        client.patch_twin_reported_properties({"bad.name": tag})
    assert "status 400" in str(raised.value.__cause__)
    client.patch_twin_reported_properties({"good": tag})
    assert client.get_twin()["reported"]["good"] == tag


def test_a_desired_property_reaches_the_client_with_its_version(hub, clients, tag):
    client = clients.module("receiver")
    desired = Desired(client)
    version = hub.set_desired({"interval": tag, "old": None}, module="receiver")
    patch = desired.until("interval", tag)
    assert patch == {"interval": tag, "old": None, "$version": version}
    assert client.get_twin()["desired"]["interval"] == tag


def test_what_was_desired_while_the_client_was_away_comes_when_it_is_back(hub, clients, tag):
    client = clients.module("receiver")
    desired = Desired(client)
    hub.set_desired({"before": tag}, module="receiver")
    desired.until("before", tag)
    client.disconnect()
    hub.set_desired({"missed": tag}, module="receiver")
    client.connect()
    assert desired.until("missed", tag)["missed"] == tag


@pytest.mark.parametrize("payload", [{"n": [1, None, "ä"]}, "text", 7, None], ids=["object", "text", "number", "null"])
def test_a_method_is_answered_by_a_module(hub, clients, payload):
    answers(clients.module("receiver"))
    assert hub.call("poke", payload, module="receiver") == (203, {"did": "poke", "with": payload})


def test_a_method_is_answered_by_a_leaf_device_whatever_its_name(hub, clients, tag):
    answers(clients.device("leaf-" + tag))
    for name in ["reboot", "component*reboot", "50%+1/a b?#ä"]:
        assert hub.call(name, 1, device="leaf-" + tag) == (203, {"did": name, "with": 1})


def test_a_module_calls_a_module(hub, clients):
    if "https" not in hub.listen:
        pytest.skip("the hub has no listener for method calls of modules")
    answers(clients.module("receiver"))
    call = {"methodName": "poke", "payload": {"n": 7}, "responseTimeoutInSeconds": 10, "connectTimeoutInSeconds": 5}
    result = clients.edge_module("sender").invoke_method(call, EDGE, "receiver")
    assert result == {"status": 203, "payload": {"did": "poke", "with": {"n": 7}}}


def test_a_client_that_does_not_answer_is_not_waited_for_longer_than_asked(hub, clients):
    clients.module("receiver").on_method_request_received = lambda request: None
    with pytest.raises(AssertionError, match="504"):
        hub.call("poke", None, module="receiver", response=5)


def test_a_command_reaches_a_leaf_device_with_its_properties(hub, clients, tag):
    name = "leaf-" + tag
    hub.device(name)
    properties = {"tag": tag, "a b": "ü/+"}
    hub.command(name, {"valve": "close"}, contentType="application/json", messageId="m-1", properties=properties)
    got = Commands(clients.device(name), tag).next()
    assert got.data == b'{"valve":"close"}'
    assert (got.message_id, got.content_type) == ("m-1", "application/json")
    assert got.custom_properties["a b"] == "ü/+"
    wait_for(lambda: hub.commands(name) == 0, "the command is settled")


def test_commands_wait_for_a_device_that_is_away_and_come_in_order(hub, clients, tag):
    name = "leaf-" + tag
    device = clients.device(name)
    Commands(device, tag)
    device.shutdown()
    for number in range(5):
        hub.command(name, "c%d" % number, properties={"tag": tag})
    commands = Commands(clients.device(name), tag)
    assert [commands.next().data for _ in range(5)] == [b"c0", b"c1", b"c2", b"c3", b"c4"]


def test_everything_goes_on_after_the_hub_was_killed_without_subscribing_again(hub, clients, tag):
    name = "leaf-" + tag
    module, device = clients.module("receiver"), clients.device(name)
    desired, commands = Desired(module), Commands(device, tag)
    answers(module)
    answers(device)
    hub.set_desired({"round": tag + "-1"}, module="receiver")
    desired.until("round", tag + "-1")
    assert hub.call("poke", 1, module="receiver")[0] == 203
    module.patch_twin_reported_properties({"kept": tag})
    hub.kill()
    hub.start()
    hub.set_desired({"round": tag + "-2"}, module="receiver")
    hub.command(name, "after", properties={"tag": tag})
    wait_for(lambda: module.connected and device.connected, "both clients are back", 60)
    assert desired.until("round", tag + "-2", 60)["round"] == tag + "-2"
    assert commands.next(60).data == b"after"
    for target in [{"module": "receiver"}, {"device": name}]:
        assert hub.call("poke", 2, connect=60, **target) == (203, {"did": "poke", "with": 2})
    assert module.get_twin()["reported"]["kept"] == tag

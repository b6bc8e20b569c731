import os
import queue
import threading
import unittest.mock
import uuid

import pytest

from hub import Hub


def pytest_terminal_summary(terminalreporter):
    """Names what was skipped, as tests/run counts it."""
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.write_line("skipped: %s (%s)" % (report.nodeid, str(reason).removeprefix("Skipped: ")))


@pytest.fixture(scope="session")
def hub():
    running = Hub()
    yield running
    assert running.stop() == 0, "the hub did not end in good order"


@pytest.fixture
def tag():
    return uuid.uuid4().hex[:12]


class Clients:
    """SDK clients of one transport that are shut down at the end of the test."""

    def __init__(self, hub, transport):
        self.hub, self.open, self.websockets = hub, [], transport == "mqttws"

    def _keep(self, client):
        self.open.append(client)
        client.connect()
        return client

    def _options(self, **more):
        return dict(connection_retry_interval=1, websockets=self.websockets, **more)

    def module(self, name, **more):
        from azure.iot.device import IoTHubModuleClient

        options = self._options(server_verification_cert=self.hub.trust(), **more)
        return self._keep(IoTHubModuleClient.create_from_connection_string(self.hub.module(name), **options))

    def device(self, name, **more):
        from azure.iot.device import IoTHubDeviceClient

        options = self._options(server_verification_cert=self.hub.trust(), **more)
        return self._keep(IoTHubDeviceClient.create_from_connection_string(self.hub.device(name), **options))

    def edge_module(self, name):
        """The only Python client that may call methods: one made from the environment, in its form for developers."""
        from azure.iot.device import IoTHubModuleClient

        environment = {
            "EdgeHubConnectionString": self.hub.module(name),
            "EdgeModuleCACertificateFile": os.path.join(self.hub.data, "pki", "trust-bundle.pem"),
        }
        with unittest.mock.patch.dict(os.environ, environment):
            return self._keep(IoTHubModuleClient.create_from_edge_environment(**self._options()))

    def close(self):
        threads = [threading.Thread(target=self._shutdown, args=(client,), daemon=True) for client in self.open]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)

    @staticmethod
    def _shutdown(client):
        try:
            client.shutdown()
        except Exception:  # a client whose hub is gone cannot say goodbye
            pass


@pytest.fixture(params=["mqtt", "mqttws"])
def clients(hub, request):
    if request.param == "mqttws" and "https" not in hub.listen:
        pytest.skip("the hub has no listener for WebSockets")
    all_clients = Clients(hub, request.param)
    yield all_clients
    all_clients.close()


class Inbox:
    """Messages of one test, by its tag."""

    def __init__(self, client, tag):
        self.messages, self.tag = queue.Queue(), tag
        client.on_message_received = self._take

    def _take(self, message):
        if message.custom_properties.get("tag") == self.tag:
            self.messages.put(message)

    def next(self, seconds=20):
        try:
            return self.messages.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError("no message of this test arrived in %s s" % seconds) from None

    def quiet(self, seconds=1.5):
        try:
            message = self.messages.get(timeout=seconds)
        except queue.Empty:
            return
        raise AssertionError("an unwanted message arrived: %r" % message.data)


@pytest.fixture
def inbox(tag):
    return lambda client: Inbox(client, tag)


@pytest.fixture
def message(tag):
    def make(body, **properties):
        from azure.iot.device import Message

        made = Message(body, content_type="application/json", content_encoding="utf-8")
        made.custom_properties["tag"] = tag
        made.custom_properties.update(properties)
        return made

    return make

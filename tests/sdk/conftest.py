import queue
import threading
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
    """SDK clients that are shut down at the end of the test."""

    def __init__(self, hub):
        self.hub, self.open = hub, []

    def _keep(self, client):
        self.open.append(client)
        client.connect()
        return client

    def module(self, name, **more):
        from azure.iot.device import IoTHubModuleClient

        return self._keep(
            IoTHubModuleClient.create_from_connection_string(
                self.hub.module(name), server_verification_cert=self.hub.trust(), connection_retry_interval=1, **more
            )
        )

    def device(self, name, **more):
        from azure.iot.device import IoTHubDeviceClient

        return self._keep(
            IoTHubDeviceClient.create_from_connection_string(
                self.hub.device(name), server_verification_cert=self.hub.trust(), connection_retry_interval=1, **more
            )
        )

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


@pytest.fixture
def clients(hub):
    all_clients = Clients(hub)
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

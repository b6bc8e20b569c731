"""Swagger UI in a real browser that can reach nothing but the hub: authorize, try it out, execute."""
import json
import os
import shutil
import urllib.parse

import pytest

from hub import wait_for

pytestmark = pytest.mark.timeout(180)


def _program(*names):
    return next((path for path in map(shutil.which, names) if path), None)


@pytest.fixture(scope="module")
def driver():
    chromium, chromedriver = _program("chromium", "chromium-browser"), _program("chromedriver")
    if not (chromium and chromedriver):
        assert os.environ.get("WEIR_REQUIRE_BROWSER") != "1", "chromium is missing, and it is required"
        pytest.skip("chromium is not installed: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1400,1200",
        # No network: every name but loopback does not exist, and the browser's own services are off.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-proxy-server",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    started.set_script_timeout(30)
    yield started
    started.quit()


class Docs:
    """The page of Swagger UI, as one who clicks and types sees it."""

    def __init__(self, driver, hub):
        self.driver, self.hub = driver, hub
        for log in ("browser", "performance"):
            driver.get_log(log)
        driver.get("http://%s/docs" % hub.listen["api"])
        self.wait(".opblock", "the operations are shown")

    def find(self, selector, within=None):
        return (within or self.driver).find_elements("css selector", selector)

    def wait(self, selector, what, within=None, seconds=30):
        return wait_for(lambda: next(iter(self.find(selector, within)), None), what, seconds)

    def click(self, selector, within=None):
        element = self.wait(selector, selector + " is there", within)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def fill(self, element, text):
        """Types as a person does: what stood there goes."""
        from selenium.webdriver import Keys

        element.send_keys(Keys.CONTROL, "a")
        element.send_keys(text)

    def authorize(self, token):
        self.click("button.authorize")
        self.fill(self.wait(".modal-ux input", "the token can be given"), token)
        self.click(".modal-ux button[type=submit]")
        self.wait(".modal-ux button[aria-label='Remove authorization']", "the token is taken")
        self.click(".modal-ux button.btn-done")

    def operation(self, operation_id):
        """Opens an operation's block; the page lets one try it at once."""
        block = self.wait("[id$='-%s']" % operation_id, operation_id + " is listed")
        self.click(".opblock-summary-control", block)
        self.wait(".try-out", "it can be tried", block)
        if not self.find("button.execute", block):
            self.click(".try-out__btn", block)
        return block

    def execute(self, block):
        """Presses Execute; gives the status and the body that the page shows."""
        self.click("button.execute", block)
        row = self.wait(".live-responses-table tbody .response", "the answer is shown", block)
        status = self.wait(".response-col_status", "its status is shown", row).text.split()[0]
        body = self.find(".response-col_description .highlight-code code", row)
        return int(status), json.loads(body[0].text) if body else None

    def requests(self):
        """Addresses of everything the page has asked for."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [request["request"]["url"] for request in sent]

    def complaints(self):
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


@pytest.fixture
def docs(driver, hub):
    return Docs(driver, hub)


@pytest.fixture
def token(hub):
    with open(os.path.join(hub.data, "admin.token")) as f:
        return f.read().strip()


def test_a_device_is_listed_by_try_it_out(docs, hub, token, tag):
    hub.device("seen-" + tag)
    docs.authorize(token)
    status, body = docs.execute(docs.operation("listDevices"))
    assert status == 200
    assert "seen-" + tag in [device["deviceId"] for device in body["items"]]


def test_a_route_is_put_by_try_it_out_and_is_there(docs, hub, token, tag):
    docs.authorize(token)
    block = docs.operation("putRoute")
    docs.fill(docs.wait("tr[data-param-name=name] input", "the name can be given", block), "by-hand-" + tag)
    docs.fill(docs.wait("textarea.body-param__text", "the body can be given", block), '{"route": "FROM /messages/* INTO $upstream"}')
    status, body = docs.execute(block)
    assert status in (200, 201)
    assert body["route"] == "FROM /messages/* INTO $upstream"
    assert hub.api("GET", "/routes/by-hand-" + tag)["route"] == body["route"]


def test_without_a_token_the_page_shows_the_refusal(docs):
    status, body = docs.execute(docs.operation("listDevices"))
    assert (status, body["code"]) == (401, "unauthorized")


def test_the_page_asks_for_nothing_beyond_the_hub_and_has_no_complaint(docs, token):
    docs.authorize(token)
    assert docs.execute(docs.operation("listDevices"))[0] == 200
    asked = docs.requests()
    assert any(url.endswith("/openapi.json") for url in asked), asked
    assert any("/api/v1/devices" in url for url in asked), asked
    beyond = [url for url in asked if urllib.parse.urlsplit(url).netloc != docs.hub.listen["api"]]
    assert [url for url in beyond if not url.startswith(("data:", "blob:"))] == []
    assert docs.complaints() == []

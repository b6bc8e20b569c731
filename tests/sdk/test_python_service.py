"""The service SDK for Python, unmodified: every call of it over REST that the hub answers, and some that it refuses."""
import inspect
import os
import re

import pytest
from azure.iot.hub import DigitalTwinClient, IoTHubConfigurationManager, IoTHubHttpRuntimeManager, IoTHubJobManager
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import (
    CloudToDeviceMethod,
    Configuration,
    ConfigurationContent,
    ConfigurationQueriesTestInput,
    ExportImportDevice,
    JobProperties,
    JobRequest,
    QuerySpecification,
    Twin,
    TwinProperties,
)
from azure.iot.device import MethodResponse
from msrest.exceptions import HttpOperationError

from hub import EDGE, WEIR

import subprocess

pytestmark = pytest.mark.timeout(120)
KEY = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="
OTHER = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg="
PAGE = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "compatibility.md")


@pytest.fixture(autouse=True)
def trusted(hub, monkeypatch):
    """The SDK has no option for a CA; this is where its HTTP library looks."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.path.join(hub.data, "pki", "trust-bundle.pem"))


def connection_string(hub, policy="iothubowner"):
    words = [WEIR, "connection-string", "--config", hub.config, "--service", "--policy", policy]
    return subprocess.check_output(words, text=True, timeout=20).strip()


@pytest.fixture
def registry(hub):
    return IoTHubRegistryManager.from_connection_string(connection_string(hub))


def refused(status, call, *arguments):
    with pytest.raises(HttpOperationError) as caught:
        call(*arguments)
    assert caught.value.response.status_code == status, caught.value.response.text
    return caught.value.response.json()["Message"]


def test_a_device_with_keys_is_made_read_changed_and_deleted(registry, tag):
    made = registry.create_device_with_sas(tag, KEY, OTHER, "enabled", status_reason="new")
    assert (made.authentication.symmetric_key.primary_key, made.status_reason) == (KEY, "new")
    assert "DeviceAlreadyExists" in refused(409, registry.create_device_with_sas, tag, KEY, OTHER, "enabled")
    got = registry.get_device(tag)
    assert (got.device_id, got.etag, got.generation_id) == (tag, made.etag, made.generation_id)
    assert got.parent_scopes == [registry.get_device(EDGE).device_scope]
    changed = registry.update_device_with_sas(tag, got.etag, OTHER, KEY, "disabled")
    assert (changed.status, changed.authentication.symmetric_key.primary_key) == ("disabled", OTHER)
    stale = refused(412, registry.update_device_with_sas, tag, got.etag, KEY, KEY, "enabled")
    assert "PreconditionFailed" in stale
    registry.update_device_with_sas(tag, None, KEY, KEY, "enabled")
    assert "PreconditionFailed" in refused(412, registry.delete_device, tag, got.etag)
    registry.delete_device(tag)
    assert "DeviceNotFound" in refused(404, registry.get_device, tag)


def test_devices_with_certificates_are_made_and_changed(registry, tag):
    thumbprint, other = "AB" * 20, "CD" * 32
    made = registry.create_device_with_x509(tag + "-x", thumbprint, other, "enabled")
    assert made.authentication.type == "selfSigned"
    assert made.authentication.x509_thumbprint.secondary_thumbprint == other
    changed = registry.update_device_with_x509(tag + "-x", made.etag, other, thumbprint, "enabled")
    assert changed.authentication.x509_thumbprint.primary_thumbprint == other
    made = registry.create_device_with_certificate_authority(tag + "-c", "enabled")
    assert made.authentication.type == "certificateAuthority"
    changed = registry.update_device_with_certificate_authority(tag + "-c", made.etag, "disabled")
    assert changed.status == "disabled"


def test_an_edge_device_has_a_scope_that_a_leaf_can_name(registry, tag):
    edge = registry.create_device_with_sas(tag + "-e", KEY, KEY, "enabled", iot_edge=True)
    assert edge.capabilities.iot_edge and edge.device_scope.startswith("ms-azure-iot-edge://")
    leaf = registry.create_device_with_sas(tag + "-l", KEY, KEY, "enabled", device_scope=edge.device_scope)
    assert (leaf.device_scope, leaf.parent_scopes) == (edge.device_scope, [edge.device_scope])


def test_modules_are_made_read_changed_listed_and_deleted(registry, tag):
    made = registry.create_module_with_sas(EDGE, tag, "me", KEY, OTHER)
    assert (made.module_id, made.managed_by) == (tag, "me")
    changed = registry.update_module_with_sas(EDGE, tag, "you", made.etag, OTHER, KEY)
    assert changed.authentication.symmetric_key.primary_key == OTHER
    got = registry.get_module(EDGE, tag)
    assert (got.managed_by, got.etag) == ("you", changed.etag)
    names = [module.module_id for module in registry.get_modules(EDGE)]
    assert tag in names and "$edgeAgent" in names
    registry.delete_module(EDGE, tag)
    assert "ModuleNotFound" in refused(404, registry.get_module, EDGE, tag)
    thumbprint = "AB" * 20
    made = registry.create_module_with_x509(EDGE, tag + "-x", None, thumbprint, thumbprint)
    registry.update_module_with_x509(EDGE, tag + "-x", None, made.etag, thumbprint, thumbprint)
    made = registry.create_module_with_certificate_authority(EDGE, tag + "-c", None)
    registry.update_module_with_certificate_authority(EDGE, tag + "-c", None, made.etag)


def test_devices_are_listed_and_changed_in_bulk(registry, tag):
    def line(name, mode, **more):
        return ExportImportDevice(id=tag + name, import_mode=mode, **more)

    done = registry.bulk_create_or_update_devices([line("-1", "create", status="enabled"), line("-2", "create")])
    assert done.is_successful and done.errors == []
    done = registry.bulk_create_or_update_devices([line("-1", "delete"), line("-2", "create")])
    assert not done.is_successful
    assert [(error.device_id, error.error_code) for error in done.errors] == [(tag + "-2", "DeviceAlreadyExists")]
    names = [device.device_id for device in registry.get_devices()]
    assert tag + "-2" in names and tag + "-1" not in names
    assert len(registry.get_devices(1)) == 1


def test_twins_are_read_patched_and_replaced(registry, tag):
    registry.create_device_with_sas(tag, KEY, KEY, "enabled")
    twin = registry.get_twin(tag)
    assert twin.properties.desired["$version"] == 1 and twin.version == 2
    patch = Twin(tags={"site": tag}, properties=TwinProperties(desired={"a": 1, "b": {"c": 2}}))
    changed = registry.update_twin(tag, patch, twin.etag)
    assert changed.tags == {"site": tag} and changed.properties.desired["b"] == {"c": 2}
    assert "PreconditionFailed" in refused(412, registry.update_twin, tag, patch, twin.etag)
    whole = registry.replace_twin(tag, Twin(properties=TwinProperties(desired={"only": 1})), changed.etag)
    assert [name for name in whole.properties.desired if not name.startswith("$")] == ["only"]
    own = registry.get_module_twin(EDGE, "$edgeAgent")
    assert (own.device_id, own.module_id) == (EDGE, "$edgeAgent") and own.etag
    registry.create_module_with_sas(tag, "m", None, KEY, KEY)
    module = registry.update_module_twin(tag, "m", Twin(properties=TwinProperties(desired={"x": 1})))
    module = registry.replace_module_twin(tag, "m", Twin(properties=TwinProperties(desired={"y": 1})), module.etag)
    assert "x" not in module.properties.desired and module.properties.desired["y"] == 1


def test_a_query_gives_pages_of_twins(registry, tag):
    registry.create_device_with_sas(tag, KEY, KEY, "enabled")
    for name in ("a", "b", "c"):
        registry.create_module_with_sas(tag, name, None, KEY, KEY)
    query = QuerySpecification(query="SELECT * FROM devices.modules WHERE deviceId = '%s'" % tag)
    first = registry.query_iot_hub(query, None, 2)
    assert [twin.module_id for twin in first.items] == ["a", "b"] and first.type == "Twin"
    second = registry.query_iot_hub(query, first.continuation_token, 2)
    assert [twin.module_id for twin in second.items] == ["c"] and second.continuation_token is None
    assert "devices.modules" in refused(400, registry.query_iot_hub, QuerySpecification(query="SELECT 1"))


def test_statistics_count_devices(registry):
    counts = registry.get_device_registry_statistics()
    assert counts.total_device_count == counts.enabled_device_count + counts.disabled_device_count > 0
    assert registry.get_service_statistics().connected_device_count >= 0


def test_a_direct_method_is_called(hub, registry, clients, tag):
    client = clients.module("receiver")

    def answer(request):
        client.send_method_response(MethodResponse.create_from_method_request(request, 201, {"echo": request.payload}))

    client.on_method_request_received = answer
    call = CloudToDeviceMethod(method_name="echo", payload=tag, response_timeout_in_seconds=10, connect_timeout_in_seconds=10)
    done = registry.invoke_device_module_method(EDGE, "receiver", call)
    assert (done.status, done.payload) == (201, {"echo": tag})
    offline = CloudToDeviceMethod(method_name="echo", response_timeout_in_seconds=5)
    assert "DeviceNotFound" in refused(404, registry.invoke_device_method, "nobody", offline)
    registry.create_device_with_sas(tag, KEY, KEY, "enabled")
    assert "DeviceNotOnline" in refused(404, registry.invoke_device_method, tag, offline)


def test_configurations_are_kept(hub, tag):
    manager = IoTHubConfigurationManager.from_connection_string(connection_string(hub))
    content = ConfigurationContent(device_content={"properties.desired.x": 1})
    made = manager.create_configuration(
        Configuration(id=tag, content=content, priority=5, target_condition="*", schema_version="1.0")
    )
    assert manager.get_configuration(tag).priority == 5
    made.priority = 6
    changed = manager.update_configuration(made, made.etag)
    assert tag in [configuration.id for configuration in manager.get_configurations()]
    assert "PreconditionFailed" in refused(412, manager.delete_configuration, tag, made.etag)
    manager.delete_configuration(tag, changed.etag)
    assert "ConfigurationNotFound" in refused(404, manager.get_configuration, tag)
    query = ConfigurationQueriesTestInput(target_condition="*")
    assert "NotImplemented" in refused(501, manager.test_configuration_queries, query)


def test_a_manifest_is_applied_and_a_bad_one_refused_whole(hub, registry, tag):
    manager = IoTHubConfigurationManager.from_connection_string(connection_string(hub))
    before = {item["name"]: item["route"] for item in hub.api("GET", "/routes")["items"]}
    own = {
        "schemaVersion": "1.1",
        "routes": {**before, tag: {"route": "FROM /messages/* INTO $upstream", "priority": 1, "timeToLiveSecs": 9}},
        "storeAndForwardConfiguration": {"timeToLiveSecs": 7200},
    }
    modules = {"$edgeHub": {"properties.desired": own}, tag: {"properties.desired": {"a": 1}}}
    manager.apply_configuration_on_edge_device(EDGE, ConfigurationContent(modules_content=modules))
    route = hub.api("GET", "/routes/" + tag)
    assert (route["priority"], route["timeToLiveSecs"]) == (1, 9)
    assert registry.get_module_twin(EDGE, tag).properties.desired["a"] == 1
    modules[tag] = {"properties.desired": {"a b": 1}}
    bad = ConfigurationContent(modules_content=modules)
    text = refused(400, manager.apply_configuration_on_edge_device, EDGE, bad)
    assert "/modulesContent/%s/properties.desired/a b" % tag in text
    assert registry.get_module_twin(EDGE, tag).properties.desired["a"] == 1


def test_a_queue_of_commands_is_purged(hub, registry, tag):
    registry.create_device_with_sas(tag, KEY, KEY, "enabled")
    hub.command(tag, "x")
    assert registry.get_device(tag).cloud_to_device_message_count == 1
    purged = registry.protocol.cloud_to_device_messages.purge_cloud_to_device_message_queue(tag)
    assert (purged.total_messages_purged, purged.device_id) == (1, tag)


def test_a_policy_without_the_right_is_refused(hub):
    reader = IoTHubRegistryManager.from_connection_string(connection_string(hub, "registryRead"))
    assert reader.get_device(EDGE).device_id == EDGE
    assert "IotHubUnauthorizedAccess" in refused(401, reader.delete_device, EDGE)
    service = IoTHubRegistryManager.from_connection_string(connection_string(hub, "service"))
    assert service.get_twin(EDGE).device_id == EDGE
    assert "IotHubUnauthorizedAccess" in refused(401, service.get_device, EDGE)


def test_what_is_not_offered_is_refused_in_words(hub):
    owner = connection_string(hub)
    jobs = IoTHubJobManager.from_connection_string(owner)
    runtime = IoTHubHttpRuntimeManager.from_connection_string(owner)
    twins = DigitalTwinClient.from_connection_string(owner)
    for call in [
        jobs.get_import_export_jobs,
        lambda: jobs.create_import_export_job(JobProperties(type="export")),
        lambda: jobs.get_import_export_job("1"),
        lambda: jobs.cancel_import_export_job("1"),
        lambda: jobs.create_scheduled_job("1", JobRequest(job_id="1")),
        lambda: jobs.get_scheduled_job("1"),
        lambda: jobs.cancel_scheduled_job("1"),
        lambda: jobs.query_scheduled_jobs("scheduleUpdateTwin", "running"),
        runtime.receive_feedback_notification,
        lambda: runtime.complete_feedback_notification("1"),
        lambda: runtime.abandon_feedback_notification("1"),
        lambda: twins.get_digital_twin(EDGE),
        lambda: twins.update_digital_twin(EDGE, []),
        lambda: twins.invoke_command(EDGE, "c", {}),
        lambda: twins.invoke_component_command(EDGE, "c", "d", {}),
    ]:
        assert "NotImplemented" in refused(501, call)


def test_every_call_of_the_sdk_has_a_row_in_the_table_of_compatibility():
    with open(PAGE) as f:
        rows = set(re.findall(r"^\| `([A-Za-z]+\.[a-z0-9_]+)` \|", f.read(), re.M))
    for kind in [
        IoTHubRegistryManager,
        IoTHubConfigurationManager,
        IoTHubJobManager,
        IoTHubHttpRuntimeManager,
        DigitalTwinClient,
    ]:
        for name, _ in inspect.getmembers(kind, inspect.isroutine):
            if not name.startswith(("_", "from_")):
                assert "%s.%s" % (kind.__name__, name) in rows, "%s.%s has no row" % (kind.__name__, name)

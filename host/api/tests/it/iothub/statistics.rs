//! Counts of devices.

use super::Service;
use crate::support::TestHub;
use serde_json::json;
use weir_core::id::Identity;
use weir_hub::authenticate::Proven;

#[tokio::test]
async fn statistics_count_devices_by_status_and_connection() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    service.create("/devices/d1", json!({})).await;
    service.create("/devices/d2", json!({"status": "disabled"})).await;
    service.create("/devices/d1/modules/m", json!({})).await;
    let connect = |identity| hub.hub.connect(Proven::trusted(identity), "test", "here").unwrap();
    let device: Identity = Identity::device("d1".parse().unwrap());
    let module = Identity { module: "m".parse().ok(), ..device.clone() };
    let _sessions = (connect(device), connect(module));
    assert_eq!(
        service.get("/statistics/devices").await.json,
        json!({"totalDeviceCount": 3, "enabledDeviceCount": 2, "disabledDeviceCount": 1})
    );
    let connected = service.get("/statistics/service").await.json;
    assert_eq!(connected, json!({"connectedDeviceCount": 1}));
}

//! The versions of a module.

use crate::hub::{PASS, TestHub, each};
use serde_json::json;

#[tokio::test]
async fn the_history_keeps_the_newest_versions_and_no_more() {
    let hub = TestHub::start().await;
    let component = hub.install(json!({}), each(|_| Ok(PASS))).await;
    for version in 2..=130 {
        hub.put(component, json!({ "version": version.to_string() })).await;
    }
    let name = "m".parse().unwrap();
    let versions = hub.hub.modules().versions(&hub.hub, &name).await.unwrap();
    assert_eq!(versions.len(), 100);
    assert_eq!((versions[0].number, versions[99].number), (31, 130));
    hub.hub.modules().delete(&hub.hub, &name, weir_store::Expect::Any).await.unwrap();
    hub.put(component, json!({})).await;
    let versions = hub.hub.modules().versions(&hub.hub, &name).await.unwrap();
    assert_eq!(versions.iter().map(|version| version.number).collect::<Vec<_>>(), [1]);
}

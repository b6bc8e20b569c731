//! `$cbs`, and what tokens open.

use crate::client::{Client, says, soon};
use crate::hub::{IOTHUB, TestHub};
use crate::{INPUTS, LEAF_EVENTS, SENDER_EVENTS, leaf, module, sender};
use fe2o3_amqp_types::messaging::MessageId;
use fe2o3_amqp_types::primitives::Uuid;
use std::time::Duration;
use weir_core::id::Identity;
use weir_core::sas;

#[tokio::test]
async fn a_good_token_is_answered_200_in_the_type_of_the_question() {
    let hub = TestHub::start().await;
    let token = hub.token(&leaf()).await;
    let mut client = Client::dial(hub.address).await;
    let mut cbs = client.cbs().await;
    let audience = sas::resource_of(IOTHUB, &leaf());
    for id in [
        MessageId::String("text".to_owned()),
        MessageId::Uuid(Uuid::from([7; 16])),
        MessageId::Ulong(u64::MAX),
        MessageId::Binary(vec![1, 2].into()),
    ] {
        for kind in ["azure-devices.net:sastoken", "servicebus.windows.net:sastoken"] {
            assert_eq!(cbs.ask("put-token", kind, &audience, &token, id.clone()).await, 200);
        }
    }
}

#[tokio::test]
async fn a_bad_request_is_400_and_a_token_that_proves_nothing_401() {
    let hub = TestHub::start().await;
    let good = hub.token(&leaf()).await;
    let mut client = Client::dial(hub.address).await;
    let mut cbs = client.cbs().await;
    let kind = "servicebus.windows.net:sastoken";
    let id = || MessageId::String("x".to_owned());
    assert_eq!(cbs.ask("delete-token", kind, "a", &good, id()).await, 400);
    assert_eq!(cbs.ask("put-token", "jwt", "a", &good, id()).await, 400);
    assert_eq!(cbs.ask("put-token", kind, "", &good, id()).await, 400);
    assert_eq!(cbs.ask("put-token", kind, "a", "secret", id()).await, 400);
    let wrong = good.replace("sig=", "sig=AAAA");
    assert_eq!(cbs.ask("put-token", kind, "a", &wrong, id()).await, 400);
    let of_other = hub.token(&module()).await;
    let forged = of_other.replace("modules%2FM", "modules%2Fsender");
    assert_eq!(cbs.ask("put-token", kind, "a", &forged, id()).await, 401);
    let over = hub.hub.clock().now().as_secs() - 301;
    let over = hub.token_until(&leaf(), weir_core::clock::Timestamp::from_secs(over)).await;
    assert_eq!(cbs.ask("put-token", kind, "a", &over, id()).await, 401);
    assert_eq!(cbs.put("a", &good).await, 200, "the links are as good as before");
}

#[tokio::test]
async fn links_are_refused_without_a_token_of_their_identity() {
    let hub = TestHub::start().await;
    hub.token(&leaf()).await;
    let mut client = Client::enter(&hub, &sender()).await;
    for address in [LEAF_EVENTS, INPUTS, "/devices/nobody/messages/events"] {
        let refused = client.sender(address).await.unwrap_err().unwrap();
        assert!(says(&refused, "unauthorized-access"), "{address}: {refused:?}");
        let refused = client.receiver(&address.replace("messages/events", "twin")).await;
        assert!(says(&refused.unwrap_err(), "unauthorized-access"));
    }
    for address in ["/devices/leaf/nothing", "queue", ""] {
        let refused = client.sender(address).await.unwrap_err().unwrap();
        assert!(says(&refused, "not-found"), "{address}: {refused:?}");
    }
    client.sender(SENDER_EVENTS).await.expect("its own is open");
}

#[tokio::test]
async fn a_device_has_no_inputs() {
    let hub = TestHub::start().await;
    let mut client = Client::enter(&hub, &leaf()).await;
    let refused = client.receiver(LEAF_EVENTS).await.unwrap_err().unwrap();
    assert!(says(&refused, "not-found"), "{refused:?}");
}

#[tokio::test]
async fn a_token_is_judged_again_when_a_link_is_attached() {
    let hub = TestHub::start().await;
    let mut client = Client::enter(&hub, &leaf()).await;
    hub.disable(&leaf()).await;
    let refused = client.sender(LEAF_EVENTS).await.unwrap_err().unwrap();
    assert!(says(&refused, "unauthorized-access"), "{refused:?}");
}

#[tokio::test]
async fn several_identities_share_a_connection_and_a_takeover_ends_one() {
    let hub = TestHub::start().await;
    let mut client = Client::enter(&hub, &leaf()).await;
    client.put(&hub, &sender()).await;
    let mut of_leaf = client.sender(LEAF_EVENTS).await.unwrap();
    let mut of_sender = client.sender(SENDER_EVENTS).await.unwrap();
    assert_eq!(hub.hub.clients().len(), 2);
    let mut other = Client::enter(&hub, &leaf()).await;
    let mut newer = other.sender(LEAF_EVENTS).await.unwrap();
    let ended = soon(of_leaf.on_detach()).await;
    assert!(says(&ended, "stolen"), "{ended:?}");
    for link in [&mut of_sender, &mut newer] {
        let outcome = soon(link.send(crate::client::data("x"))).await.unwrap();
        assert!(outcome.is_accepted());
    }
    drop((client, of_sender));
    let alone = async {
        while hub.hub.clients().len() > 1 {
            tokio::task::yield_now().await;
        }
    };
    soon(alone).await;
}

#[tokio::test]
async fn the_last_link_of_an_identity_is_its_end_with_the_hub() {
    let hub = TestHub::start().await;
    let mut client = Client::enter(&hub, &leaf()).await;
    assert_eq!(hub.hub.clients().len(), 0, "a token alone is no client");
    let link = client.sender(LEAF_EVENTS).await.unwrap();
    assert_eq!(hub.hub.clients().len(), 1);
    soon(link.close()).await.unwrap();
    let gone = async {
        while !hub.hub.clients().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon(gone).await;
    client.sender(LEAF_EVENTS).await.expect("the token still counts");
}

#[tokio::test]
async fn links_end_after_the_token_and_stay_when_it_is_renewed() {
    let hub = TestHub::start().await;
    let mut client = Client::dial(hub.address).await;
    let now = hub.hub.clock().now().as_secs();
    let put = async |client: &mut Client, identity: Identity, seconds: i64| {
        // The five minutes of grace are nearly over.
        let until = weir_core::clock::Timestamp::from_secs(now - 300 + seconds);
        let token = hub.token_until(&identity, until).await;
        assert_eq!(client.put_token(&sas::resource_of(IOTHUB, &identity), &token).await, 200);
    };
    put(&mut client, leaf(), 4).await;
    put(&mut client, sender(), 4).await;
    let mut of_leaf = client.sender(LEAF_EVENTS).await.unwrap();
    let mut of_sender = client.sender(SENDER_EVENTS).await.unwrap();
    put(&mut client, sender(), 3600).await;
    let ended = soon(of_leaf.on_detach()).await;
    assert!(says(&ended, "unauthorized-access"), "{ended:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(soon(of_sender.send(crate::client::data("x"))).await.unwrap().is_accepted());
}

#[tokio::test]
async fn an_identity_that_is_disabled_loses_its_links_at_once() {
    let hub = TestHub::start().await;
    let mut client = Client::enter(&hub, &leaf()).await;
    let mut link = client.sender(LEAF_EVENTS).await.unwrap();
    hub.disable(&leaf()).await;
    let ended = soon(link.on_detach()).await;
    assert!(says(&ended, "unauthorized-access"), "{ended:?}");
}

#[tokio::test]
async fn a_devices_token_opens_its_modules() {
    let hub = TestHub::start().await;
    let edge = weir_core::id::Identity::device("E".parse().unwrap());
    hub.token(&sender()).await;
    let mut client = Client::enter(&hub, &edge).await;
    client.sender(SENDER_EVENTS).await.expect("a device speaks for its modules");
}

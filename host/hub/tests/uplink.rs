//! Delivery to the upstream, with an upstream whose link the test holds in its hand.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use weir_core::clock::{Clock, Timestamp};
use weir_core::digest::Digest;
use weir_core::id::Identity;
use weir_core::message::Message;
use weir_core::module::Ceilings;
use weir_core::port::{
    Answer, Batch, BoxFuture, ComponentFacts, Consumer, Fault, Instance, Link, ModuleRuntime,
    ModuleStart, Outcome, RuntimeError, Upstream,
};
use weir_hub::authenticate::Proven;
use weir_hub::tasks::{TaskGroup, TaskKind};
use weir_hub::{Config, Expect, Hub, IdentitySpec, Parts, Publication, QueueDefaults, RouteSpec};
use weir_store::{Durability, Opened, Options, Store};

/// Longer than anything here takes on a busy machine, and shorter than the wait that is asked for.
const PATIENCE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(3_600);

struct NoModules;

impl ModuleRuntime for NoModules {
    fn compile(&self, _: Bytes) -> BoxFuture<'_, Result<ComponentFacts, RuntimeError>> {
        Box::pin(async { Err(RuntimeError::Host("none in this test".to_owned())) })
    }

    fn start(&self, _: ModuleStart) -> BoxFuture<'_, Result<Arc<dyn Instance>, RuntimeError>> {
        Box::pin(async { Err(RuntimeError::Host("none in this test".to_owned())) })
    }

    fn forget(&self, _: &Digest) {}
}

/// Refuses for an hour while its link is down.
struct ByHand {
    up: watch::Sender<bool>,
    refusals: AtomicUsize,
    taken: watch::Sender<usize>,
}

impl Consumer for ByHand {
    fn deliver(&self, batch: Batch) -> BoxFuture<'_, Result<Answer, Fault>> {
        let up = *self.up.borrow();
        Box::pin(async move {
            if !up {
                self.refusals.fetch_add(1, Ordering::SeqCst);
                self.taken.send_modify(|_| {});
                let reason = "by hand".to_owned();
                return Err(Fault::Unavailable { reason, retry_after: Some(LONG) });
            }
            self.taken.send_modify(|taken| *taken += batch.deliveries.len());
            let outcomes = vec![Outcome::Accepted; batch.deliveries.len()];
            Ok(Answer { outcomes, ..Answer::default() })
        })
    }
}

impl Upstream for ByHand {
    fn kind(&self) -> &'static str {
        "by-hand"
    }

    fn target(&self) -> String {
        String::new()
    }

    fn run(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn link(&self) -> Link {
        let since = Timestamp::default();
        match *self.up.borrow() {
            true => Link::Up { since },
            false => Link::Down { since, reason: "by hand".to_owned() },
        }
    }

    fn is_up(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { drop(self.up.subscribe().wait_for(|up| *up).await) })
    }
}

async fn start(folder: &tempfile::TempDir, upstream: Arc<ByHand>, storage: &TaskGroup) -> Hub {
    let clock = Clock::system();
    let options = Options {
        dir: folder.path().to_owned(),
        durability: Durability::Process,
        total_bytes: None,
        clock: clock.clone(),
    };
    let Opened { store, writer, report, start } = Store::open(options).await.unwrap();
    storage.spawn(TaskKind::Essential, "writer", |_| async { writer.run().await.unwrap() });
    let config = Config {
        edge_device: "E".parse().unwrap(),
        hostname: "gateway.test".to_owned(),
        iothub_hostname: "hub.test".to_owned(),
        ceilings: Ceilings::default(),
        default_ttl: None,
        queues: QueueDefaults::default(),
        max_clients: 10,
        device_roots: Vec::new(),
        module_certificates: false,
    };
    let runtime = Arc::new(NoModules);
    let parts = Parts { store, report, start, runtime, upstream: Some(upstream) };
    let hub = Hub::start(config, clock, parts, TaskGroup::default()).await.unwrap();
    let route = "FROM /messages/* INTO $upstream".to_owned();
    let spec = RouteSpec { route, priority: None, time_to_live_secs: None };
    hub.routes().put(&hub, &"up".parse().unwrap(), spec, Expect::Any).await.unwrap();
    hub.set_ready(true);
    hub
}

#[tokio::test]
async fn a_backlog_drains_when_the_link_is_up_and_not_when_the_wait_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let storage = TaskGroup::default();
    let (up, refusals) = (watch::Sender::new(false), AtomicUsize::new(0));
    let upstream = Arc::new(ByHand { up, refusals, taken: watch::Sender::new(0) });
    let hub = start(&folder, Arc::clone(&upstream), &storage).await;
    let device = Identity::device("pump".parse().unwrap());
    let spec = IdentitySpec::default();
    hub.identities().put(&hub, device.clone(), spec, Expect::Any).await.unwrap();
    let session = hub.connect(Proven::trusted(device), "test", "here").unwrap();
    let mut intake = session.intake();
    let message = Message { body: Bytes::from_static(b"{}"), ..Message::default() };
    intake.submit(vec![Publication { message, reliable: true }]).await;
    intake.settled().await.unwrap();
    let mut taken = upstream.taken.subscribe();
    let refused = taken.wait_for(|_| upstream.refusals.load(Ordering::SeqCst) > 0);
    drop(tokio::time::timeout(PATIENCE, refused).await.expect("it is tried").unwrap());
    upstream.up.send_replace(true);
    let drained = taken.wait_for(|taken| *taken == 1);
    drop(tokio::time::timeout(PATIENCE, drained).await.expect("it is tried again").unwrap());
    assert_eq!(upstream.refusals.load(Ordering::SeqCst), 1);
    drop((intake, session));
    assert_eq!(hub.tasks().shut_down(PATIENCE).await, None);
    hub.store().close().await;
    assert_eq!(storage.shut_down(PATIENCE).await, None);
}

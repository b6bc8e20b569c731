//! The hub's view of its upstream: a dispatcher like any other, with a link that can be up, down, or
//! cut by an operator.

use crate::Hub;
use crate::dispatch::{Dispatcher, Manner};
use crate::endpoints::UPSTREAM;
use crate::tasks::TaskKind;
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::watch;
use weir_core::backoff::Backoff;
use weir_core::limits;
use weir_core::port::{Consumer, Link, Upstream};
use weir_store::{Expect, Write, WriteError};

const KIND: &str = "upstream";
const PAUSED: &str = "paused";

/// The upstream as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UplinkView {
    /// `file`, `mqtt`, … or `none`.
    pub kind: &'static str,
    /// Where it leads.
    pub target: String,
    /// `up`, `down`, `idle`, `paused` or `none`.
    pub state: &'static str,
    /// Since when, for `up` and `down`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Why it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Messages that wait for it.
    pub waiting: u64,
    /// Bytes that wait for it.
    pub waiting_bytes: u64,
}

type Seated = Option<Arc<dyn Consumer>>;

/// The upstream and its seat; an empty seat is a cut link.
pub(crate) struct Uplink {
    upstream: Option<Arc<dyn Upstream>>,
    seat: watch::Sender<Seated>,
}

impl Uplink {
    pub(crate) fn new(upstream: Option<Arc<dyn Upstream>>) -> Self {
        let seated: Seated = upstream.clone().map(|upstream| upstream as Arc<dyn Consumer>);
        Self { upstream, seat: watch::Sender::new(seated) }
    }

    /// Starts delivery.
    pub(crate) async fn start(&self, hub: &Hub) -> Result<(), weir_store::Error> {
        let endpoint = hub.open_endpoint(&weir_core::route::Sink::Upstream).await?;
        if hub.store().document(KIND, PAUSED).await?.is_some() {
            self.pause(true);
        }
        let Some(upstream) = self.upstream.clone() else { return Ok(()) };
        let reader = hub.store().reader(endpoint)?;
        let dispatcher = Dispatcher {
            hub: hub.clone(),
            endpoint,
            name: UPSTREAM.to_owned(),
            upstream: Some(Arc::clone(&upstream)),
            input: None,
            reader,
            seat: self.seat.subscribe(),
            manner: Manner { messages: limits::UPSTREAM_BATCH, ahead: 2, max_attempts: None },
            backoff: Backoff::new(limits::UPSTREAM_BACKOFF, limits::UPSTREAM_BACKOFF_CAP),
            in_hand: Default::default(),
        };
        // The link outlives the drain of the dispatcher: what is under way may still be answered.
        hub.tasks().spawn(TaskKind::Essential, "upstream", move |stop| async move {
            tokio::select! {
                () = dispatcher.run(stop) => {}
                () = upstream.run() => {}
            }
        });
        Ok(())
    }

    /// Cuts the link (nothing is sent) or mends it.
    pub(crate) fn pause(&self, paused: bool) {
        let seated = match paused {
            true => None,
            false => self.upstream.clone().map(|upstream| upstream as Arc<dyn Consumer>),
        };
        self.seat.send_replace(seated);
    }

    /// Its present state.
    pub(crate) fn view(&self, hub: &Hub) -> UplinkView {
        let usage = hub.store().usage();
        let queue = usage.queues.iter().find(|queue| queue.name == UPSTREAM);
        let (waiting, waiting_bytes) = queue.map_or((0, 0), |queue| (queue.messages, queue.bytes));
        let Some(upstream) = &self.upstream else {
            return UplinkView {
                kind: "none",
                target: String::new(),
                state: "none",
                since: None,
                reason: None,
                waiting,
                waiting_bytes,
            };
        };
        let (state, since, reason) = match upstream.link() {
            _ if self.seat.borrow().is_none() => ("paused", None, None),
            Link::Idle => ("idle", None, None),
            Link::Up { since } => ("up", Some(since.to_string()), None),
            Link::Down { since, reason } => ("down", Some(since.to_string()), Some(reason)),
        };
        let (kind, target) = (upstream.kind(), upstream.target());
        UplinkView { kind, target, state, since, reason, waiting, waiting_bytes }
    }
}

impl Hub {
    /// As [`Hub::pause_uplink`], also over restarts.
    ///
    /// # Errors
    /// When the store cannot be written; nothing has changed then.
    pub async fn keep_uplink_paused(&self, paused: bool) -> Result<(), weir_store::Error> {
        let body = paused.then(|| "true".to_owned());
        let write = Write { kind: KIND, key: PAUSED.to_owned(), body, expect: Expect::Any };
        match self.store().write(vec![write]).await {
            Ok(_) | Err(WriteError::Mismatch { .. }) => {}
            Err(WriteError::Store(cause)) => return Err(cause),
        }
        self.pause_uplink(paused);
        Ok(())
    }
}

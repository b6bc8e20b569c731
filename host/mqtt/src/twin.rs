//! Requests of a client about its twin, answered one after the other.
//!
//! In order, because a client that patches and then gets wants to see its patch, and of two patches the
//! later one counts. Invariants:
//!
//! 1. Every request that names a request id is answered once, whether or not the client has subscribed
//!    to the answers: the Python SDK asks without subscribing, and waits for ever.
//! 2. A patch is acknowledged and answered after its commit.
//! 3. What waits is bounded: see [`TwinRequests::has_room`].

use crate::error::Error;
use crate::translate::{Undeliverable, put_text};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::time::timeout;
use weir_core::limits;
use weir_core::topic::twin_response_topic;
use weir_hub::{Session, TwinError};
use weir_mqtt_codec::Delivery;

/// Requests that wait before the client is not read any more; what one read brings may come on top.
const WAITING: usize = 16;

/// What a client wants of its twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TwinRequest {
    /// To be echoed; none: not to be answered.
    pub(crate) rid: Option<String>,
    pub(crate) wish: TwinWish,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TwinWish {
    Get,
    /// Change the reported properties by this JSON.
    Report(Bytes),
}

/// What became of a request.
pub(crate) struct TwinAnswer {
    rid: Option<String>,
    /// It was a patch.
    pub(crate) reported: bool,
    /// None: the store does not answer.
    result: Option<Result<Done, TwinError>>,
}

enum Done {
    /// The twin as its client sees it.
    Got(Vec<u8>),
    /// The new version of the reported properties.
    Reported(u64),
}

/// The requests of one client.
pub(crate) struct TwinRequests {
    session: Arc<Session>,
    waiting: VecDeque<TwinRequest>,
    current: Option<BoxFuture<'static, TwinAnswer>>,
}

impl TwinRequests {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session, waiting: VecDeque::new(), current: None }
    }

    /// Requests have come.
    pub(crate) fn put(&mut self, requests: Vec<TwinRequest>) {
        self.waiting.extend(requests);
    }

    /// True while the client may send more.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING
    }

    /// Begins with the next request, unless one is under way.
    pub(crate) fn begin(&mut self) {
        if self.current.is_none()
            && let Some(request) = self.waiting.pop_front()
        {
            self.current = Some(Box::pin(fulfil(Arc::clone(&self.session), request)));
        }
    }

    /// True when an answer is waited for.
    pub(crate) fn is_under_way(&self) -> bool {
        self.current.is_some()
    }

    /// The answer to the request that is under way; pending for ever when there is none. Cancel-safe.
    pub(crate) async fn next(&mut self) -> TwinAnswer {
        let Some(current) = &mut self.current else { return std::future::pending().await };
        let answer = current.await;
        self.current = None;
        answer
    }
}

async fn fulfil(session: Arc<Session>, request: TwinRequest) -> TwinAnswer {
    let TwinRequest { rid, wish } = request;
    let reported = matches!(wish, TwinWish::Report(_));
    let work = async {
        match wish {
            TwinWish::Get => Ok(Done::Got(session.twin().await?.client_view())),
            TwinWish::Report(patch) => Ok(Done::Reported(session.report(&patch).await?)),
        }
    };
    let result = timeout(limits::MAX_WITHHELD_ACK, work).await.ok();
    TwinAnswer { rid, reported, result }
}

impl TwinAnswer {
    /// Writes the answer.
    ///
    /// # Errors
    /// [`Error::Twin`]: nobody knows what became of the request, so the connection is to end.
    pub(crate) fn put(self, out: &mut BytesMut) -> Result<(), Error> {
        let result = self.result.ok_or(Error::Twin)?;
        let Some(rid) = self.rid else { return Ok(()) };
        let (status, version, body) = match result {
            Ok(Done::Got(twin)) => (200, None, twin),
            // IoT Hub's answer has no body; the Node SDK would read one.
            Ok(Done::Reported(version)) => (204, Some(version), Vec::new()),
            Err(error) => (error.status(), None, problem(&error)),
        };
        let topic = twin_response_topic(status, &rid, version);
        let put: Result<(), Undeliverable> = put_text(topic, &body, Delivery::AtMostOnce, out);
        put.expect("a twin is far smaller than a packet, and a request id short");
        Ok(())
    }
}

/// Python looks at the status only, Node only for an `errorCode` in the body.
fn problem(error: &TwinError) -> Vec<u8> {
    let (code, message) = (error.iothub_number(), error.to_string());
    let body = serde_json::json!({ "errorCode": code, "message": message });
    body.to_string().into_bytes()
}

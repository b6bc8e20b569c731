//! HTTP client of the REST API, for the client verbs.
//!
//! One connection for each request: a verb makes a handful, and a hub that is restarted in between is
//! met again without any thought. Invariants: the token goes nowhere but to the address that was
//! looked up, and never into an error; every wait is bounded.

mod body;
mod connect;
mod error;
pub mod paths;
mod stream;
mod target;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub use error::{Detail, Error, Problem};
pub use stream::Told;
pub use target::{FindError, Target, Token, Wanted};

use body::Chunks;
use bytes::Bytes;
use connect::Connector;
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, IF_MATCH};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::timeout;

/// The hub answers most requests at once; a swap compiles and tries a module first.
const ANSWER_LIMIT: Duration = Duration::from_secs(180);
/// A method call waits for its target and for the answer, up to five minutes each.
const CALL_LIMIT: Duration = Duration::from_secs(660);
/// The largest answer that is read: a page of a thousand whole messages fits.
const ANSWER_BYTES: usize = 512 << 20;
/// Items asked for in one page: what every list gives.
const PAGE: usize = 100;

/// A client of one hub.
#[derive(Debug)]
pub struct Client {
    connector: Connector,
    authorization: Option<HeaderValue>,
}

/// An answer that is no error.
#[derive(Debug)]
pub struct Answer {
    /// 2xx.
    pub status: StatusCode,
    /// JSON; null where the answer has no body.
    pub body: Value,
}

impl Client {
    /// A client of the hub at `target`.
    ///
    /// # Errors
    /// When the certificates to trust cannot be read, or the token cannot stand in a header.
    pub fn new(target: &Target) -> Result<Self, Error> {
        let authorization = match &target.token {
            Some(token) => {
                let value = HeaderValue::from_str(&format!("Bearer {}", token.as_str()));
                let mut value = value.map_err(|_| Error::TokenForm)?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(Self { connector: Connector::new(target)?, authorization })
    }

    /// Where the hub is: `http://127.0.0.1:8420`.
    #[must_use]
    pub fn base(&self) -> &str {
        self.connector.base()
    }

    /// # Errors
    /// When there is no answer, or a refusal; so for all requests.
    pub async fn get(&self, path: &str) -> Result<Answer, Error> {
        self.send(Method::GET, path, None, None, &mut |_, _| {}).await
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, Error> {
        self.send(Method::POST, path, Some(json(body)), None, &mut |_, _| {}).await
    }

    /// Puts JSON.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer, Error> {
        self.send(Method::PUT, path, Some(json(body)), None, &mut |_, _| {}).await
    }

    /// Changes some members (RFC 7396).
    ///
    /// # Errors
    /// [`Error`].
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Answer, Error> {
        let body = (Bytes::from(body.to_string()), "application/merge-patch+json");
        self.send(Method::PATCH, path, Some(body), None, &mut |_, _| {}).await
    }

    /// Sends JSON; with `if_match` only if the thing still has that entity tag.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn change(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        if_match: Option<&str>,
    ) -> Result<Answer, Error> {
        self.send(method, path, Some(json(body)), if_match, &mut |_, _| {}).await
    }

    /// # Errors
    /// [`Error`].
    pub async fn delete(&self, path: &str) -> Result<Answer, Error> {
        self.send(Method::DELETE, path, None, None, &mut |_, _| {}).await
    }

    /// Puts bytes, and says how many are on their way, of how many.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn upload(
        &self,
        path: &str,
        bytes: Bytes,
        media_type: &'static str,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Answer, Error> {
        self.send(Method::PUT, path, Some((bytes, media_type)), None, progress).await
    }

    /// All items of a list, page by page, at most `limit`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list(&self, path: &str, limit: Option<usize>) -> Result<Vec<Value>, Error> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let wanted = limit.map_or(PAGE, |limit| PAGE.min(limit - items.len()));
            let page = self.get(&paths::page(path, wanted, cursor.as_deref())).await?.body;
            let Some(Value::Array(found)) = page.get("items") else { return Err(Error::Form) };
            items.extend(found.iter().cloned());
            cursor = page.get("next").and_then(Value::as_str).map(str::to_owned);
            // An empty page with a cursor would go on for ever.
            let done = cursor.is_none() || found.is_empty();
            if done || limit.is_some_and(|limit| items.len() >= limit) {
                return Ok(items);
            }
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(Bytes, &'static str)>,
        if_match: Option<&str>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Answer, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.connector.authority())
            .header(ACCEPT, "application/json, application/problem+json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(tag) = if_match {
            let tag = tag.trim_matches('"');
            request = request.header(IF_MATCH, format!("\"{tag}\""));
        }
        let (bytes, media_type) = body.unzip();
        if let Some(media_type) = media_type {
            request = request.header(CONTENT_TYPE, media_type);
        }
        let (body, sent) = Chunks::new(bytes.unwrap_or_default());
        let request = request.body(body).map_err(|_| Error::Form)?;
        let limit = if path == paths::method_calls() { CALL_LIMIT } else { ANSWER_LIMIT };
        let exchange = timeout(limit, self.exchange(request));
        tokio::pin!(exchange);
        let outcome = loop {
            tokio::select! {
                // First, because a quick answer would hide how far it was.
                biased;
                (done, total) = sent.next() => progress(done, total),
                outcome = &mut exchange => break outcome,
            }
        };
        let (status, bytes) = outcome.map_err(|_| Error::NoAnswer { limit })??;
        self.understand(status, &bytes)
    }

    async fn exchange(&self, request: Request<Chunks>) -> Result<(StatusCode, Bytes), Error> {
        let stream = self.connector.connect().await?;
        let broken = |cause| Error::Broken { cause };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // The connection does the reading and writing; the answer says when it is over, so the
        // branch never ends by itself.
        let drive = async {
            let ended = connection.await;
            tracing::trace!(ended = ended.is_ok(), "the connection has ended");
            std::future::pending::<Infallible>().await
        };
        let answer = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
            Ok((status, body.map_err(|_| Error::CutOff)?.to_bytes()))
        };
        tokio::select! {
            answer = answer => answer,
            never = drive => match never {},
        }
    }

    fn understand(&self, status: StatusCode, bytes: &[u8]) -> Result<Answer, Error> {
        let body = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(bytes) };
        if !status.is_success() {
            let problem = body.ok().and_then(|body| Problem::read(&body, self.base()));
            return Err(match problem {
                Some(problem) => Error::Refused(Box::new(problem)),
                None => Error::Status(status.as_u16()),
            });
        }
        Ok(Answer { status, body: body.map_err(|_| Error::Form)? })
    }
}

fn json(body: &Value) -> (Bytes, &'static str) {
    (Bytes::from(body.to_string()), "application/json")
}

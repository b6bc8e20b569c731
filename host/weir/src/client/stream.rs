//! Answers without an end: Server-Sent Events, read as they come.

use super::{ANSWER_LIMIT, Client, Error};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::time::Duration;
use tokio::time::timeout;

/// The hub gives a sign of life every 15 s.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest line that is read: an event holds no bodies.
const LINE_BYTES: usize = 1 << 20;

/// One event.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    /// Its topic.
    pub event: String,
    /// What it says.
    pub data: Value,
}

impl Client {
    /// Gives each event of the stream at `path` to `each`, until it breaks or the hub ends the stream.
    ///
    /// # Errors
    /// [`Error`]; those of `each` too.
    pub async fn follow<E: From<Error>>(
        &self,
        path: &str,
        mut each: impl FnMut(Told) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let mut request = Request::get(path)
            .header(HOST, self.connector.authority())
            .header(ACCEPT, "text/event-stream, application/problem+json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|_| Error::Form)?;
        let broken = |cause| Error::Broken { cause };
        let stream = self.connector.connect().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let drive = async {
            let ended = connection.await;
            tracing::trace!(ended = ended.is_ok(), "the connection has ended");
            std::future::pending::<Infallible>().await
        };
        let answer = async {
            let response = timeout(ANSWER_LIMIT, sender.send_request(request)).await;
            let response = response.map_err(|_| Error::NoAnswer { limit: ANSWER_LIMIT })?;
            self.read(response.map_err(broken)?, &mut each).await
        };
        tokio::select! {
            answer = answer => answer,
            never = drive => match never {},
        }
    }

    async fn read<E: From<Error>>(
        &self,
        response: Response<Incoming>,
        each: &mut impl FnMut(Told) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let status = response.status();
        if !status.is_success() {
            let refusal = Limited::new(response.into_body(), LINE_BYTES).collect().await;
            self.understand(status, &refusal.map_err(|_| Error::CutOff)?.to_bytes())?;
            return Ok(());
        }
        let mut body = response.into_body();
        let mut lines = Lines::default();
        loop {
            let frame = timeout(SILENCE, body.frame()).await;
            let Some(frame) = frame.map_err(|_| Error::NoAnswer { limit: SILENCE })? else {
                return Ok(());
            };
            let frame = frame.map_err(|_| Error::CutOff)?;
            let Ok(bytes) = frame.into_data() else { continue };
            for told in lines.take(&bytes)? {
                if each(told)?.is_break() {
                    return Ok(());
                }
            }
        }
    }
}

/// Lines that have come, and the event that they make.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
    event: String,
    data: String,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) -> Result<Vec<Told>, Error> {
        self.rest.extend_from_slice(bytes);
        let mut told = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8(line).map_err(|_| Error::Form)?;
            told.extend(self.line(line.trim_end_matches(['\n', '\r']))?);
        }
        if self.rest.len() > LINE_BYTES || self.data.len() > LINE_BYTES {
            return Err(Error::Form);
        }
        Ok(told)
    }

    fn line(&mut self, line: &str) -> Result<Option<Told>, Error> {
        // An empty line ends the event; a line that begins with a colon is a comment.
        if line.is_empty() {
            let (event, data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
            if data.is_empty() {
                return Ok(None);
            }
            let data = serde_json::from_str(&data).map_err(|_| Error::Form)?;
            return Ok(Some(Told { event, data }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => self.data.push_str(value),
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_are_read_however_their_bytes_are_cut() {
        let text =
            ": weir\n\nid: 7-1\nevent: twin\ndata: {\"a\":1}\n\n:\n\nevent:lost\r\ndata:{}\r\n\r\n";
        let expected = [
            Told { event: "twin".into(), data: json!({"a": 1}) },
            Told { event: "lost".into(), data: json!({}) },
        ];
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let told: Vec<Told> =
                text.as_bytes().chunks(size).flat_map(|bytes| lines.take(bytes).unwrap()).collect();
            assert_eq!(told, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused() {
        let mut lines = Lines::default();
        assert!((0..3).any(|_| lines.take(&vec![b'x'; LINE_BYTES / 2]).is_err()));
    }
}

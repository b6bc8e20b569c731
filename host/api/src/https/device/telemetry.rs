//! `POST /devices/{device}/messages/events`: one message, or a batch.

use super::headers;
use super::headers::HeaderError;
use crate::body;
use crate::https::Https;
use crate::https::client::Client;
use crate::https::error::Refusal;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use weir_core::limits;
use weir_core::message::Message;
use weir_core::properties::{PropertiesBuilder, PropertiesError};
use weir_hub::{IntakeError, Publication};

const BATCH: &str = "application/vnd.microsoft.iothub.json";

/// Answers after the commit.
pub(super) async fn send(
    State(https): State<Https>,
    Extension(client): Extension<Client>,
    Path(device): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let visitor = super::visitor(&https, &client, &headers, &device).await?;
    let messages = match is_batch(&headers) {
        true => batch(&body::read(body, limits::HTTP_BATCH_BYTES).await?)?,
        false => {
            let body = body::read(body, limits::MAX_MESSAGE_BYTES).await?;
            vec![Message { body, properties: headers::read(&headers)?, output: None }]
        }
    };
    for message in &messages {
        check_size(message)?;
    }
    let mut left = messages.len();
    let mut intake = visitor.intake();
    let publish = |message| Publication { message, reliable: true };
    intake.submit(messages.into_iter().map(publish).collect()).await;
    while left > 0 {
        left = left.saturating_sub(intake.settled().await?);
    }
    Ok(StatusCode::NO_CONTENT)
}

fn is_batch(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(BATCH))
}

/// One message of a batch.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    #[serde(borrow)]
    body: Cow<'a, str>,
    /// False: the body is a text.
    #[serde(default)]
    base64_encoded: Option<bool>,
    #[serde(borrow, default)]
    properties: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

fn batch(json: &Bytes) -> Result<Vec<Message>, Refusal> {
    let items: Vec<Item<'_>> = serde_json::from_slice(json)
        .map_err(|error| Refusal::invalid(format!("the batch cannot be read: {error}")))?;
    if items.is_empty() || items.len() > limits::HTTP_BATCH_MESSAGES {
        let most = limits::HTTP_BATCH_MESSAGES;
        return Err(Refusal::invalid(format!("a batch has 1 to {most} messages")));
    }
    items.into_iter().map(message).collect()
}

fn message(item: Item<'_>) -> Result<Message, Refusal> {
    let body = match item.base64_encoded {
        Some(false) => item.body.into_owned().into_bytes(),
        _ => STANDARD
            .decode(item.body.as_bytes())
            .map_err(|_| Refusal::invalid("the body of a message in a batch is base64"))?,
    };
    let mut builder = PropertiesBuilder::default();
    for (name, value) in &item.properties {
        if let Some(key) = headers::key(name) {
            builder.push(key, Some(value))?;
        }
    }
    Ok(Message { body: body.into(), properties: builder.build(), output: None })
}

fn check_size(message: &Message) -> Result<(), Refusal> {
    let (bytes, most) = (message.size_bytes(), limits::MAX_MESSAGE_BYTES);
    match bytes > most {
        true => Err(Refusal::too_large(format!("a message has {bytes} bytes; {most} are allowed"))),
        false => Ok(()),
    }
}

impl From<PropertiesError> for Refusal {
    fn from(error: PropertiesError) -> Self {
        match error {
            PropertiesError::TooLarge => Self::too_large(error.to_string()),
            PropertiesError::TooMany | PropertiesError::Damaged => Self::invalid(error.to_string()),
        }
    }
}

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::Properties(error) => error.into(),
            HeaderError::Text(_) => Self::invalid(error.to_string()),
        }
    }
}

impl From<IntakeError> for Refusal {
    fn from(error: IntakeError) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "ServiceUnavailable", error.to_string())
    }
}

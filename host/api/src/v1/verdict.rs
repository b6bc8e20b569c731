//! Why a route took a message or did not, for the OpenAPI document.
//!
//! The values are `weir_core::route::RouteVerdict` and its parts, written as they stand; these types say
//! their form, and a test compares the members.
use serde::Serialize;
use utoipa::ToSchema;

/// What one route did with a message.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RouteVerdict)]
pub(super) struct VerdictForm {
    /// Name of the route.
    name: String,
    /// The route as it was written.
    route: String,
    /// Where it leads.
    sink: String,
    /// `true`, `false` or `undefined`; the message is taken only when it is `true`.
    matched: String,
    /// What decided.
    reason: ReasonForm,
    /// The reason in words.
    text: String,
}

/// What decided; members depend on `kind`.
#[derive(Serialize, ToSchema)]
#[schema(as = Reason)]
pub(super) struct ReasonForm {
    /// `unconditional`, `sourceDiffers` or `condition`.
    kind: String,
    /// The source of an unconditional route.
    source: Option<String>,
    /// The route's source, when it differs.
    expected: Option<String>,
    /// The message's source, when it differs.
    actual: Option<String>,
    /// The part of the condition that decided.
    expression: Option<String>,
    /// Its column in the condition, from 1.
    column: Option<u32>,
    /// Its length in characters.
    length: Option<u32>,
    /// Values that were seen in it.
    seen: Option<Vec<SeenForm>>,
}

/// A value that was seen.
#[derive(Serialize, ToSchema)]
#[schema(as = SeenValue)]
pub(super) struct SeenForm {
    /// What was looked at.
    expression: String,
    /// `value`, `null`, `undefined`, `notSet`, `notInBody`, `structure`, `date`, `bodyContentType`,
    /// `bodyContentEncoding` or `bodyNotJson`.
    state: String,
    /// The value, cut to 64 bytes.
    #[schema(value_type = Option<Object>)]
    value: Option<serde_json::Value>,
    /// The value is longer.
    truncated: Option<bool>,
}

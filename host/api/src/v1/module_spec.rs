//! The form of a module's specification for the OpenAPI document.
//!
//! The truth is `weir_core::module::ModuleSpec`, which is read and checked; these types say its form to
//! readers of the document, and a test compares their members.
use serde::Serialize;
use utoipa::ToSchema;

/// Specification of a Wasm module, the same as in a deployment.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = ModuleSpec, example = json!({
    "type": "wasm",
    "component": "sha256:0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
    "version": "1.2.0", "inputs": ["in"], "outputs": ["out"], "body": "none",
    "fields": ["/temperature"], "settings": {"threshold": 25}
}))]
pub(super) struct ModuleSpecForm {
    /// `wasm`.
    #[serde(rename = "type")]
    kind: String,
    /// `sha256:…` of an uploaded artifact.
    component: String,
    /// The author's version; for people.
    version: Option<String>,
    /// Names of the inputs, in the order of the indexes that the guest sees.
    inputs: Option<Vec<String>>,
    /// Names of the outputs, in the order of the indexes that the guest uses.
    outputs: Option<Vec<String>>,
    /// How the guest gets bodies: `bytes`, `text` or `none`.
    body: Option<String>,
    /// JSON pointers that the hub reads out of the body at native speed.
    fields: Option<Vec<String>>,
    /// Application properties that the guest gets; `*` for all.
    properties: Option<Vec<String>>,
    /// System properties that the guest gets.
    system: Option<Vec<String>>,
    /// System properties that the guest may set on what it emits.
    set_system: Option<Vec<String>>,
    /// How messages are put together into a call.
    batch: Option<BatchForm>,
    /// What a call may use; the host's ceilings hold over it.
    limits: Option<LimitForm>,
    /// What the guest may ask of the hub.
    grants: Option<GrantForm>,
    /// What happens when something goes wrong.
    errors: Option<ErrorForm>,
    /// The guest's own configuration.
    #[schema(value_type = Option<Object>)]
    settings: Option<serde_json::Value>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = ModuleBatch)]
pub(super) struct BatchForm {
    /// Most messages: 1 to 64.
    messages: Option<u16>,
    /// Most bytes: a number, or a text such as `64Ki`.
    #[schema(value_type = Option<String>)]
    bytes: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = ModuleLimits)]
pub(super) struct LimitForm {
    /// Linear memory: a number of bytes, or a text such as `64Mi`.
    memory: Option<String>,
    /// Time of one call in milliseconds.
    cpu_ms_per_call: Option<u32>,
    /// Calls into the hub during one call.
    host_calls: Option<u32>,
    /// Messages out of one call.
    sends_per_call: Option<u32>,
    /// Bytes out of one call.
    bytes_per_call: Option<String>,
    /// Bodies above this stay in the hub and are read piece by piece.
    body_inline: Option<String>,
    /// Key-value state.
    state: Option<String>,
    /// Messages that the module may hold.
    held: Option<u32>,
    /// Log lines in a second.
    log_lines: Option<u32>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = ModuleGrants)]
pub(super) struct GrantForm {
    /// Reported properties of its own twin.
    report: Option<bool>,
    /// Key-value state.
    state: Option<bool>,
    /// Durable timers; not supported yet.
    timers: Option<u32>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = ModuleErrors)]
pub(super) struct ErrorForm {
    /// For outcomes `retry`.
    retry: Option<RetryForm>,
    /// For outcomes `reject`: `dead-letter` or `drop`.
    reject: Option<String>,
    /// For a message that makes the module trap when it is alone: `dead-letter` or `drop`.
    trap: Option<String>,
    /// Faults in a minute after which the module is given no more messages for a while.
    open_after: Option<u32>,
    /// What becomes of messages meanwhile: `queue` or `bypass`.
    when_open: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = ModuleRetry)]
pub(super) struct RetryForm {
    /// Deliveries before the message is a dead letter.
    max_attempts: Option<u32>,
    /// First wait; it doubles.
    backoff_ms: Option<u32>,
    /// Longest wait.
    backoff_max_ms: Option<u32>,
    /// What waits behind it: `sender` (later messages of the same sender) or `none`.
    order: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use utoipa::PartialSchema;
    use weir_core::module::{BatchSpec, ErrorSpec, GrantSpec, LimitSpec, RetrySpec};

    fn members<T: PartialSchema>() -> BTreeSet<String> {
        let schema = serde_json::to_value(T::schema()).unwrap();
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    }

    fn keys(value: impl Serialize) -> BTreeSet<String> {
        let value = serde_json::to_value(value).unwrap();
        value.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn the_documented_form_is_the_one_that_is_read() {
        assert_eq!(members::<BatchForm>(), keys(BatchSpec::default()));
        assert_eq!(members::<LimitForm>(), keys(LimitSpec::default()));
        assert_eq!(members::<ErrorForm>(), keys(ErrorSpec::default()));
        assert_eq!(members::<RetryForm>(), keys(RetrySpec::default()));
        assert_eq!(members::<GrantForm>(), keys(GrantSpec::default()));
        let example = serde_json::to_value(ModuleSpecForm::schema()).unwrap()["example"].clone();
        let spec: weir_core::module::ModuleSpec = serde_json::from_value(example).unwrap();
        assert!(members::<ModuleSpecForm>().is_superset(&keys(spec)));
    }
}

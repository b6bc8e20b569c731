//! `sign`: HMAC-SHA256 with the module's own key. It is how SDKs make their tokens.

use super::error::Refusal;
use super::{Workload, read};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde::{Deserialize, Serialize};
use weir_core::identity::Authentication;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ask {
    key_id: String,
    algo: String,
    data: String,
}

#[derive(Serialize)]
pub(super) struct Signed {
    digest: String,
}

pub(super) async fn sign(
    State(workload): State<Workload>,
    Path((module, generation)): Path<(String, String)>,
    body: Body,
) -> Result<Json<Signed>, Refusal> {
    let record = workload.generation(&module, &generation)?;
    let ask: Ask = read(body).await?;
    let Authentication::Sas { primary, secondary } = &record.authentication else {
        return Err(Refusal::not_found(format!("module {module} has no keys")));
    };
    let key = match ask.key_id.as_str() {
        "primary" => primary,
        "secondary" => secondary,
        _ => return Err(Refusal::invalid("keyId is primary or secondary")),
    };
    if !ask.algo.eq_ignore_ascii_case("HMACSHA256") {
        return Err(Refusal::invalid("algo is HMACSHA256"));
    }
    let data = STANDARD.decode(&ask.data).map_err(|_| Refusal::invalid("data is not base64"))?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    Ok(Json(Signed { digest: STANDARD.encode(hmac::sign(&key, &data)) }))
}

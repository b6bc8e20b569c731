//! Certificates for modules: what to trust, a server's own, and a client's own.

use super::error::Refusal;
use super::{Workload, read};
use crate::body;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use weir_core::clock::Timestamp;
use weir_core::id::Identity;
use weir_core::limits;

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// A server that clients know by these names, DNS or IP; the first is the common name.
    Server {
        /// At least one.
        names: Vec<String>,
    },
    /// A client.
    Client {
        /// The common name.
        name: String,
        /// The alternative name.
        uri: String,
    },
}

/// A certificate with its key.
pub struct Issued {
    /// PEM, those that signed it behind it.
    pub certificate: String,
    /// PEM.
    pub key: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum NotIssued {
    /// A name cannot stand in a certificate.
    #[error("{0:?} cannot stand in a certificate")]
    Name(String),
    /// The authority failed.
    #[error("no certificate could be made: {0}")]
    Failed(String),
}

/// Signs certificates.
type Issue = Arc<dyn Fn(&Purpose) -> Result<Issued, NotIssued> + Send + Sync>;

/// The edge CA, as the composition root lends it.
#[derive(Clone)]
pub struct Authority {
    /// What clients trust, in PEM.
    pub trust_bundle: Arc<dyn Fn() -> String + Send + Sync>,
    /// Makes and signs a certificate.
    pub issue: Issue,
}

#[derive(Serialize)]
pub(super) struct Bundle {
    certificate: String,
}

pub(super) async fn trust_bundle(State(workload): State<Workload>) -> Json<Bundle> {
    Json(Bundle { certificate: (workload.0.options.authority.trust_bundle)() })
}

/// The hub knows no signed manifests.
pub(super) async fn no_manifest_trust_bundle() -> Refusal {
    Refusal::not_found("there is no manifest trust bundle")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServerAsk {
    common_name: String,
}

pub(super) async fn server(
    State(workload): State<Workload>,
    Path((module, generation)): Path<(String, String)>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    workload.generation(&module, &generation)?;
    let ask: ServerAsk = read(body).await?;
    if ask.common_name.is_empty() {
        return Err(Refusal::invalid("commonName is empty"));
    }
    let mut names = vec![ask.common_name];
    // As in IoT Edge: containers reach the module by its name. One that is no host name is left out.
    let own = module.trim_start_matches('$');
    let is_host_name = own.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c));
    if !own.is_empty() && is_host_name && !names[0].eq_ignore_ascii_case(own) {
        names.push(own.to_owned());
    }
    issue(&workload, &Purpose::Server { names })
}

pub(super) async fn identity(
    State(workload): State<Workload>,
    Path(module): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let record = workload.module(&module)?;
    // A wished end may stand in it; the hub's own holds.
    let body = body::read(body, limits::WORKLOAD_BODY_BYTES).await;
    body.map_err(|problem| Refusal::invalid(problem.body().detail.clone()))?;
    let Identity { device, .. } = &record.identity;
    let hub = &workload.hub().config().iothub_hostname;
    let uri = format!("azureiot://{hub}/devices/{device}/modules/{module}");
    issue(&workload, &Purpose::Client { name: format!("{device}/{module}"), uri })
}

fn issue(workload: &Workload, purpose: &Purpose) -> Result<(StatusCode, Json<Value>), Refusal> {
    match (workload.0.options.authority.issue)(purpose) {
        Ok(issued) => {
            let answer = json!({
                "privateKey": { "type": "key", "bytes": issued.key },
                "certificate": issued.certificate,
                "expiration": issued.expires.to_string(),
            });
            Ok((StatusCode::CREATED, Json(answer)))
        }
        Err(refused @ NotIssued::Name(_)) => Err(Refusal::invalid(refused.to_string())),
        Err(failed @ NotIssued::Failed(_)) => Err(Refusal::fault(&failed)),
    }
}

//! Who asks: every request proves it anew, by its token or by the certificate of its connection.

use super::Https;
use super::client::Client;
use super::error::Refusal;
use axum::http::{HeaderMap, header};
use tracing::warn;
use weir_core::id::Identity;
use weir_hub::Visitor;
use weir_hub::authenticate::Credentials;

impl Https {
    /// Lets a request in that claims to come from `identity`.
    ///
    /// # Errors
    /// 401 when that is not proven, 503 while the hub takes nobody.
    pub(crate) async fn visitor(
        &self,
        client: &Client,
        headers: &HeaderMap,
        identity: &Identity,
    ) -> Result<Visitor, Refusal> {
        let token = headers.get(header::AUTHORIZATION).map(|token| token.to_str().unwrap_or("?"));
        let credentials = Credentials::of(token, &client.peer().certificates);
        match self.hub().authenticate(identity, credentials) {
            Ok(proven) => {
                client.proven(&self.0.proven);
                Ok(self.hub().visit(proven)?)
            }
            Err(refusal) => {
                let peer = client.peer().address;
                warn!(client = %identity, %peer, reason = %refusal, "request refused");
                client.refused().await;
                Err(Refusal::unauthorized())
            }
        }
    }
}

//! The SASL layer: how a client says who it is before AMQP begins, if it wants to.
//!
//! `ANONYMOUS` and `MSSBCBS` mean: by tokens on `$cbs`. `PLAIN` brings a token of one identity. `EXTERNAL` is
//! the certificate of the TLS handshake, offered to those who have shown one; links are checked
//! against it.

use crate::address::sasl_identity;
use crate::tokens::Tokens;
use fe2o3_amqp::acceptor::sasl_acceptor::{SaslAcceptor, SaslServerFrame};
use fe2o3_amqp_types::primitives::{Array, Symbol};
use fe2o3_amqp_types::sasl::{SaslCode, SaslInit, SaslOutcome, SaslResponse};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::warn;
use weir_hub::Hub;
use weir_hub::door::Peer;

/// The layer of one connection.
#[derive(Clone)]
pub(crate) struct Sasl {
    pub(crate) hub: Hub,
    pub(crate) peer: Peer,
    pub(crate) tokens: Arc<Tokens>,
    /// A token was given and proven.
    pub(crate) proven: Arc<AtomicBool>,
}

impl SaslAcceptor for Sasl {
    fn mechanisms(&self) -> Array<Symbol> {
        // Clients take the first that they can: who has shown a certificate means it.
        let external = (!self.peer.certificates.is_empty()).then_some("EXTERNAL");
        let all = external.into_iter().chain(["ANONYMOUS", "MSSBCBS", "PLAIN"]);
        Array::from(all.map(Symbol::from).collect::<Vec<_>>())
    }

    fn on_init(&mut self, init: SaslInit) -> SaslServerFrame {
        let ok = match init.mechanism.as_str() {
            "ANONYMOUS" | "MSSBCBS" => true,
            "EXTERNAL" => !self.peer.certificates.is_empty(),
            "PLAIN" => {
                let response = init.initial_response.as_ref().map(|response| response.as_ref());
                self.plain(response.unwrap_or_default())
            }
            _ => false,
        };
        outcome(if ok { SaslCode::Ok } else { SaslCode::Auth })
    }

    fn on_response(&mut self, _: SaslResponse) -> SaslServerFrame {
        // No mechanism here has a second step.
        outcome(SaslCode::Sys)
    }
}

impl Sasl {
    /// `authzid NUL authcid NUL password` (RFC 4616).
    fn plain(&self, response: &[u8]) -> bool {
        let judged = plain_parts(response).ok_or_else(|| "it cannot be read".to_owned()).and_then(
            |(user, token)| {
                let claimed = sasl_identity(user).ok_or("the user name cannot be read")?;
                let whose = self.tokens.put(&self.hub, token).map_err(|cause| {
                    std::error::Error::source(&cause)
                        .map_or_else(|| cause.to_string(), ToString::to_string)
                })?;
                // A device's token opens its modules, too.
                match whose {
                    Some(identity)
                        if identity == claimed
                            || identity.module.is_none() && identity.device == claimed.device =>
                    {
                        Ok(())
                    }
                    _ => Err("the token is another's".to_owned()),
                }
            },
        );
        match judged {
            Ok(()) => {
                self.proven.store(true, Ordering::SeqCst);
                true
            }
            Err(reason) => {
                warn!(peer = %self.peer.address, reason, "SASL PLAIN was refused");
                false
            }
        }
    }
}

fn plain_parts(response: &[u8]) -> Option<(&str, &str)> {
    let mut parts = std::str::from_utf8(response).ok()?.split('\0');
    let (_, user, token) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some((user, token))
}

fn outcome(code: SaslCode) -> SaslServerFrame {
    SaslServerFrame::Outcome(SaslOutcome { code, additional_data: None })
}

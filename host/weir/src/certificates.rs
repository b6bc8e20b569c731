//! Keeps the hub's certificates: renewed in time, those of the operator taken in when their files change,
//! and their ends made known.
//!
//! A task of its own looks every minute: renewal is a state, not a timer, so a jump of the clock is
//! noticed within this time. Sessions are not touched; the next handshake sees the new certificate.

use crate::pki::{Pki, PkiError};
use crate::tls::TlsServer;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};
use weir_core::clock::Timestamp;
use weir_core::limits;
use weir_hub::tasks::TaskKind;
use weir_hub::{CertificateEnd, Hub};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(60);

/// Keeps the certificates until the hub drains.
pub fn keep(hub: &Hub, pki: Arc<Pki>, tls: Arc<TlsServer>) {
    let mut keeper = Keeper { hub: hub.clone(), pki, tls, failed: None, warned: BTreeMap::new() };
    keeper.look();
    hub.tasks().spawn(TaskKind::PerClient, "certificates", move |stop| async move {
        loop {
            tokio::select! {
                () = stop.draining() => return,
                () = tokio::time::sleep(LOOK) => keeper.look(),
            }
        }
    });
}

struct Keeper {
    hub: Hub,
    pki: Arc<Pki>,
    tls: Arc<TlsServer>,
    /// What the last failure said: the same one is not said every minute.
    failed: Option<String>,
    /// Of each certificate the last end and the number of days that were warned of.
    warned: BTreeMap<&'static str, (Timestamp, u64)>,
}

impl Keeper {
    fn look(&mut self) {
        let renewed = self.renew();
        let failed = renewed.as_ref().err().map(|cause| format!("{cause:#}"));
        if let Some(cause) = &failed
            && failed != self.failed
        {
            warn!(error = cause, "the certificates could not be renewed");
        }
        self.failed = failed;
        let server = self.tls.expires();
        let ends = [("server", server), ("edge_ca", self.pki.ca_expires())];
        let ends = ends.map(|(name, expires)| CertificateEnd { name, expires });
        for end in ends {
            self.warn(end);
        }
        self.hub.certificates().set(ends.to_vec());
    }

    fn renew(&self) -> anyhow::Result<()> {
        // A brought CA that has become unusable must not stop the renewal under the present one.
        let reloaded: Result<bool, PkiError> = self.pki.reload();
        if let Ok(true) = reloaded {
            info!("the edge CA is another one, from the files of the configuration");
        }
        let certificate = self.pki.server_certificate()?;
        if self.tls.reload(certificate)? {
            info!(until = %self.tls.expires(), "the server certificate was exchanged");
        }
        reloaded?;
        Ok(())
    }

    /// Says once for each of the numbers of days that an end is near.
    fn warn(&mut self, end: CertificateEnd) {
        let left = end.expires.since(self.hub.clock().now());
        let days = limits::CERTIFICATE_WARNING_DAYS;
        let reached =
            days.into_iter().rev().find(|days| left <= Duration::from_secs(days * 86_400));
        let Some(reached) = reached else { return };
        if self.warned.insert(end.name, (end.expires, reached)) != Some((end.expires, reached)) {
            let CertificateEnd { name, expires } = end;
            warn!(certificate = name, %expires, days = reached, "a certificate ends soon");
        }
    }
}

//! Bearer tokens of the control plane.
//!
//! A token is `weir_<id>_<secret>` with 256 random bits; the store has only the SHA-256 of the secret.
//! All records are in memory, because every request asks for one. Invariants:
//!
//! 1. The text of a token is returned once, by the call that makes it, and kept nowhere.
//! 2. Nobody can make a token that allows more than his own.

use crate::Hub;
use crate::scope::Scope;
use crate::sync::lock;
use crate::tasks::TaskKind;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;
use subtle::ConstantTimeEq;
use weir_core::clock::Timestamp;
use weir_core::error_code::ErrorCode;
use weir_core::limits;
use weir_store::{Expect, Write, WriteError};
use zeroize::Zeroizing;

const KIND: &str = "token";
const USE: &str = "token-use";
const PREFIX: &str = "weir_";
/// Name of the token that the hub makes for itself.
const FIRST: &str = "first-admin";
/// The last use goes to disk no more often than this: a write for each request would wear flash.
const USE_WRITTEN_EVERY: Duration = Duration::from_secs(600);

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Names it; not secret.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created: Timestamp,
    /// From then on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// SHA-256 of the secret.
    hash: [u8; 32],
}

/// A token as the API shows it.
#[derive(Debug, Clone)]
pub struct TokenView {
    /// What is known of it.
    pub record: TokenRecord,
    /// When it was used last; exact to ten minutes after a restart.
    pub last_used: Option<Timestamp>,
    /// For `If-Match`.
    pub revision: u64,
}

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Id of the token.
    pub token: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
}

impl Caller {
    /// True when the caller may do what needs `scope`.
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|own| own.covers(scope))
    }
}

/// What is asked of a new token.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// For people; 1 to 128 characters.
    pub name: String,
    /// What it allows; at least one.
    pub scopes: Vec<Scope>,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

/// Why a token could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The name is empty or too long.
    #[error("a token's name has 1 to 128 characters, none of them a control character")]
    Name,
    /// No scope, or too many.
    #[error("a token has 1 to 64 scopes")]
    Scopes,
    /// It would have ended already.
    #[error("the token would have expired already")]
    Past,
    /// More than the caller has.
    #[error("your token does not allow {0}, so it cannot give it to another")]
    Beyond(Scope),
    /// Too many tokens.
    #[error("a hub has at most {} tokens", limits::TOKENS)]
    TooMany,
    /// There is none of this id.
    #[error("there is no token {0}")]
    Unknown(String),
    /// It was changed in the meantime.
    #[error("the token was changed in the meantime")]
    Mismatch(Option<u64>),
    /// No randomness to make a secret from.
    #[error("the system gives no random bytes")]
    Random,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] weir_store::Error),
}

impl TokenError {
    /// Its stable name.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Name | Self::Scopes | Self::Past => ErrorCode::InvalidRequest,
            Self::Beyond(_) => ErrorCode::Forbidden,
            Self::TooMany => ErrorCode::Conflict,
            Self::Unknown(_) => ErrorCode::NotFound,
            Self::Mismatch(_) => ErrorCode::VersionMismatch,
            Self::Random => ErrorCode::Internal,
            Self::Store(_) => ErrorCode::StoreUnavailable,
        }
    }
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Not a token of this hub.
    #[error("the token is not one of this hub")]
    Unknown,
    /// It has ended.
    #[error("the token has expired")]
    Expired,
}

#[derive(Debug, Clone)]
struct Known {
    record: TokenRecord,
    revision: u64,
    used: Option<Timestamp>,
    /// The use that is on disk, or on its way there.
    written: Option<Timestamp>,
}

impl Known {
    fn view(&self) -> TokenView {
        let (record, last_used) = (self.record.clone(), self.used);
        TokenView { record, last_used, revision: self.revision }
    }
}

/// The tokens of the hub.
#[derive(Debug, Default)]
pub struct Tokens {
    known: Mutex<BTreeMap<String, Known>>,
    changing: tokio::sync::Mutex<()>,
}

impl Tokens {
    pub(crate) async fn load(&self, hub: &Hub) -> Result<(), weir_store::Error> {
        let uses = hub.store().documents(USE, "", None, limits::TOKENS).await?;
        let uses: BTreeMap<String, Timestamp> = uses
            .into_iter()
            .filter_map(|found| Some((found.key, serde_json::from_str(&found.body).ok()?)))
            .collect();
        for document in hub.store().documents(KIND, "", None, limits::TOKENS).await? {
            let Ok(record) = serde_json::from_str::<TokenRecord>(&document.body) else {
                tracing::error!(key = document.key, "a stored token cannot be read");
                continue;
            };
            let used = uses.get(&record.id).copied();
            let known = Known { record, revision: document.revision, used, written: used };
            lock(&self.known).insert(document.key, known);
        }
        Ok(())
    }

    /// Who shows this token, and notes that it was used.
    ///
    /// # Errors
    /// [`TokenRefusal`]; the answer takes as long for a wrong secret as for a right one.
    pub fn verify(&self, hub: &Hub, text: &str) -> Result<Caller, TokenRefusal> {
        let (id, secret) = split(text).ok_or(TokenRefusal::Unknown)?;
        let now = hub.clock().now();
        let hash = hash_of(secret);
        let mut known = lock(&self.known);
        let found = known.get_mut(id).ok_or(TokenRefusal::Unknown)?;
        if !bool::from(found.record.hash.ct_eq(&hash)) {
            return Err(TokenRefusal::Unknown);
        }
        if found.record.expires.is_some_and(|expires| now >= expires) {
            return Err(TokenRefusal::Expired);
        }
        found.used = Some(now);
        if found.written.is_none_or(|written| now.since(written) >= USE_WRITTEN_EVERY) {
            found.written = Some(now);
            note_use(hub, id.to_owned(), now);
        }
        Ok(Caller { token: found.record.id.clone(), scopes: found.record.scopes.clone() })
    }

    /// Makes a token; gives its text, which is not kept. `by` is who asks.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn create(
        &self,
        hub: &Hub,
        new: NewToken,
        by: &Caller,
    ) -> Result<(TokenView, Zeroizing<String>), TokenError> {
        if let Some(beyond) = new.scopes.iter().find(|scope| !by.may(**scope)) {
            return Err(TokenError::Beyond(*beyond));
        }
        self.make(hub, new).await
    }

    async fn make(
        &self,
        hub: &Hub,
        new: NewToken,
    ) -> Result<(TokenView, Zeroizing<String>), TokenError> {
        let now = hub.clock().now();
        check(&new, now)?;
        let _one = self.changing.lock().await;
        if lock(&self.known).len() >= limits::TOKENS {
            return Err(TokenError::TooMany);
        }
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(*random::<32>()?));
        let id: String = random::<8>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let NewToken { name, mut scopes, expires } = new;
        scopes.sort_unstable();
        scopes.dedup();
        let hash = hash_of(&secret);
        let record = TokenRecord { id: id.clone(), name, scopes, created: now, expires, hash };
        let body = Some(serde_json::to_string(&record).expect("a token has only text keys"));
        let write = Write { kind: KIND, key: id.clone(), body, expect: Expect::Absent };
        let revision = hub.store().write(vec![write]).await.map_err(mismatch)?[0];
        let text = Zeroizing::new(format!("{PREFIX}{id}_{}", *secret));
        let known = Known { record, revision, used: None, written: None };
        let view = known.view();
        lock(&self.known).insert(id, known);
        Ok((view, text))
    }

    /// The token that lets the operator in for the first time, as text; none when there is one
    /// already and its text is not `lost`. Whoever can ask has the hub's own files, so nothing else is
    /// asked.
    ///
    /// # Errors
    /// When the token cannot be made.
    pub async fn ensure_admin(
        &self,
        hub: &Hub,
        lost: bool,
    ) -> Result<Option<Zeroizing<String>>, TokenError> {
        let first: Vec<String> = lock(&self.known)
            .values()
            .filter(|known| known.record.name == FIRST)
            .map(|known| known.record.id.clone())
            .collect();
        if !first.is_empty() && !lost {
            return Ok(None);
        }
        // Nobody can use a token whose text is lost.
        for id in first {
            self.delete(hub, &id, Expect::Any).await?;
        }
        let new = NewToken { name: FIRST.to_owned(), scopes: vec![Scope::ALL], expires: None };
        Ok(Some(self.make(hub, new).await?.1))
    }

    /// Removes a token; it is refused from now on.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn delete(&self, hub: &Hub, id: &str, expect: Expect) -> Result<(), TokenError> {
        let _one = self.changing.lock().await;
        if !lock(&self.known).contains_key(id) {
            return Err(TokenError::Unknown(id.to_owned()));
        }
        let writes = vec![
            Write { kind: KIND, key: id.to_owned(), body: None, expect },
            Write { kind: USE, key: id.to_owned(), body: None, expect: Expect::Any },
        ];
        hub.store().write(writes).await.map_err(mismatch)?;
        lock(&self.known).remove(id);
        Ok(())
    }

    /// One token.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<TokenView> {
        lock(&self.known).get(id).map(Known::view)
    }

    /// Tokens after `after`, in order of ids.
    #[must_use]
    pub fn list(&self, after: Option<&str>, limit: usize) -> Vec<TokenView> {
        lock(&self.known)
            .iter()
            .filter(|(id, _)| after.is_none_or(|after| id.as_str() > after))
            .take(limit)
            .map(|(_, known)| known.view())
            .collect()
    }
}

fn split(text: &str) -> Option<(&str, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    (!id.is_empty() && id.len() <= 64 && secret.len() <= 128).then_some((id, secret))
}

fn hash_of(secret: &str) -> [u8; 32] {
    *crate::digest_of(secret.as_bytes()).as_bytes()
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, TokenError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(|_| TokenError::Random)?;
    Ok(bytes)
}

fn check(new: &NewToken, now: Timestamp) -> Result<(), TokenError> {
    let characters = new.name.chars().count();
    if characters == 0 || characters > 128 || new.name.chars().any(char::is_control) {
        return Err(TokenError::Name);
    }
    if new.scopes.is_empty() || new.scopes.len() > 64 {
        return Err(TokenError::Scopes);
    }
    match new.expires.is_some_and(|expires| expires <= now) {
        true => Err(TokenError::Past),
        false => Ok(()),
    }
}

fn mismatch(error: WriteError) -> TokenError {
    match error {
        WriteError::Mismatch { present, .. } => TokenError::Mismatch(present),
        WriteError::Store(cause) => cause.into(),
    }
}

/// Nobody waits for it, and nothing is lost when it fails.
fn note_use(hub: &Hub, id: String, at: Timestamp) {
    let store = hub.store().clone();
    hub.tasks().spawn(TaskKind::PerClient, "token-use", move |_| async move {
        let body = serde_json::to_string(&at).ok();
        let used = Write { kind: USE, key: id.clone(), body, expect: Expect::Any };
        if let Err(error) = store.write(vec![used]).await {
            tracing::debug!(%error, "the use of a token could not be written");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_may_hold_the_separator_and_an_id_may_not() {
        assert_eq!(split("weir_ab12_x_y-z"), Some(("ab12", "x_y-z")));
        for text in ["", "weir_", "weir_ab", "weir__x", "Weir_a_b", "Bearer weir_a_b"] {
            assert_eq!(split(text), None, "{text}");
        }
    }

    #[test]
    fn a_new_token_needs_a_name_a_scope_and_a_future() {
        let new = |name: &str, scopes: &[&str], expires: Option<i64>| NewToken {
            name: name.to_owned(),
            scopes: scopes.iter().map(|scope| scope.parse().unwrap()).collect(),
            expires: expires.map(Timestamp::from_secs),
        };
        let now = Timestamp::from_secs(100);
        assert!(check(&new("ci", &["*:read"], None), now).is_ok());
        assert!(matches!(check(&new("", &["*:read"], None), now), Err(TokenError::Name)));
        assert!(matches!(check(&new("a\nb", &["*:read"], None), now), Err(TokenError::Name)));
        assert!(matches!(check(&new("ci", &[], None), now), Err(TokenError::Scopes)));
        assert!(matches!(check(&new("ci", &["*:read"], Some(100)), now), Err(TokenError::Past)));
    }
}

//! Stable names of the errors a user can see: the same in the API, the log, the audit and the
//! documentation. Append only.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $title:literal, $status:literal, $retry:literal;)*) => {
        /// What went wrong, by its stable name. Each has a page `docs/errors/<name>.md`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl ErrorCode {
            /// Every code, in order of introduction.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// A short title for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// HTTP status of the native API.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// True when the same request may succeed later without being changed.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$variant => $retry,)* }
            }
        }
    };
}

codes! {
    /// The request is not of the documented form.
    InvalidRequest = "invalid-request", "Request cannot be read", 400, false;
    /// A name is outside its alphabet or length.
    InvalidName = "invalid-name", "Name is not allowed", 422, false;
    /// JSON with a key twice.
    DuplicateKey = "duplicate-key", "JSON names a key twice", 400, false;
    /// The body is larger than allowed.
    TooLarge = "too-large", "Request is too large", 413, false;
    /// No or a wrong token.
    Unauthorized = "unauthorized", "A valid token is needed", 401, false;
    /// The token does not cover the operation.
    Forbidden = "forbidden", "The token does not allow this", 403, false;
    /// Nothing of that name.
    NotFound = "not-found", "There is no such thing", 404, false;
    /// The method does not exist for the path.
    MethodNotAllowed = "method-not-allowed", "The path has no such method", 405, false;
    /// Something of that name exists already.
    AlreadyExists = "already-exists", "It exists already", 409, false;
    /// The present state does not allow the change.
    Conflict = "conflict", "The present state does not allow this", 409, false;
    /// `If-Match` names another version.
    VersionMismatch = "version-mismatch", "It was changed in the meantime", 412, false;
    /// `If-Match` is needed.
    VersionRequired = "version-required", "If-Match is needed", 428, false;
    /// The same idempotency key came with another request.
    IdempotencyMismatch = "idempotency-mismatch", "The Idempotency-Key was used for another request", 422, false;
    /// The body's media type is not the one the operation takes.
    UnsupportedMediaType = "unsupported-media-type", "The media type is not supported", 415, false;
    /// A route or condition cannot be read or compiled.
    RouteSyntax = "route-syntax", "Route cannot be read", 422, false;
    /// A route names a module, input or output that does not exist.
    RouteTarget = "route-target", "Route leads nowhere", 422, false;
    /// A module's specification is refused.
    ModuleSpec = "module-spec", "Module specification is refused", 422, false;
    /// A component is refused: no component, unknown import, unsupported export.
    ComponentRefused = "component-refused", "Component is refused", 422, false;
    /// A component asks for more than the host's ceilings grant.
    PolicyDenied = "policy-denied", "Policy does not allow this", 403, false;
    /// The new version failed to start; the old one goes on.
    SwapFailed = "swap-failed", "The new version did not start", 409, false;
    /// The module is not running.
    ModuleNotRunning = "module-not-running", "Module is not running", 409, true;
    /// The digest of the uploaded bytes is not the one in the path.
    DigestMismatch = "digest-mismatch", "The bytes have another digest", 422, false;
    /// The queue is full and its policy is to refuse.
    QueueFull = "queue-full", "Queue is full", 507, true;
    /// The disk is full, read-only or failing.
    StoreUnavailable = "store-unavailable", "The store cannot be written", 507, true;
    /// The message is gone and its explanation with it.
    MessageNotKept = "message-not-kept", "The message is no longer kept", 404, false;
    /// The hub is starting or stopping.
    NotReady = "not-ready", "The hub is not ready", 503, true;
    /// Too many requests.
    TooManyRequests = "too-many-requests", "Too many requests", 429, true;
    /// The target of a method call is not connected or takes none.
    NotConnected = "not-connected", "The client is not connected", 404, true;
    /// The target of a method call did not answer in time.
    MethodTimeout = "method-timeout", "There was no answer in time", 504, true;
    /// The target of a method call failed in it, or its answer cannot be read.
    MethodFailed = "method-failed", "The client's answer cannot be passed on", 502, false;
    /// A command is settled by a lock that is not in force.
    LockLost = "lock-lost", "The command is no longer locked", 412, false;
    /// A command's expiry is outside of its range.
    CommandExpiry = "command-expiry", "The command cannot be kept for this time", 422, false;
    /// Properties of a twin break a rule.
    TwinRefused = "twin-refused", "Twin properties are refused", 422, false;
    /// A fault of the hub itself.
    Internal = "internal", "The hub failed", 500, true;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serde_name_is_the_stable_name() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_string(code).unwrap(), format!("\"{code}\""));
        }
    }
}

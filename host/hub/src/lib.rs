//! What the hub does: the only owner of behaviour.
//!
//! Heads and the API hold a [`Hub`], a cheap handle. The path of one message: [`Session::intake`]
//! stamps, routes and appends; after the commit the head acknowledges; `dispatch` or a module's runner
//! reads the queue, delivers, and settles with one more commit. Invariants:
//!
//! 1. Nothing is acknowledged before its commit; a message that no route takes is the only exception.
//! 2. The sender of a message is the identity that the connection has proven.
//! 3. Routes, versions and identities in force are those that the store has committed.
#![forbid(unsafe_code)]

mod artifacts;
pub mod authenticate;
pub mod authorize;
mod certificates;
mod clients;
mod commands;
mod configuration;
mod dispatch;
pub mod door;
mod endpoints;
mod events;
mod explain;
mod gauges;
mod hub;
mod idempotency;
mod identities;
mod intake;
mod lookout;
mod methods;
mod metrics;
mod module;
mod module_logs;
mod operations;
pub mod parcels;
mod presence;
mod replay;
mod router;
mod routes;
mod scope;
mod service_policies;
mod session;
mod stored_configurations;
mod subscriptions;
mod sync;
pub mod tasks;
mod tokens;
mod twins;
mod uplink;
mod visitor;

pub use artifacts::{Artifact, ArtifactError, Artifacts, digest_of};
pub use certificates::{CertificateEnd, Certificates};
pub use clients::{ClientView, Leave};
pub use commands::{
    CommandError, CommandQueues, Commands, FEEDBACK as FEEDBACK_QUEUE, Sent as SentCommand,
    Settler as CommandSettler,
};
pub use configuration::{ConfigurationError, Fault as ManifestFault, Manifest};
pub use endpoints::UPSTREAM as UPSTREAM_QUEUE;
pub use events::{Event, EventId, EventIdError, Followed, Follower, Topic, TopicError};
pub use explain::{Explanation, Fate, FateView, MessageName, PlaceView};
pub use hub::{Config, ConnectError, Hub, Parts, QueueDefaults, StartError};
pub use idempotency::{Doing, Idempotency, KeptAnswer, Repeat};
pub use identities::{Identities, IdentityError, IdentitySpec, Registered, Rotate};
pub use intake::{Intake, IntakeError, Publication};
pub use methods::{MethodError, MethodRequests};
pub use metrics::Metrics;
pub use module::{
    CounterView, FaultView, Fortune, ModuleChange, ModuleError, ModuleView, Modules, Return, State,
    VersionRow,
};
pub use module_logs::{LogLine, ModuleLogs};
pub use operations::{Operation, Operations, Progress};
pub use presence::Presence;
pub use replay::{ReplayError, Replayed};
pub use routes::{RouteError, RouteSpec, RouteView, Routes, compile as compile_routes};
pub use scope::{Area, Level, Scope, ScopeError};
pub use service_policies::{SERVICE_POLICIES, ServicePolicy, ServicePolicyError, ServiceRefusal};
pub use session::Session;
pub use stored_configurations::{StoredConfiguration, StoredConfigurationError};
pub use subscriptions::{Subscription, SubscriptionError};
pub use tokens::{Caller, NewToken, TokenError, TokenRecord, TokenRefusal, TokenView, Tokens};
pub use twins::{DesiredPatches, HistoryRow, PlannedReport, TwinError, Twins, Versions};
pub use uplink::UplinkView;
pub use visitor::Visitor;
// What the API shows of the store; it never sees the store's crate itself.
pub use weir_store::{
    Count, Damage, DeadLetter, DeadLetterId, EndpointId, EntryState, Error as StoreError, Expect,
    Health, OpenReport, Peeked, QueueUsage, RouteNumber, Usage, WhenFull,
};

//! The ports of the hub: the only `dyn` traits in the project, each with its reason.
//!
//! * [`Consumer`]: takes messages of one endpoint and answers what became of them. Implemented by a
//!   module's instance, by a connected client and by an upstream; the dispatcher knows only this.
//! * [`ModuleRuntime`]: checks, compiles and starts modules, so that the hub never sees the engine.
//! * [`Upstream`]: a consumer with a link that can be up or down.
//!
//! What a consumer did comes back as a value ([`Answer`]); nothing has happened until the store has
//! committed it.

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::id::{Identity, InputName, OutputName};
use crate::message::StampedMessage;
use crate::method::MethodAnswer;
use crate::module::ModuleSpec;
use crate::module_state::{ModuleState, StateChange};
use crate::module_twin::ModuleTwin;
use crate::properties::Properties;
use crate::twin::Patch;
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A future that may cross threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A message on its way to a consumer.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Unique within the consumer and the same on every redelivery.
    pub number: u64,
    /// 1 on first delivery.
    pub attempt: u32,
    /// Index into the module's declared inputs; 0 for other consumers.
    pub input: u16,
    /// Name of the input, for a connected client's module; none for an upstream.
    pub input_name: Option<InputName>,
    /// The message.
    pub message: StampedMessage,
}

/// Messages of one endpoint in order, at least one.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// In the order in which they are to be handled.
    pub deliveries: Vec<Delivery>,
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Taken by a client or an upstream.
    Accepted,
    /// A module is done with it; nothing goes on.
    Drop,
    /// Goes on unchanged to this output.
    Pass {
        /// Index into the module's declared outputs.
        output: u16,
    },
    /// Goes on with changed application properties.
    Annotate {
        /// Index into the module's declared outputs.
        output: u16,
        /// Set or replaced.
        set: Vec<(String, String)>,
        /// Removed.
        unset: Vec<String>,
    },
    /// These go on in its place.
    Emit(Vec<Emission>),
    /// Stays with the module, unacknowledged, until it is released.
    Hold,
    /// To be delivered again.
    Retry {
        /// For the log and the dead letter.
        reason: String,
        /// Not before this has passed; the hub's back-off is the floor.
        after: Option<Duration>,
    },
    /// The message is at fault; policy decides what becomes of it.
    Reject {
        /// For people.
        reason: String,
        /// For machines.
        code: Option<String>,
    },
    /// The consumer went away before it answered: delivered again.
    Abandon {
        /// True when the consumer may have seen it, so that it comes again as a repeat.
        sent: bool,
    },
}

/// A message that a module made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Emission {
    /// Index into the module's declared outputs.
    pub output: u16,
    /// The payload.
    pub body: Bytes,
    /// Application properties, and those system properties that the specification lets the module set.
    pub properties: Properties,
}

/// A batch's result: outcomes in input order, then what was sent in call order.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// One for each delivery, in the same order.
    pub outcomes: Vec<Outcome>,
    /// Sent beside the outcomes.
    pub sends: Vec<Emission>,
    /// Numbers of held messages that are now done.
    pub releases: Vec<u64>,
    /// Changes of the module's state, to be committed with the batch.
    pub state: Vec<StateChange>,
    /// Patches of the reported properties of the module's twin, in call order, to be committed with
    /// the batch.
    pub reports: Vec<Patch>,
}

/// A call beside the batches: what the guest answered, and what it did meanwhile.
#[derive(Debug, Clone)]
pub struct Called<T> {
    /// The guest's answer.
    pub answer: T,
    /// Without outcomes; to be committed before anybody is told of the answer.
    pub effects: Answer,
}

/// New desired properties for a module.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredChange {
    /// Their version.
    pub version: u64,
    /// From the properties that are in force to these, as a JSON merge patch.
    pub patch: String,
    /// The whole, a JSON object.
    pub desired: String,
}

/// Which calls a component takes beside batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Handlers {
    /// Direct methods.
    pub methods: bool,
    /// Changes of the desired properties. Without it they hold without the module being asked.
    pub desired: bool,
}

/// Why a batch has no answer. Nothing of the batch has happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The guest trapped.
    #[error("the module trapped: {0}")]
    Trap(String),
    /// The call ran out of time.
    #[error("the module used more than its time of {}", format_duration(*.0))]
    TimeOut(Duration),
    /// The wrong number of outcomes, an unknown output or another breach of the interface.
    #[error("the module broke its contract: {0}")]
    Contract(String),
    /// The consumer cannot take messages now (an upstream that is down, a client that left).
    #[error("not available: {reason}")]
    Unavailable {
        /// For people.
        reason: String,
        /// The other side asked for a pause of this length.
        retry_after: Option<Duration>,
    },
}

fn format_duration(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

impl Fault {
    /// True when the guest itself is at fault, so that its instance is spent.
    #[must_use]
    pub fn is_guest(&self) -> bool {
        match self {
            Self::Trap(_) | Self::TimeOut(_) | Self::Contract(_) => true,
            Self::Unavailable { .. } => false,
        }
    }
}

/// Takes the messages of an endpoint.
pub trait Consumer: Send + Sync {
    /// Handles a batch. Several may be under way at once; a module handles them in order of the calls.
    /// Dropping the future gives the batch up: the caller delivers it again.
    fn deliver(&self, batch: Batch) -> BoxFuture<'_, Result<Answer, Fault>>;
}

/// State of the link to an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Not tried yet.
    Idle,
    /// The last attempt went well.
    Up {
        /// Since when.
        since: Timestamp,
    },
    /// The last attempt failed.
    Down {
        /// Since when.
        since: Timestamp,
        /// For people; no secrets.
        reason: String,
    },
}

/// Where messages go that leave this hub. `deliver` connects when it must; an answer of
/// [`Fault::Unavailable`] means that nothing is known of the batch and that it is to come again.
pub trait Upstream: Consumer {
    /// `file`, `mqtt`, …
    fn kind(&self) -> &'static str;
    /// Where it leads, without secrets.
    fn target(&self) -> String;
    /// Keeps an idle link alive and ends what is open when dropped; runs as long as the hub.
    fn run(&self) -> BoxFuture<'_, ()>;
    /// The link's state.
    fn link(&self) -> Link;
    /// Resolves when the link is up, at once when it is: who waits to try again need wait no longer.
    /// Never, where only `deliver` finds out. Cancel-safe.
    fn is_up(&self) -> BoxFuture<'_, ()>;
}

/// Why an instance starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartReason {
    /// First start, or after a stop.
    Cold,
    /// The instance before it trapped or ran out of time.
    Recover,
    /// It takes over from another version.
    Upgrade,
}

/// Everything an instance needs.
#[derive(Debug, Clone)]
pub struct ModuleStart {
    /// Who the module is.
    pub identity: Identity,
    /// The checked specification.
    pub spec: Arc<ModuleSpec>,
    /// The compiled component.
    pub component: Digest,
    /// Why.
    pub reason: StartReason,
    /// The module's state, shared by all its instances; only one of them runs at a time.
    pub state: Arc<Mutex<ModuleState>>,
    /// The module's twin, shared in the same way. The desired properties in it are those in force.
    pub twin: Arc<Mutex<ModuleTwin>>,
}

/// What a component needs and offers, read from the component itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ComponentFacts {
    /// Names of imported interfaces, with versions.
    pub imports: Vec<String>,
    /// Names of exported interfaces, with versions.
    pub exports: Vec<String>,
    /// Size of the component in bytes.
    pub bytes: u64,
}

/// A component or a start that is refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// Not a component, an import that is not offered, an export that is not supported yet.
    #[error("{0}")]
    Refused(String),
    /// The compiler ran out of its time or memory, or failed.
    #[error("the component could not be compiled: {0}")]
    Compile(String),
    /// The component is not in the cache and its bytes are not known.
    #[error("the component {0} is not known")]
    Unknown(Digest),
    /// `init` answered with an error, trapped or ran out of time.
    #[error("init failed: {0}")]
    Init(String),
    /// The hub's own files or threads failed.
    #[error("{0}")]
    Host(String),
}

/// Checks, compiles and starts modules of one kind.
pub trait ModuleRuntime: Send + Sync {
    /// Checks and compiles a component and puts the result into the cache; cheap when it is there.
    fn compile(&self, component: Bytes) -> BoxFuture<'_, Result<ComponentFacts, RuntimeError>>;

    /// Makes an instance and runs its `init`; it lives on a thread of its own until the last handle
    /// is dropped. The cached code of `start.component` must be there.
    fn start(&self, start: ModuleStart) -> BoxFuture<'_, Result<Arc<dyn Instance>, RuntimeError>>;

    /// Forgets the cached code of a component.
    fn forget(&self, component: &Digest);
}

/// A warm instance of a module.
pub trait Instance: Consumer {
    /// As [`Consumer::deliver`], with less time than the specification gives a call; more is not
    /// granted.
    fn deliver_within(&self, batch: Batch, time: Duration) -> BoxFuture<'_, Result<Answer, Fault>>;
    /// What it can be called with beside batches.
    fn handlers(&self) -> Handlers;
    /// Calls a method, in turn with the batches and with the time of a batch. `body` is JSON, and so is
    /// the payload of the answer. A component without methods answers 404.
    fn call_method(
        &self,
        name: &str,
        body: Bytes,
    ) -> BoxFuture<'_, Result<Called<MethodAnswer>, Fault>>;
    /// Asks whether new desired properties can hold, in turn with the batches and with the time of a
    /// batch; the answer is the reason why not. A component without the handler says yes. Putting
    /// them in force is the caller's.
    fn desired_changed(
        &self,
        change: DesiredChange,
    ) -> BoxFuture<'_, Result<Called<Result<(), String>>, Fault>>;
    /// Calls `stop` and ends the thread; effects of `stop` are in the answer.
    fn stop(&self) -> BoxFuture<'_, Result<Answer, Fault>>;
    /// Figures of this instance.
    fn usage(&self) -> InstanceUsage;
    /// Output names by index.
    fn outputs(&self) -> &[OutputName];
}

/// What an instance has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct InstanceUsage {
    /// Calls: batches, methods and desired properties.
    pub calls: u64,
    /// Messages in.
    pub messages: u64,
    /// Time in calls, in microseconds.
    pub busy_micros: u64,
    /// Linear memory in bytes.
    pub memory_bytes: u64,
    /// Log lines written and log lines dropped for their rate.
    pub log_lines: u64,
    /// Log lines dropped.
    pub log_dropped: u64,
}

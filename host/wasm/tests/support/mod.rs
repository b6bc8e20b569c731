//! Guests, a runtime and messages for the tests of this crate.

#![allow(dead_code, unreachable_pub, reason = "every test binary uses another part")]
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

pub mod guests;
pub mod log;

use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_core::clock::{Clock, Timestamp};
use weir_core::digest::Digest;
use weir_core::id::{Identity, MessageId};
use weir_core::message::{Message, StampedMessage};
use weir_core::module::{Ceilings, ModuleSpec};
use weir_core::module_state::ModuleState;
use weir_core::module_twin::ModuleTwin;
use weir_core::port::{
    Answer, Batch, Delivery, Fault, Instance, ModuleRuntime, ModuleStart, RuntimeError, StartReason,
};
use weir_core::properties::{Key, Properties, PropertiesBuilder};
use weir_wasm::{Compiler, Options, Runtime};

/// A runtime whose compiled code is shared by all tests of a build, because compiling is what
/// takes the time.
pub fn runtime() -> Runtime {
    runtime_in(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled"), compiler())
}

pub fn runtime_in(dir: &Path, compiler: Compiler) -> Runtime {
    runtime_with(dir, compiler, Clock::manual(Timestamp::from_secs(1_000)))
}

pub fn runtime_with(dir: &Path, compiler: Compiler, clock: Clock) -> Runtime {
    let dir = dir.to_owned();
    Runtime::new(Options { dir, compiler, clock, ceilings: Ceilings::default() }).unwrap()
}

pub fn compiler() -> Compiler {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_weir-compile-module"));
    Compiler { program, args: Vec::new() }
}

/// A module that is to be started; the specification has one input `in` and one output `out`.
pub struct Module {
    pub component: Bytes,
    pub spec: serde_json::Value,
    pub state: Arc<Mutex<ModuleState>>,
    pub twin: Arc<Mutex<ModuleTwin>>,
}

impl Module {
    pub fn new(component: Bytes) -> Self {
        let spec = serde_json::json!({
            "type": "wasm", "component": Digest::from_bytes([0; 32]).to_string(),
            "inputs": ["in"], "outputs": ["out"],
            "properties": ["*"],
            // Enough for an unoptimised host on a busy machine; tests of the deadline set their own.
            "limits": { "cpu-ms-per-call": 1_000 },
        });
        let state = ModuleState::new(BTreeMap::new(), 100_000);
        Self { component, spec, state: Arc::new(Mutex::new(state)), twin: Arc::default() }
    }

    /// The guest that misbehaves, with its settings.
    pub fn broken(settings: serde_json::Value) -> Self {
        Self::new(guests::guest("broken")).with("settings", settings)
    }

    pub fn with(mut self, name: &str, value: serde_json::Value) -> Self {
        self.spec[name] = value;
        self
    }

    pub fn limit(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.spec["limits"][name] = value.into();
        self
    }

    pub async fn try_start(&self, runtime: &Runtime) -> Result<Arc<dyn Instance>, RuntimeError> {
        runtime.compile(self.component.clone()).await?;
        self.start_compiled(runtime).await
    }

    pub async fn start_compiled(
        &self,
        runtime: &Runtime,
    ) -> Result<Arc<dyn Instance>, RuntimeError> {
        let mut spec: ModuleSpec = serde_json::from_value(self.spec.clone()).unwrap();
        spec.component = digest(&self.component);
        runtime
            .start(ModuleStart {
                identity: Identity::module("edge".parse().unwrap(), "tested".parse().unwrap()),
                component: spec.component,
                spec: Arc::new(spec),
                reason: StartReason::Cold,
                state: Arc::clone(&self.state),
                twin: Arc::clone(&self.twin),
            })
            .await
    }

    pub async fn start(&self, runtime: &Runtime) -> Arc<dyn Instance> {
        self.try_start(runtime).await.unwrap()
    }

    /// Its reported properties, as it sees them.
    pub fn reported(&self) -> String {
        self.twin.lock().unwrap().reported_json()
    }

    pub fn state_text(&self, key: &str) -> Option<String> {
        let state = self.state.lock().unwrap();
        let value = state.get(key, Timestamp::from_secs(1_000))?;
        Some(String::from_utf8_lossy(value).into_owned())
    }
}

pub fn digest(bytes: &[u8]) -> Digest {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    Digest::from_bytes(digest.as_ref().try_into().unwrap())
}

pub fn properties(pairs: &[(&str, &str)]) -> Properties {
    let mut builder = PropertiesBuilder::default();
    for (name, value) in pairs {
        builder.push(Key::Application(name), Some(value)).unwrap();
    }
    builder.build()
}

pub fn stamped(number: u64, body: impl Into<Bytes>, pairs: &[(&str, &str)]) -> StampedMessage {
    let message = Message { body: body.into(), properties: properties(pairs), output: None };
    let sensor = Identity::device("sensor".parse().unwrap());
    message.stamp(&sensor, MessageId(number), Timestamp::from_secs(500))
}

pub fn delivery(number: u64, message: StampedMessage) -> Delivery {
    Delivery { number, attempt: 1, input: 0, input_name: None, message }
}

/// A batch of messages without properties.
pub fn plain(count: usize) -> Batch {
    batch(&vec![[].as_slice(); count])
}

/// A batch of one message for each list of properties.
pub fn batch(messages: &[&[(&str, &str)]]) -> Batch {
    let number = |at: usize| at as u64 + 1;
    let deliveries = messages
        .iter()
        .enumerate()
        .map(|(at, pairs)| {
            delivery(number(at), stamped(number(at), r#"{"temperature":30}"#, pairs))
        })
        .collect();
    Batch { deliveries }
}

/// A batch of messages with these bodies.
pub fn bodies(bodies: &[&str]) -> Batch {
    let deliveries = bodies
        .iter()
        .zip(1..)
        .map(|(body, number)| delivery(number, stamped(number, (*body).to_owned(), &[])))
        .collect();
    Batch { deliveries }
}

/// A future's result and the time it took.
#[expect(clippy::disallowed_methods, reason = "the deadline on the wall is what is tested")]
pub async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = std::time::Instant::now();
    let result = work.await;
    (result, start.elapsed())
}

/// The most memory this process has had, in bytes.
pub fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

/// Delivers and waits, but not for ever.
pub async fn deliver(instance: &Arc<dyn Instance>, batch: Batch) -> Result<Answer, Fault> {
    tokio::time::timeout(Duration::from_secs(60), instance.deliver(batch)).await.unwrap()
}

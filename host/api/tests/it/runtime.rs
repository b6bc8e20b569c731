//! A stand-in for the Wasm engine: components are texts that say what they do.
//!
//! `\0asm drop` drops every message, `\0asm reject` rejects every message, `\0asm broken` fails in
//! `init`, `\0asm slow` starts when [`Runtime::open`] is called, `\0asm vanish` leaves a key in its
//! state and ends without an answer to a batch with the body `end`, and does not start when it finds
//! that key. Everything else is no component.

use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use weir_core::clock::Timestamp;
use weir_core::digest::Digest;
use weir_core::id::OutputName;
use weir_core::method::MethodAnswer;
use weir_core::module_state::ModuleState;
use weir_core::port::{
    Answer, Batch, BoxFuture, Called, ComponentFacts, Consumer, DesiredChange, Fault, Handlers,
    Instance, InstanceUsage, ModuleRuntime, ModuleStart, Outcome, RuntimeError,
};

pub(crate) struct Runtime {
    components: Mutex<HashMap<Digest, String>>,
    gate: Semaphore,
    asked: Semaphore,
}

impl Default for Runtime {
    fn default() -> Self {
        let (gate, asked) = (Semaphore::new(0), Semaphore::new(0));
        Self { components: Mutex::default(), gate, asked }
    }
}

impl Runtime {
    /// Resolves when a slow component is to start.
    pub(crate) async fn asked(&self) {
        self.asked.acquire().await.unwrap().forget();
    }

    /// Lets slow components start.
    pub(crate) fn open(&self) {
        self.gate.add_permits(1_000);
    }
}

impl ModuleRuntime for Runtime {
    fn compile(&self, component: Bytes) -> BoxFuture<'_, Result<ComponentFacts, RuntimeError>> {
        Box::pin(async move {
            let text =
                component.strip_prefix(b"\0asm ").and_then(|rest| std::str::from_utf8(rest).ok());
            let text = text.ok_or_else(|| RuntimeError::Refused("this is no component".into()))?;
            let digest = weir_hub::digest_of(&component);
            self.components.lock().unwrap().insert(digest, text.to_owned());
            let imports = vec!["weir:module/hub@0.1.0".to_owned()];
            let exports = vec!["weir:module/processor@0.1.0".to_owned()];
            Ok(ComponentFacts { imports, exports, bytes: component.len() as u64 })
        })
    }

    fn start(&self, start: ModuleStart) -> BoxFuture<'_, Result<Arc<dyn Instance>, RuntimeError>> {
        Box::pin(async move {
            let known = self.components.lock().unwrap().get(&start.component).cloned();
            let text = known.ok_or(RuntimeError::Unknown(start.component))?;
            if text.starts_with("broken") {
                return Err(RuntimeError::Init("on purpose".into()));
            }
            if text.starts_with("slow") {
                self.asked.add_permits(1);
                self.gate.acquire().await.unwrap().forget();
            }
            let rejects = text.starts_with("reject");
            let outputs = start.spec.outputs.clone();
            let vanishes = text.starts_with("vanish").then_some(start.state);
            if vanishes.as_ref().is_some_and(|state| !state.lock().unwrap().is_empty()) {
                return Err(RuntimeError::Init("it finds state that was never committed".into()));
            }
            Ok(Arc::new(Stub { rejects, vanishes, outputs }) as Arc<dyn Instance>)
        })
    }

    fn forget(&self, component: &Digest) {
        self.components.lock().unwrap().remove(component);
    }
}

struct Stub {
    rejects: bool,
    vanishes: Option<Arc<Mutex<ModuleState>>>,
    outputs: Vec<OutputName>,
}

impl Consumer for Stub {
    fn deliver(&self, batch: Batch) -> BoxFuture<'_, Result<Answer, Fault>> {
        let outcome = match self.rejects {
            true => Outcome::Reject { reason: "not wanted".into(), code: Some("unwanted".into()) },
            false => Outcome::Drop,
        };
        let ends = batch.deliveries.iter().any(|delivery| delivery.message.body() == "end");
        if let Some(state) = self.vanishes.as_ref().filter(|_| ends) {
            let mut state = state.lock().unwrap();
            state.set("left behind", vec![1], Timestamp::NEVER, Timestamp::from_secs(0)).unwrap();
            state.commit();
            let reason = "the instance has ended".to_owned();
            return Box::pin(async { Err(Fault::Unavailable { reason, retry_after: None }) });
        }
        let outcomes = vec![outcome; batch.deliveries.len()];
        Box::pin(async move { Ok(Answer { outcomes, ..Answer::default() }) })
    }
}

impl Instance for Stub {
    fn deliver_within(&self, batch: Batch, _: Duration) -> BoxFuture<'_, Result<Answer, Fault>> {
        self.deliver(batch)
    }

    fn handlers(&self) -> Handlers {
        Handlers::default()
    }

    fn call_method(&self, _: &str, _: Bytes) -> BoxFuture<'_, Result<Called<MethodAnswer>, Fault>> {
        unreachable!("it has no handler for methods")
    }

    fn desired_changed(
        &self,
        _: DesiredChange,
    ) -> BoxFuture<'_, Result<Called<Result<(), String>>, Fault>> {
        unreachable!("it has no handler for desired properties")
    }

    fn stop(&self) -> BoxFuture<'_, Result<Answer, Fault>> {
        Box::pin(async { Ok(Answer::default()) })
    }

    fn usage(&self) -> InstanceUsage {
        InstanceUsage::default()
    }

    fn outputs(&self) -> &[OutputName] {
        &self.outputs
    }
}

//! The runtime: from a component's bytes to a running instance.

use crate::cache::{Cache, digest_of};
use crate::capability;
use crate::compile::{Compiled, Compiler};
use crate::engine;
use crate::guest::{Guest, GuestParts};
use crate::instance::WasmInstance;
use crate::linked::Linked;
use crate::log::ModuleLog;
use crate::metrics::{Metrics, ModuleMetric};
use crate::running::Running;
use crate::ticker::Ticker;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};
use weir_core::clock::Clock;
use weir_core::digest::Digest;
use weir_core::id::ModuleId;
use weir_core::module::{Ceilings, LimitSpec, Size};
use weir_core::port::{
    BoxFuture, ComponentFacts, Instance, ModuleRuntime, ModuleStart, RuntimeError,
};

/// What a [`Runtime`] needs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder for components and compiled code; made when it is not there, mode 0700.
    pub dir: PathBuf,
    /// The program that compiles.
    pub compiler: Compiler,
    /// Wall-clock time for guests and for the expiry of their state.
    pub clock: Clock,
    /// The host's upper bounds. The hub checks specifications against them; here they hold whatever
    /// a specification says.
    pub ceilings: Ceilings,
}

/// A runtime that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine does not work on this machine.
    #[error("the WebAssembly engine could not be made")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The folder for compiled code cannot be used.
    #[error("the folder for compiled modules could not be opened")]
    Cache(#[source] std::io::Error),
    /// No thread for the epoch's tick.
    #[error("the thread that limits modules could not be started")]
    Ticker(#[source] std::io::Error),
}

/// Compiles components and runs instances of them.
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

struct Shared {
    engine: Engine,
    linker: Linker<Guest>,
    ticker: Arc<Ticker>,
    cache: Cache,
    compiler: Compiler,
    clock: Clock,
    ceilings: Ceilings,
    /// Code in memory, so that a fresh instance after a fault costs microseconds.
    loaded: Mutex<HashMap<Digest, Linked>>,
    metrics: Mutex<BTreeMap<ModuleId, Arc<Mutex<Metrics>>>>,
    /// One compilation at a time: two would need twice the memory.
    compiling: Semaphore,
}

impl Runtime {
    /// Makes the engine, opens the folder and starts the ticking thread.
    ///
    /// # Errors
    /// [`Error`]; nothing is left running.
    pub fn new(options: Options) -> Result<Self, Error> {
        let Options { dir, compiler, clock, ceilings } = options;
        let engine = engine::engine().map_err(|error| Error::Engine(error.into()))?;
        let linker = capability::linker(&engine).map_err(|error| Error::Engine(error.into()))?;
        let cache = Cache::open(&dir, engine::tag(&engine)).map_err(Error::Cache)?;
        let ticker = Ticker::start(engine.clone()).map_err(Error::Ticker)?;
        Ok(Self(Arc::new(Shared {
            engine,
            linker,
            ticker,
            cache,
            compiler,
            clock,
            ceilings,
            loaded: Mutex::default(),
            metrics: Mutex::default(),
            compiling: Semaphore::new(1),
        })))
    }

    /// The metrics that modules made, by module.
    #[must_use]
    pub fn metrics(&self) -> Vec<ModuleMetric> {
        let modules = lock(&self.0.metrics);
        let mut all = Vec::new();
        for (module, metrics) in modules.iter() {
            all.extend(lock(metrics).list(module));
        }
        all
    }
}

impl ModuleRuntime for Runtime {
    fn compile(&self, component: Bytes) -> BoxFuture<'_, Result<ComponentFacts, RuntimeError>> {
        Box::pin(self.0.compile(component))
    }

    fn start(&self, start: ModuleStart) -> BoxFuture<'_, Result<Arc<dyn Instance>, RuntimeError>> {
        Box::pin(Shared::start(Arc::clone(&self.0), start))
    }

    fn forget(&self, component: &Digest) {
        lock(&self.0.loaded).remove(component);
        if let Err(error) = self.0.cache.forget(component) {
            tracing::warn!(%component, %error, "cached code could not be deleted");
        }
    }
}

impl Shared {
    async fn compile(self: &Arc<Self>, component: Bytes) -> Result<ComponentFacts, RuntimeError> {
        let most = self.ceilings.component;
        if component.len() as u64 > most.0 {
            return Err(RuntimeError::Refused(format!(
                "it has {} bytes; {most} are allowed (security.wasm.component)",
                component.len()
            )));
        }
        let shared = Arc::clone(self);
        let bytes = component.clone();
        let (digest, cached) = blocking(move || {
            let digest = digest_of(&bytes);
            // Code without its component could not be made anew after an update of the engine.
            let whole = shared.cache.component(&digest)?.is_some();
            let code = if whole { shared.cache.code(&digest)? } else { None };
            Ok((digest, code))
        })
        .await?;
        match cached {
            Some(compiled) => Ok(compiled.facts),
            None => self.compile_anew(digest, component).await.map(|compiled| compiled.facts),
        }
    }

    async fn compile_anew(
        self: &Arc<Self>,
        digest: Digest,
        component: Bytes,
    ) -> Result<Compiled, RuntimeError> {
        let turn = self.compiling.acquire().await;
        let compiled = self.compiler.compile(&component).await?;
        drop(turn);
        let shared = Arc::clone(self);
        blocking(move || {
            shared.cache.put(&digest, &component, &compiled)?;
            Ok(compiled)
        })
        .await
    }

    async fn start(self: Arc<Self>, start: ModuleStart) -> Result<Arc<dyn Instance>, RuntimeError> {
        let linked = self.load(start.component).await?;
        let module = start.identity.module.clone();
        let module =
            module.ok_or_else(|| RuntimeError::Host("a device has no component".to_owned()))?;
        let guest = self.guest(&start, &module);
        let outputs = start.spec.outputs.clone();
        let name = module.clone();
        let run = move || Running::start(&linked, guest, &start, &module);
        Ok(Arc::new(WasmInstance::spawn(&name, outputs, run).await?))
    }

    /// The linked code of a component: from memory, from the cache, or compiled anew from the component
    /// when the cache has none that fits.
    async fn load(self: &Arc<Self>, digest: Digest) -> Result<Linked, RuntimeError> {
        if let Some(linked) = lock(&self.loaded).get(&digest) {
            return Ok(linked.clone());
        }
        let shared = Arc::clone(self);
        let cached = blocking(move || shared.cache.code(&digest)).await?;
        let compiled = match cached {
            Some(compiled) => compiled,
            None => {
                let shared = Arc::clone(self);
                let component = blocking(move || shared.cache.component(&digest)).await?;
                let component = component.ok_or(RuntimeError::Unknown(digest))?;
                self.compile_anew(digest, component.into()).await?
            }
        };
        let shared = Arc::clone(self);
        blocking(move || Ok(shared.link(&compiled.code))).await?.inspect(|linked| {
            lock(&self.loaded).insert(digest, linked.clone());
        })
    }

    fn link(&self, code: &[u8]) -> Result<Linked, RuntimeError> {
        let component = deserialize(&self.engine, code).map_err(|error| {
            RuntimeError::Host(format!("compiled code does not load: {error:#}"))
        })?;
        Linked::new(&self.linker, &component)
            .map_err(|error| RuntimeError::Refused(format!("{error:#}")))
    }

    fn guest(&self, start: &ModuleStart, module: &ModuleId) -> Guest {
        let limits = self.limits(&start.spec.limits);
        let metrics = Arc::clone(lock(&self.metrics).entry(module.clone()).or_default());
        Guest::new(GuestParts {
            spec: Arc::clone(&start.spec),
            state_granted: start.spec.grants.state && self.ceilings.grants.state,
            report_granted: start.spec.grants.report && self.ceilings.grants.report,
            clock: self.clock.clone(),
            ticker: Arc::clone(&self.ticker),
            state: Arc::clone(&start.state),
            twin: Arc::clone(&start.twin),
            log: ModuleLog::new(module.as_str(), limits.log_lines),
            limits,
            metrics,
        })
    }

    fn limits(&self, asked: &LimitSpec) -> LimitSpec {
        let size = |asked: Size, most: Size| asked.min(most);
        LimitSpec {
            memory: size(asked.memory, self.ceilings.memory),
            cpu_ms_per_call: asked.cpu_ms_per_call.min(self.ceilings.cpu_ms_per_call),
            host_calls: asked.host_calls.min(self.ceilings.host_calls),
            sends_per_call: asked.sends_per_call.min(self.ceilings.sends_per_call),
            bytes_per_call: size(asked.bytes_per_call, self.ceilings.bytes_per_call),
            body_inline: asked.body_inline,
            state: size(asked.state, self.ceilings.state),
            held: asked.held.min(self.ceilings.held),
            log_lines: asked.log_lines.min(self.ceilings.log_lines),
        }
    }
}

#[expect(unsafe_code, reason = "the code was made by this engine and carries the hub's own MAC")]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` comes from `compile_child` of this very engine, either directly or from a cache
    // file whose keyed hash over component, engine and code was just checked. The key is known to
    // the hub alone, and uploaded bytes never come here.
    unsafe { Component::deserialize(engine, code) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Files and hashing off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, RuntimeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| RuntimeError::Host(format!("module cache: {error}"))),
        Err(_) => Err(RuntimeError::Host("the hub is stopping".to_owned())),
    }
}

//! Queues and who serves them: an endpoint of a Wasm module belongs to the module's runner, every
//! other module input and the upstream have a dispatcher each.

use crate::Hub;
use crate::dispatch::{Dispatcher, Manner};
use crate::sync::lock;
use crate::tasks::{Stop, TaskKind};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch;
use tracing::error;
use weir_core::backoff::Backoff;
use weir_core::id::{Identity, InputName, ModuleId};
use weir_core::limits;
use weir_core::route::Sink;
use weir_store::{EndpointId, QueueLimit, WhenFull};

/// Name of the upstream's queue, as in IoT Edge.
pub const UPSTREAM: &str = "iothub";

/// A running dispatcher.
#[derive(Debug)]
struct Served {
    module: ModuleId,
    stop: Stop,
    ended: watch::Receiver<bool>,
}

/// Which dispatchers run.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    served: Mutex<HashMap<EndpointId, Served>>,
}

impl Hub {
    /// The queue of a route's endpoint, with its limit set and served.
    pub(crate) async fn open_endpoint(&self, sink: &Sink) -> Result<EndpointId, weir_store::Error> {
        let name = sink.endpoint_id(self.edge_device().as_str());
        let endpoint = self.store().endpoint(&name).await?;
        let limits_of = self.store_and_forward();
        match sink {
            Sink::Upstream => {
                let max_bytes = Some(limits_of.max_bytes(self.config().queues.upstream_bytes));
                let when_full = self.config().queues.upstream_when_full;
                self.store().set_limit(endpoint, QueueLimit { max_bytes, when_full });
            }
            Sink::ModuleInput { module, input } => {
                let max_bytes = Some(limits_of.max_bytes(self.config().queues.module_bytes));
                let when_full = WhenFull::Reject;
                self.store().set_limit(endpoint, QueueLimit { max_bytes, when_full });
                if let Ok(module) = module.parse()
                    && !self.modules().is_wasm(&module)
                {
                    self.serve(&module, endpoint, name, input.parse().ok());
                }
            }
        }
        Ok(endpoint)
    }

    /// The queue of a Wasm module's declared input.
    pub(crate) async fn input_endpoint(
        &self,
        module: &Identity,
        input: &InputName,
    ) -> Result<EndpointId, weir_store::Error> {
        let module = module.module.as_ref().map_or_else(String::new, ToString::to_string);
        self.open_endpoint(&Sink::ModuleInput { module, input: input.to_string() }).await
    }

    fn serve(
        &self,
        module: &ModuleId,
        endpoint: EndpointId,
        name: String,
        input: Option<InputName>,
    ) {
        let mut served = lock(&self.endpoints().served);
        if served.get(&endpoint).is_some_and(|served| !*served.ended.borrow()) {
            return;
        }
        let reader = match self.store().reader(endpoint) {
            Ok(reader) => reader,
            Err(cause) => {
                error!(endpoint = name, error = %cause, "a queue cannot be served");
                return;
            }
        };
        let seat = self.seat(module).subscribe();
        let stop = self.tasks().stop().child();
        let (end, ended) = watch::channel(false);
        let dispatcher = Dispatcher {
            hub: self.clone(),
            endpoint,
            name,
            upstream: None,
            input,
            reader,
            seat,
            manner: Manner { messages: limits::BATCH_MESSAGES, ahead: 4, max_attempts: None },
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(30)),
            in_hand: Default::default(),
        };
        let own = stop.clone();
        self.tasks().spawn(TaskKind::PerClient, "dispatch", move |_| async move {
            dispatcher.run(own).await;
            end.send_replace(true);
        });
        served.insert(endpoint, Served { module: module.clone(), stop, ended });
    }

    /// Ends the dispatchers of a module, so that its runner can take the queues.
    pub(crate) async fn release_inputs(&self, module: &ModuleId) {
        let ending: Vec<Served> = {
            let mut served = lock(&self.endpoints().served);
            let of_module: Vec<EndpointId> = served
                .iter()
                .filter(|(_, served)| served.module == *module)
                .map(|(endpoint, _)| *endpoint)
                .collect();
            of_module.iter().filter_map(|endpoint| served.remove(endpoint)).collect()
        };
        for served in ending {
            served.stop.drain();
            let mut ended = served.ended;
            drop(ended.wait_for(|ended| *ended).await);
        }
    }

    /// Serves queues that have messages and to which no route leads any more: changing a route never
    /// touches what is stored.
    pub(crate) async fn serve_leftovers(&self) -> Result<(), weir_store::Error> {
        for queue in self.store().usage().queues.into_iter().filter(|queue| queue.messages > 0) {
            let input = queue.name.strip_prefix(self.edge_device().as_str());
            let input = input.and_then(|rest| rest.strip_prefix('/')?.split_once('/'));
            let Some((module, input)) = input else { continue };
            let (module, input) = (module.to_owned(), input.to_owned());
            self.open_endpoint(&Sink::ModuleInput { module, input }).await?;
        }
        Ok(())
    }

    /// Gives the queues of a module that no longer runs here to dispatchers.
    pub(crate) async fn serve_inputs(&self, module: &ModuleId) {
        let sinks: Vec<Sink> = self.routing().table.sinks().to_vec();
        for sink in sinks {
            let is_input = match &sink {
                Sink::ModuleInput { module: to, .. } => to == module.as_str(),
                Sink::Upstream => false,
            };
            if is_input && let Err(cause) = self.open_endpoint(&sink).await {
                error!(module = %module, error = %cause, "a queue cannot be served");
            }
        }
        if let Err(cause) = self.serve_leftovers().await {
            error!(module = %module, error = %cause, "a queue cannot be served");
        }
    }
}

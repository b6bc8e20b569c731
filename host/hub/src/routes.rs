//! The service behind `/api/v1/routes`: every change makes a new table, whole and checked, records it
//! and the changed route in one transaction, and then puts it in force.

use crate::Hub;
use crate::router::Routing;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use weir_core::error_code::ErrorCode;
use weir_core::id::{ModuleId, RouteName};
use weir_core::limits;
use weir_core::module::{ModuleSpec, SpecProblem};
use weir_core::route::{
    CompileOptions, NamedRoute, ParseError, Priority, Route, RouteTable, Sink, TableError,
};
use weir_store::{Expect, Write, WriteError};

const ROUTE: &str = "route";
const TABLE: &str = "route-table";

/// A route as an operator writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RouteSpec {
    /// `FROM … WHERE … INTO …`.
    pub route: String,
    /// 0 (first) to 9; absent for the lowest of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Seconds a message may wait; absent or 0 for the hub's own setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_live_secs: Option<u64>,
}

/// A route in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteView {
    /// Its name.
    pub name: RouteName,
    /// What it says.
    #[serde(flatten)]
    pub spec: RouteSpec,
    /// Where it leads.
    pub sink: String,
    /// For `If-Match`.
    #[serde(skip)]
    pub revision: u64,
}

/// Why routes were not changed.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// A route cannot be read or compiled.
    #[error("route {name}: {cause}")]
    Syntax {
        /// The route.
        name: String,
        /// Where and what.
        cause: Box<ParseError>,
        /// What was written.
        text: String,
    },
    /// The priority is not one.
    #[error("route {name}: priority {priority} is not 0 to 9")]
    Priority {
        /// The route.
        name: String,
        /// What was written.
        priority: u32,
    },
    /// It names an input or output that a Wasm module does not declare.
    #[error("route {name}: {what}")]
    Target {
        /// The route.
        name: String,
        /// Which.
        what: String,
    },
    /// Too many routes.
    #[error("a hub has at most {} routes", limits::ROUTES)]
    TooMany,
    /// There is no such route.
    #[error("there is no route {0}")]
    Unknown(RouteName),
    /// It was changed in the meantime.
    #[error("route {route} was changed in the meantime")]
    Mismatch {
        /// The route.
        route: RouteName,
        /// Its present revision.
        present: Option<u64>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] weir_store::Error),
}

impl RouteError {
    /// Its stable name.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Syntax { .. } | Self::Priority { .. } => ErrorCode::RouteSyntax,
            Self::Target { .. } => ErrorCode::RouteTarget,
            Self::TooMany => ErrorCode::TooLarge,
            Self::Unknown(_) => ErrorCode::NotFound,
            Self::Mismatch { .. } => ErrorCode::VersionMismatch,
            Self::Store(_) => ErrorCode::StoreUnavailable,
        }
    }
}

/// Proof that the stored routes are in force. Without it no module runs: what it sends before would
/// find no route, and be dropped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InForce(());

type Specs = BTreeMap<RouteName, (RouteSpec, u64)>;
/// Routes by name.
pub(crate) type RouteSpecs = BTreeMap<RouteName, RouteSpec>;

/// A checked set of routes that takes the place of all others.
#[derive(Debug)]
pub(crate) struct Replacement {
    specs: RouteSpecs,
    revision: u32,
    /// To be committed before the set is put in force.
    pub(crate) writes: Vec<Write>,
}

/// The routes of the hub.
#[derive(Debug, Default)]
pub struct Routes {
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
}

impl Routes {
    /// Puts the stored routes in force.
    pub(crate) async fn load(&self, hub: &Hub) -> Result<InForce, RouteError> {
        let specs = stored(hub).await?;
        let plain: BTreeMap<_, _> =
            specs.into_iter().map(|(name, (spec, _))| (name, spec)).collect();
        let tables = hub.store().documents(TABLE, "", None, limits::ROUTE_TABLES + 1).await?;
        let revision = tables.last().and_then(|table| table.key.parse().ok()).unwrap_or(0);
        self.enforce(hub, &plain, revision).await?;
        Ok(InForce(()))
    }

    /// Creates or replaces a route. True when it is new.
    ///
    /// # Errors
    /// The routes in force stay when one is returned.
    pub async fn put(
        &self,
        hub: &Hub,
        name: &RouteName,
        spec: RouteSpec,
        expect: Expect,
    ) -> Result<bool, RouteError> {
        let body = serde_json::to_string(&spec).expect("a route has only text keys");
        self.change(hub, name, Some((spec, body)), expect).await
    }

    /// Deletes a route; what it has put into queues stays.
    ///
    /// # Errors
    /// The routes in force stay when one is returned.
    pub async fn delete(
        &self,
        hub: &Hub,
        name: &RouteName,
        expect: Expect,
    ) -> Result<(), RouteError> {
        let expect = if expect == Expect::Any { Expect::Present } else { expect };
        self.change(hub, name, None, expect).await.map(drop)
    }

    async fn change(
        &self,
        hub: &Hub,
        name: &RouteName,
        new: Option<(RouteSpec, String)>,
        expect: Expect,
    ) -> Result<bool, RouteError> {
        let _one = self.changing.lock().await;
        let mut specs: RouteSpecs =
            stored(hub).await?.into_iter().map(|(name, (spec, _))| (name, spec)).collect();
        let (body, created) = match new {
            Some((spec, body)) => (Some(body), specs.insert(name.clone(), spec).is_none()),
            None => {
                specs.remove(name);
                (None, false)
            }
        };
        // The table is built before anything is written: a bad route changes nothing.
        compile(&specs)?;
        self.check_targets(hub, &specs).await?;
        let mut writes = vec![Write { kind: ROUTE, key: name.to_string(), body, expect }];
        let revision = write_table(hub, &specs, &mut writes);
        match hub.store().write(writes).await {
            Ok(_) => {}
            Err(WriteError::Mismatch { present: None, .. }) => {
                return Err(RouteError::Unknown(name.clone()));
            }
            Err(WriteError::Mismatch { present, .. }) => {
                return Err(RouteError::Mismatch { route: name.clone(), present });
            }
            Err(WriteError::Store(cause)) => return Err(cause.into()),
        }
        self.enforce(hub, &specs, revision).await?;
        Ok(created)
    }

    /// Holds off every other change of routes while the whole set is replaced.
    pub(crate) async fn hold(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Checks a set that is to take the place of all routes, under [`Routes::hold`]. Nothing is written.
    pub(crate) async fn plan_all(
        &self,
        hub: &Hub,
        specs: RouteSpecs,
    ) -> Result<Replacement, RouteError> {
        compile(&specs)?;
        self.check_targets(hub, &specs).await?;
        let present = stored(hub).await?;
        let mut writes = Vec::new();
        let write = |name: &RouteName, body| Write {
            kind: ROUTE,
            key: name.to_string(),
            body,
            expect: Expect::Any,
        };
        for name in present.keys().filter(|name| !specs.contains_key(*name)) {
            writes.push(write(name, None));
        }
        for (name, spec) in &specs {
            // One that stays as it is keeps its revision.
            if present.get(name).is_none_or(|(present, _)| present != spec) {
                let body = serde_json::to_string(spec).expect("a route has only text keys");
                writes.push(write(name, Some(body)));
            }
        }
        let revision = write_table(hub, &specs, &mut writes);
        Ok(Replacement { specs, revision, writes })
    }

    /// Puts a set in force whose writes are committed.
    pub(crate) async fn enforce_all(&self, hub: &Hub, set: Replacement) -> Result<(), RouteError> {
        self.enforce(hub, &set.specs, set.revision).await
    }

    async fn check_targets(&self, hub: &Hub, specs: &RouteSpecs) -> Result<(), RouteError> {
        let modules = hub.modules().specs(hub).await?;
        for (name, spec) in specs {
            let Ok(route) = Route::parse(&spec.route) else { continue };
            for (module, declared) in &modules {
                if let Some(what) = undeclared(&route, module, declared) {
                    return Err(RouteError::Target { name: name.to_string(), what });
                }
            }
        }
        Ok(())
    }

    /// What a module's new specification would break in the routes in force.
    pub(crate) fn problems_for(
        &self,
        hub: &Hub,
        module: &ModuleId,
        spec: &ModuleSpec,
    ) -> Vec<SpecProblem> {
        hub.routing()
            .table
            .routes()
            .filter_map(|named| {
                let what = undeclared(&named.route, module, spec)?;
                Some(SpecProblem {
                    pointer: "/inputs".to_owned(),
                    message: format!("route {}: {what}", named.name),
                    policy: false,
                })
            })
            .collect()
    }

    async fn enforce(
        &self,
        hub: &Hub,
        specs: &BTreeMap<RouteName, RouteSpec>,
        revision: u32,
    ) -> Result<(), RouteError> {
        let table = compile(specs)?;
        let mut endpoints = Vec::with_capacity(table.sinks().len());
        for sink in table.sinks() {
            endpoints.push(hub.open_endpoint(sink).await?);
        }
        let mut routes = Vec::new();
        for named in table.routes() {
            routes.push(hub.store().route_number(&named.name).await?);
        }
        let default_ttl = hub.store_and_forward().default_ttl(hub.config().default_ttl);
        hub.set_routing(Routing { revision, table, endpoints, routes, default_ttl });
        Ok(())
    }

    /// All routes, in order of names.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(&self, hub: &Hub) -> Result<Vec<RouteView>, RouteError> {
        let specs = stored(hub).await?;
        Ok(specs.into_iter().map(|(name, (spec, revision))| view(name, spec, revision)).collect())
    }

    /// One route.
    ///
    /// # Errors
    /// [`RouteError::Unknown`], or when the store cannot be read.
    pub async fn get(&self, hub: &Hub, name: &RouteName) -> Result<RouteView, RouteError> {
        let (spec, revision) =
            stored(hub).await?.remove(name).ok_or_else(|| RouteError::Unknown(name.clone()))?;
        Ok(view(name.clone(), spec, revision))
    }

    /// The table that had this revision, for explanations of older messages.
    pub(crate) async fn table(
        &self,
        hub: &Hub,
        revision: u32,
    ) -> Result<Option<Arc<RouteTable>>, weir_store::Error> {
        let document = hub.store().document(TABLE, &format!("{revision:010}")).await?;
        Ok(document
            .and_then(|document| serde_json::from_str(&document.body).ok())
            .and_then(|specs| compile(&specs).ok())
            .map(Arc::new))
    }
}

/// The writes of a new table; gives its number.
fn write_table(hub: &Hub, specs: &RouteSpecs, writes: &mut Vec<Write>) -> u32 {
    let revision = hub.routing().revision + 1;
    let mut write = |revision: u32, body| {
        let key = format!("{revision:010}");
        writes.push(Write { kind: TABLE, key, body, expect: Expect::Any });
    };
    write(revision, Some(serde_json::to_string(specs).expect("routes have text keys")));
    let kept = u32::try_from(limits::ROUTE_TABLES).unwrap_or(u32::MAX);
    if let Some(old) = revision.checked_sub(kept) {
        write(old, None);
    }
    revision
}

fn view(name: RouteName, spec: RouteSpec, revision: u64) -> RouteView {
    let sink = Route::parse(&spec.route).map(|route| route.sink().to_string()).unwrap_or_default();
    RouteView { name, spec, sink, revision }
}

async fn stored(hub: &Hub) -> Result<Specs, weir_store::Error> {
    let documents = hub.store().documents(ROUTE, "", None, limits::ROUTES).await?;
    Ok(documents
        .into_iter()
        .filter_map(|document| {
            let name = document.key.parse().ok()?;
            Some((name, (serde_json::from_str(&document.body).ok()?, document.revision)))
        })
        .collect())
}

/// Compiles routes as a manifest's routes are compiled.
///
/// # Errors
/// The first route that cannot be used.
pub fn compile(specs: &BTreeMap<RouteName, RouteSpec>) -> Result<RouteTable, RouteError> {
    if specs.len() > limits::ROUTES {
        return Err(RouteError::TooMany);
    }
    let mut named = Vec::with_capacity(specs.len());
    for (name, spec) in specs {
        named.push(named_route(name, spec)?);
    }
    RouteTable::build(named, CompileOptions::default()).map_err(|error| table_error(error, specs))
}

fn named_route(name: &RouteName, spec: &RouteSpec) -> Result<NamedRoute, RouteError> {
    let syntax = |cause| RouteError::Syntax {
        name: name.to_string(),
        cause: Box::new(cause),
        text: spec.route.clone(),
    };
    let route = Route::parse(&spec.route).map_err(syntax)?;
    let priority = match spec.priority {
        None => Priority::DEFAULT,
        Some(number) => Priority::new(number)
            .ok_or_else(|| RouteError::Priority { name: name.to_string(), priority: number })?,
    };
    let time_to_live = spec.time_to_live_secs.filter(|secs| *secs > 0).map(Duration::from_secs);
    Ok(NamedRoute { name: name.to_string(), route, priority, time_to_live })
}

fn table_error(error: TableError, specs: &BTreeMap<RouteName, RouteSpec>) -> RouteError {
    use weir_core::route::RouteError as Cause;
    for (name, cause) in error.errors {
        if let Cause::Text(cause) = cause {
            let text = specs.iter().find(|(known, _)| known.as_str() == name);
            let text = text.map(|(_, spec)| spec.route.clone()).unwrap_or_default();
            return RouteError::Syntax { name, cause: Box::new(cause), text };
        }
    }
    RouteError::TooMany
}

/// What a route asks of a Wasm module that the module does not declare.
fn undeclared(route: &Route, module: &ModuleId, spec: &ModuleSpec) -> Option<String> {
    if let Sink::ModuleInput { module: to, input } = route.sink()
        && to == module.as_str()
        && spec.input_index(input).is_none()
    {
        return Some(format!(
            "module {module} has no input {input}; it has {}",
            names(&spec.inputs)
        ));
    }
    // A source is compared without regard to case; `outputs/*` names no output.
    let path: Vec<&str> = route.source().path().split('/').collect();
    let same = |left: &str, right: &str| left.eq_ignore_ascii_case(right);
    if let ["", messages, modules, from, outputs, output] = path[..]
        && same(messages, "messages")
        && same(modules, "modules")
        && same(outputs, "outputs")
        && same(from, module.as_str())
        && spec.outputs.iter().all(|declared| !same(declared.as_str(), output))
    {
        return Some(format!(
            "module {module} has no output {output}; it has {}",
            names(&spec.outputs)
        ));
    }
    None
}

fn names<T: std::fmt::Display>(names: &[T]) -> String {
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

//! `weir check`: configuration and routes, without a hub.

use super::Error;
use super::routes_file::{self, RoutesFile};
use crate::config::{Environment, Loaded, Sources};
use crate::output::Console;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use weir_core::route::hub_config::{FaultKind, HubConfig};
use weir_core::route::{CompileOptions, NamedRoute, Priority, Route, RouteError, RouteTable};

/// Arguments of `weir check`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true)))]
#[command(before_help = "\
Examples:
  weir check --config weir.toml                effective values, each with its origin
  weir check \"FROM /messages/* WHERE temperature > '25' INTO \\$upstream\"
  weir check --routes routes.txt               lines of 'name: FROM ... INTO ...'
  weir check --routes deployment.json          an IoT Edge manifest, or {\"name\": \"FROM ...\"}")]
pub struct CheckArgs {
    /// Check a configuration file; shows every value with its origin
    #[arg(long, value_name = "FILE", group = "what")]
    config: Option<PathBuf>,
    /// Check a file with routes
    #[arg(long, value_name = "FILE", group = "what")]
    routes: Option<PathBuf>,
    /// Check one route
    #[arg(value_name = "ROUTE-TEXT", group = "what")]
    route: Option<String>,
}

impl CheckArgs {
    pub(super) fn run(
        self,
        environment: &Environment,
        console: &mut Console<'_>,
    ) -> Result<(), Error> {
        match self {
            Self { config: Some(file), .. } => config(&file, environment, console),
            Self { routes: Some(file), .. } => {
                Findings::of_file(routes_file::read(&file)?).show(console)
            }
            Self { route: Some(text), .. } => Findings::of_route(&text).show(console),
            Self { .. } => Err(Error::Usage("name a file or a route".to_owned())),
        }
    }
}

fn config(file: &Path, environment: &Environment, console: &mut Console<'_>) -> Result<(), Error> {
    let loaded = Loaded::from(Sources { file: Some(file), environment, data_dir: None })?;
    loaded.look_around()?;
    if console.wants_json() {
        return Ok(console.json(&json!({
            "settings": loaded.settings(), "notices": loaded.notices,
        }))?);
    }
    let rows: Vec<Vec<String>> = loaded
        .settings()
        .into_iter()
        .map(|setting| vec![setting.key, setting.value, setting.origin])
        .collect();
    console.table(&["KEY", "VALUE", "ORIGIN"], &rows)?;
    for notice in &loaded.notices {
        console.note(&format!("note: {notice}"))?;
    }
    Ok(console.note(&format!("{} is fine", file.display()))?)
}

/// What is wrong, and what is likely not meant, by the name of the route.
#[derive(Debug, Default)]
struct Findings {
    routes: usize,
    faults: Vec<(String, String)>,
    warnings: Vec<(String, String)>,
}

impl Findings {
    fn of_route(text: &str) -> Self {
        let mut findings = Self::default();
        findings.table(vec![("route".to_owned(), text.to_owned())]);
        findings
    }

    fn of_file(file: RoutesFile) -> Self {
        let mut findings = Self::default();
        match file {
            RoutesFile::Lines(routes) => findings.table(routes),
            RoutesFile::Json(json) => findings.json(&json),
        }
        findings
    }

    /// A deployment's desired properties of `$edgeHub`, or routes by name.
    fn json(&mut self, json: &Value) {
        let own;
        let desired = if json.get("schemaVersion").is_some() {
            json
        } else {
            own = json!({
                "schemaVersion": "1.1", "routes": json,
                "storeAndForwardConfiguration": {"timeToLiveSecs": 0},
            });
            &own
        };
        self.routes = desired.get("routes").and_then(Value::as_object).map_or(0, Map::len);
        match HubConfig::parse(desired) {
            Ok(config) => {
                let warnings = config.warnings.into_iter();
                self.warnings.extend(warnings.map(|warning| (warning.pointer, warning.message)));
            }
            Err(error) => {
                for fault in error.faults {
                    let text = match &fault.kind {
                        FaultKind::Route(error) => error.caret(),
                        other => other.to_string(),
                    };
                    self.faults.push((fault.pointer, text));
                }
            }
        }
    }

    fn table(&mut self, routes: Vec<(String, String)>) {
        self.routes = routes.len();
        let mut named = Vec::new();
        for (name, text) in routes {
            match Route::parse(&text) {
                Ok(route) => {
                    let warnings = route.warnings().into_iter().map(|warning| {
                        (name.clone(), format!("{} at column {}", warning.message, warning.column))
                    });
                    self.warnings.extend(warnings);
                    let priority = Priority::DEFAULT;
                    named.push(NamedRoute { name, route, priority, time_to_live: None });
                }
                Err(error) => self.faults.push((name, error.caret())),
            }
        }
        if let Err(refused) = RouteTable::build(named, CompileOptions::MANIFEST) {
            for (name, error) in refused.errors {
                let text = match &error {
                    RouteError::Text(error) => error.caret(),
                    RouteError::DuplicateName | RouteError::TooMany => error.to_string(),
                };
                self.faults.push((name, text));
            }
        }
    }

    fn show(self, console: &mut Console<'_>) -> Result<(), Error> {
        if console.wants_json() {
            let named = |found: &[(String, String)]| -> Vec<Value> {
                found.iter().map(|(at, text)| json!({"at": at, "message": text})).collect()
            };
            let json = json!({
                "routes": self.routes, "errors": named(&self.faults),
                "warnings": named(&self.warnings),
            });
            console.json(&json)?;
        } else {
            for (at, text) in &self.faults {
                console.line(&format!("{at}:"))?;
                console.block(text)?;
            }
            for (at, text) in &self.warnings {
                console.line(&format!("{at}: warning: {text}"))?;
            }
            if self.faults.is_empty() {
                let routes = if self.routes == 1 { "route is" } else { "routes are" };
                console.line(&format!("{} {routes} fine", self.routes))?;
            }
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Error::No) }
    }
}

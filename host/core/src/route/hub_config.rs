//! Desired properties of `$edgeHub`: routes, time to live and store limit of a deployment.
//!
//! One fault refuses the whole document, so that the last good set stays in force; every fault is
//! listed. Called for a deployment manifest and for a twin update.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::ParseError;
use super::priority::Priority;
use super::program::CompileOptions;
use super::statement::Route;
use super::table::{NamedRoute, RouteError, RouteTable};

/// What `$edgeHub` is to do.
#[derive(Debug)]
pub struct HubConfig {
    pub schema_version: SchemaVersion,
    /// The routes, checked and compiled.
    pub table: RouteTable,
    /// For messages whose route sets none.
    pub time_to_live: TimeToLive,
    /// `storeLimits.maxSizeBytes`.
    pub max_size_bytes: Option<u64>,
    /// Accepted, but likely not meant.
    pub warnings: Vec<ConfigWarning>,
}

/// `storeAndForwardConfiguration.timeToLiveSecs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeToLive {
    /// A negative number.
    Forever,
    /// Zero when the document names none, as in IoT Edge.
    Limited(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SchemaVersion {
    pub major: u32,
    pub minor: u32,
}

impl SchemaVersion {
    const MAJOR: u32 = 1;
    /// The highest that IoT Edge wrote; a higher one is read with a warning.
    const LAST_MINOR: u32 = 3;

    /// Two to four numbers with dots between them, as in the original: `1.1`, `1.1.0`.
    fn parse(text: &str) -> Option<Self> {
        let numbers: Option<Vec<u32>> = text.trim().split('.').map(|n| n.parse().ok()).collect();
        match numbers?.as_slice() {
            [major, minor] | [major, minor, _] | [major, minor, _, _] => {
                Some(Self { major: *major, minor: *minor })
            }
            _ => None,
        }
    }

    /// Since 1.1 a route may be an object with priority and time to live.
    fn has_route_objects(self) -> bool {
        self.minor >= 1
    }
}

/// A likely mistake at a place of the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigWarning {
    pub pointer: String,
    pub message: String,
}

/// The document was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the desired properties of $edgeHub have {} faults", faults.len())]
pub struct ConfigError {
    pub faults: Vec<ConfigFault>,
}

/// One fault, by JSON pointer.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigFault {
    pub pointer: String,
    pub kind: FaultKind,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FaultKind {
    #[error("schemaVersion is missing")]
    NoSchemaVersion,
    #[error("schemaVersion {0} is not supported, expected 1.0 to 1.3")]
    SchemaVersion(String),
    #[error("expected {expected}, found {found}")]
    WrongType { expected: &'static str, found: &'static str },
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("the name of a route is empty")]
    EmptyRouteName,
    #[error("the route is empty")]
    EmptyRoute,
    #[error("priority {0} is not in the range 0 to 9")]
    Priority(u64),
    #[error(transparent)]
    Route(ParseError),
    #[error(transparent)]
    Table(RouteError),
}

impl HubConfig {
    /// Read and check the desired properties of `$edgeHub`. Unknown keys are skipped, as in IoT Edge.
    ///
    /// # Errors
    /// Every fault of the document.
    pub fn parse(desired: &Value) -> Result<Self, ConfigError> {
        let mut reader = Reader::default();
        let config = reader.document(desired);
        match config {
            Some(config) if reader.faults.is_empty() => Ok(config),
            _ => Err(ConfigError { faults: reader.faults }),
        }
    }
}

#[derive(Default)]
struct Reader {
    faults: Vec<ConfigFault>,
    warnings: Vec<ConfigWarning>,
}

impl Reader {
    fn document(&mut self, desired: &Value) -> Option<HubConfig> {
        let document = self.object(desired, "")?;
        // The version decides how the rest is read.
        let schema_version = self.schema_version(document)?;
        let routes = self.routes(document, schema_version);
        let (time_to_live, max_size_bytes) = self.store_and_forward(document);
        let names: Vec<(String, bool)> =
            routes.iter().map(|(named, as_object)| (named.name.clone(), *as_object)).collect();
        let table =
            RouteTable::build(routes.into_iter().map(|(named, _)| named), CompileOptions::MANIFEST);
        let table = match table {
            Ok(table) => table,
            Err(refused) => {
                for (name, error) in refused.errors {
                    let as_object = names.iter().any(|(n, as_object)| *n == name && *as_object);
                    let kind = match error {
                        RouteError::Text(error) => FaultKind::Route(error),
                        RouteError::DuplicateName | RouteError::TooMany => FaultKind::Table(error),
                    };
                    self.fault(route_pointer(&name, as_object), kind);
                }
                return None;
            }
        };
        let warnings = std::mem::take(&mut self.warnings);
        Some(HubConfig { schema_version, table, time_to_live, max_size_bytes, warnings })
    }

    fn schema_version(&mut self, document: &Map<String, Value>) -> Option<SchemaVersion> {
        const POINTER: &str = "/schemaVersion";
        let Some(value) = document.get("schemaVersion") else {
            self.fault(POINTER.to_owned(), FaultKind::NoSchemaVersion);
            return None;
        };
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match SchemaVersion::parse(&text) {
            Some(version) if version.major == SchemaVersion::MAJOR => {
                if version.minor > SchemaVersion::LAST_MINOR {
                    self.warnings.push(ConfigWarning {
                        pointer: POINTER.to_owned(),
                        message: format!("schemaVersion {text} is newer than 1.3, read as 1.3"),
                    });
                }
                Some(version)
            }
            _ => {
                self.fault(POINTER.to_owned(), FaultKind::SchemaVersion(text));
                None
            }
        }
    }

    /// Routes, each with whether it was written as an object.
    fn routes(
        &mut self,
        document: &Map<String, Value>,
        version: SchemaVersion,
    ) -> Vec<(NamedRoute, bool)> {
        let Some(routes) = document.get("routes") else {
            self.fault("/routes".to_owned(), FaultKind::Missing("routes"));
            return Vec::new();
        };
        let Some(routes) = self.object(routes, "/routes") else { return Vec::new() };
        let mut found = Vec::new();
        for (name, value) in routes {
            if name.trim().is_empty() {
                self.fault(route_pointer(name, false), FaultKind::EmptyRouteName);
                continue;
            }
            let route = if version.has_route_objects() {
                self.route(name, value)
            } else {
                self.route_1_0(name, value)
            };
            found.extend(route.map(|named| (named, value.is_object())));
        }
        found
    }

    /// In schema 1.0 a route is a text, and an empty one or null is skipped: that is how a layered
    /// deployment takes a route away.
    fn route_1_0(&mut self, name: &str, value: &Value) -> Option<NamedRoute> {
        match value {
            Value::Null => None,
            Value::String(text) if text.trim().is_empty() => None,
            Value::String(text) => self.text_route(name, text, false),
            other => {
                self.wrong_type(route_pointer(name, false), "a text", other);
                None
            }
        }
    }

    fn route(&mut self, name: &str, value: &Value) -> Option<NamedRoute> {
        let fields = match value {
            Value::String(text) => return self.text_route(name, text, false),
            Value::Object(fields) => fields,
            other => {
                self.wrong_type(route_pointer(name, false), "a text or an object", other);
                return None;
            }
        };
        let pointer = route_pointer(name, false);
        let priority = self.priority(fields.get("priority"), &format!("{pointer}/priority"));
        let ttl = fields.get("timeToLiveSecs");
        let ttl = self.unsigned(ttl, &format!("{pointer}/timeToLiveSecs"), u64::from(u32::MAX));
        let named = match fields.get("route") {
            Some(Value::String(text)) => self.text_route(name, text, true)?,
            Some(other) => {
                self.wrong_type(route_pointer(name, true), "a text", other);
                return None;
            }
            None => {
                self.fault(pointer, FaultKind::Missing("route"));
                return None;
            }
        };
        let time_to_live = ttl.filter(|seconds| *seconds > 0).map(Duration::from_secs);
        Some(NamedRoute { priority, time_to_live, ..named })
    }

    fn text_route(&mut self, name: &str, text: &str, in_object: bool) -> Option<NamedRoute> {
        let pointer = route_pointer(name, in_object);
        if text.trim().is_empty() {
            self.fault(pointer, FaultKind::EmptyRoute);
            return None;
        }
        match Route::parse(text) {
            Ok(route) => {
                let warnings = route.warnings().into_iter();
                self.warnings.extend(warnings.map(|warning| ConfigWarning {
                    pointer: pointer.clone(),
                    message: format!("{} at column {}", warning.message, warning.column),
                }));
                Some(NamedRoute {
                    name: name.to_owned(),
                    route,
                    priority: Priority::DEFAULT,
                    time_to_live: None,
                })
            }
            Err(error) => {
                self.fault(pointer, FaultKind::Route(error));
                None
            }
        }
    }

    fn priority(&mut self, value: Option<&Value>, pointer: &str) -> Priority {
        let Some(number) = self.unsigned(value, pointer, u64::MAX) else {
            return Priority::DEFAULT;
        };
        let priority = u32::try_from(number).ok().and_then(Priority::new);
        priority.unwrap_or_else(|| {
            self.fault(pointer.to_owned(), FaultKind::Priority(number));
            Priority::DEFAULT
        })
    }

    fn store_and_forward(&mut self, document: &Map<String, Value>) -> (TimeToLive, Option<u64>) {
        const POINTER: &str = "/storeAndForwardConfiguration";
        let nothing = (TimeToLive::Limited(Duration::ZERO), None);
        let Some(value) = document.get("storeAndForwardConfiguration") else {
            let missing = FaultKind::Missing("storeAndForwardConfiguration");
            self.fault(POINTER.to_owned(), missing);
            return nothing;
        };
        let Some(fields) = self.object(value, POINTER) else { return nothing };
        let time_to_live = match fields.get("timeToLiveSecs") {
            None => TimeToLive::Limited(Duration::ZERO),
            Some(value) => match value.as_i64().map(u64::try_from) {
                Some(Ok(seconds)) => TimeToLive::Limited(Duration::from_secs(seconds)),
                Some(Err(_)) => TimeToLive::Forever,
                None => {
                    self.wrong_type(format!("{POINTER}/timeToLiveSecs"), "a whole number", value);
                    TimeToLive::Forever
                }
            },
        };
        let limits = match fields.get("storeLimits") {
            None | Some(Value::Null) => None,
            Some(value) => self.object(value, &format!("{POINTER}/storeLimits")),
        };
        let max_size_bytes = limits.and_then(|limits| {
            let pointer = format!("{POINTER}/storeLimits/maxSizeBytes");
            self.unsigned(limits.get("maxSizeBytes"), &pointer, u64::MAX)
        });
        (time_to_live, max_size_bytes)
    }

    fn unsigned(&mut self, value: Option<&Value>, pointer: &str, most: u64) -> Option<u64> {
        let value = value.filter(|value| !value.is_null())?;
        match value.as_u64() {
            Some(number) if number <= most => Some(number),
            _ => {
                self.wrong_type(pointer.to_owned(), "a whole number from 0", value);
                None
            }
        }
    }

    fn object<'v>(&mut self, value: &'v Value, pointer: &str) -> Option<&'v Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.wrong_type(pointer.to_owned(), "an object", value);
        }
        object
    }

    fn wrong_type(&mut self, pointer: String, expected: &'static str, found: &Value) {
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "another number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.fault(pointer, FaultKind::WrongType { expected, found });
    }

    fn fault(&mut self, pointer: String, kind: FaultKind) {
        self.faults.push(ConfigFault { pointer, kind });
    }
}

fn route_pointer(name: &str, in_object: bool) -> String {
    let name = name.replace('~', "~0").replace('/', "~1");
    format!("/routes/{name}{}", if in_object { "/route" } else { "" })
}

//! The content of a deployment as it is written: `modulesContent` with the desired properties of
//! `$edgeAgent`, `$edgeHub` and the modules. Reads and checks; changes nothing.
//!
//! Two forms, mixed at will: `"properties.desired": {…}` says all desired properties of a twin,
//! `"properties.desired.a.b": …` one of them, as layered deployments do.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use weir_core::id::ModuleId;
use weir_core::twin::MAX_DEPTH;

const AGENT: &str = "$edgeAgent";
pub(super) const HUB: &str = "$edgeHub";
/// All desired properties; with a dot and a name behind it, one of them.
pub(super) const DESIRED: &str = "properties.desired";

/// Something that is wrong, at a place of the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong with it.
    pub message: String,
}

/// What is wanted of the desired properties of one twin.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Wanted {
    /// All of them; none: those that are there.
    pub(super) whole: Option<Map<String, Value>>,
    /// Single ones, put over these.
    pub(super) parts: Vec<(Vec<String>, Value)>,
}

/// A deployment's content that has passed the checks of form.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifest {
    pub(super) modules: BTreeMap<ModuleId, Wanted>,
    /// Docker modules that `$edgeAgent` is to run: they need identities.
    pub(super) containers: BTreeSet<ModuleId>,
    /// Wasm modules that it is to run: they have none.
    components: BTreeSet<ModuleId>,
}

impl Manifest {
    /// Reads `{"modulesContent": {…}}`. Members beside it are passed over.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn parse(content: &Value) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader::default();
        reader.content(content);
        match reader.faults.is_empty() {
            true => Ok(reader.manifest),
            false => Err(reader.faults),
        }
    }

    /// True for a module that is to be run as a Wasm module.
    pub(super) fn is_component(&self, name: &str) -> bool {
        self.components.iter().any(|component| component.as_str() == name)
    }
}

impl Wanted {
    /// The desired properties that come of `present`.
    pub(super) fn over(&self, present: &Map<String, Value>) -> Map<String, Value> {
        let mut target = self.whole.clone().unwrap_or_else(|| present.clone());
        for (path, value) in &self.parts {
            put(&mut target, path, value);
        }
        target
    }
}

/// Puts a value at a path; null removes it. What stands in the way and is no object is replaced.
fn put(target: &mut Map<String, Value>, path: &[String], value: &Value) {
    let [name, rest @ ..] = path else { return };
    if rest.is_empty() {
        match value {
            Value::Null => drop(target.remove(name)),
            value => drop(target.insert(name.clone(), value.clone())),
        }
        return;
    }
    let inner = target.entry(name).or_insert_with(|| Value::Object(Map::new()));
    if !inner.is_object() {
        *inner = Value::Object(Map::new());
    }
    if let Value::Object(inner) = inner {
        put(inner, rest, value);
    }
}

#[derive(Default)]
struct Reader {
    manifest: Manifest,
    faults: Vec<Fault>,
}

impl Reader {
    fn content(&mut self, content: &Value) {
        let Some(modules) = self.member(content, "", "modulesContent") else { return };
        let Some(modules) = self.object(modules, "/modulesContent") else { return };
        for (name, content) in modules {
            let pointer = below("/modulesContent", name);
            let id = match name.parse::<ModuleId>() {
                Ok(id) => id,
                Err(error) => {
                    self.fault(pointer, error.to_string());
                    continue;
                }
            };
            let Some(content) = self.object(content, &pointer) else { continue };
            let wanted = self.wanted(content, &pointer);
            if name == AGENT
                && let Some(whole) = &wanted.whole
            {
                self.agent(whole, &below(&pointer, DESIRED));
            }
            self.manifest.modules.insert(id, wanted);
        }
    }

    fn wanted(&mut self, content: &Map<String, Value>, pointer: &str) -> Wanted {
        let mut wanted = Wanted::default();
        for (key, value) in content {
            let place = below(pointer, key);
            if key == DESIRED {
                wanted.whole = self.object(value, &place).cloned();
            } else if let Some(path) = key.strip_prefix(DESIRED).and_then(|r| r.strip_prefix('.')) {
                let path: Vec<String> = path.split('.').map(str::to_owned).collect();
                if path.iter().any(String::is_empty) || path.len() > MAX_DEPTH {
                    self.fault(place, "this is no path of a property".to_owned());
                    continue;
                }
                wanted.parts.push((path, value.clone()));
            } else {
                let message = format!("expected {DESIRED} or {DESIRED}.<name>");
                self.fault(place, message);
            }
        }
        wanted
    }

    /// The desired properties of `$edgeAgent`, as far as their form goes.
    fn agent(&mut self, desired: &Map<String, Value>, pointer: &str) {
        match desired.get("schemaVersion").and_then(Value::as_str) {
            Some(version) if version == "1" || version.starts_with("1.") => {}
            Some(version) => {
                let message = format!("schemaVersion {version} is not supported, expected 1.x");
                self.fault(below(pointer, "schemaVersion"), message);
            }
            None => self.fault(below(pointer, "schemaVersion"), "a text is missing".to_owned()),
        }
        let whole = Value::Object(desired.clone());
        if let Some(runtime) = self.member(&whole, pointer, "runtime") {
            let place = below(pointer, "runtime");
            self.object(runtime, &place);
            if runtime.get("type").and_then(Value::as_str).is_none() {
                self.fault(below(&place, "type"), "a text is missing".to_owned());
            }
        }
        if let Some(system) = self.member(&whole, pointer, "systemModules") {
            let place = below(pointer, "systemModules");
            for name in ["edgeAgent", "edgeHub"] {
                if let Some(module) = self.member(system, &place, name) {
                    self.module(module, &below(&place, name));
                }
            }
        }
        let Some(modules) = desired.get("modules").filter(|modules| !modules.is_null()) else {
            return;
        };
        let place = below(pointer, "modules");
        let Some(modules) = self.object(modules, &place) else { return };
        for (name, module) in modules {
            let place = below(&place, name);
            match name.parse::<ModuleId>() {
                Ok(id) => match self.module(module, &place) {
                    Some("docker") => drop(self.manifest.containers.insert(id)),
                    Some(_) => drop(self.manifest.components.insert(id)),
                    None => {}
                },
                Err(error) => self.fault(place, error.to_string()),
            }
        }
    }

    /// One module; gives its type. What a value may be beyond its form is for those who run modules.
    fn module<'v>(&mut self, module: &'v Value, pointer: &str) -> Option<&'v str> {
        let fields = self.object(module, pointer)?;
        let kind = match fields.get("type").and_then(Value::as_str) {
            Some(kind @ ("docker" | "wasm")) => Some(kind),
            _ => {
                self.fault(below(pointer, "type"), "expected docker or wasm".to_owned());
                None
            }
        };
        self.one_of(fields, pointer, "status", &["running", "stopped"]);
        self.one_of(
            fields,
            pointer,
            "restartPolicy",
            &["never", "on-failure", "on-unhealthy", "always"],
        );
        self.one_of(fields, pointer, "imagePullPolicy", &["on-create", "never"]);
        if let Some(order) = fields.get("startupOrder")
            && order.as_u64().is_none_or(|order| order > u64::from(u32::MAX))
        {
            let message = format!("expected a whole number from 0 to {}", u32::MAX);
            self.fault(below(pointer, "startupOrder"), message);
        }
        if let Some(env) = fields.get("env") {
            let place = below(pointer, "env");
            for (name, value) in self.object(env, &place).into_iter().flatten() {
                let value = value.get("value");
                if value.is_none_or(|value| value.is_object() || value.is_array()) {
                    let message = "expected {\"value\": …}".to_owned();
                    self.fault(below(&place, name), message);
                }
            }
        }
        if kind == Some("docker")
            && let Some(settings) = self.member(module, pointer, "settings")
        {
            self.settings(settings, &below(pointer, "settings"));
        }
        kind
    }

    fn settings(&mut self, settings: &Value, pointer: &str) {
        let Some(fields) = self.object(settings, pointer) else { return };
        let image = fields.get("image").and_then(Value::as_str);
        if image.is_none_or(|image| image.trim().is_empty()) {
            self.fault(below(pointer, "image"), "the name of an image is missing".to_owned());
        }
        let place = below(pointer, "createOptions");
        match fields.get("createOptions") {
            None | Some(Value::Null | Value::Object(_)) => {}
            Some(Value::String(first)) => {
                // A text that is too long for a value of a twin goes on in createOptions01 and so on.
                let names = (1..100).map(|number| format!("createOptions{number:02}"));
                let chunks = names.map_while(|name| fields.get(&name)?.as_str());
                let text: String = std::iter::once(first.as_str()).chain(chunks).collect();
                let read = serde_json::from_str::<Map<String, Value>>(&text);
                if !text.trim().is_empty() && read.is_err() {
                    self.fault(place, "the text is no JSON object".to_owned());
                }
            }
            Some(_) => self.fault(place, "expected a text or an object".to_owned()),
        }
    }

    fn one_of(&mut self, fields: &Map<String, Value>, pointer: &str, name: &str, allowed: &[&str]) {
        let Some(value) = fields.get(name) else { return };
        if value.as_str().is_none_or(|value| !allowed.contains(&value)) {
            self.fault(below(pointer, name), format!("expected one of {}", allowed.join(", ")));
        }
    }

    fn member<'v>(&mut self, of: &'v Value, pointer: &str, name: &str) -> Option<&'v Value> {
        let found = of.get(name);
        if found.is_none() {
            self.fault(below(pointer, name), "it is missing".to_owned());
        }
        found
    }

    fn object<'v>(&mut self, value: &'v Value, pointer: &str) -> Option<&'v Map<String, Value>> {
        let found = value.as_object();
        if found.is_none() {
            self.fault(pointer.to_owned(), "expected an object".to_owned());
        }
        found
    }

    fn fault(&mut self, pointer: String, message: String) {
        self.faults.push(Fault { pointer, message });
    }
}

/// The pointer to a member.
pub(super) fn below(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn agent(desired: Value) -> Value {
        json!({"modulesContent": {"$edgeAgent": {"properties.desired": desired}}})
    }

    fn good() -> Value {
        json!({
            "schemaVersion": "1.1",
            "runtime": {"type": "docker", "settings": {"minDockerVersion": "v1.25"}},
            "systemModules": {
                "edgeAgent": {"type": "docker", "settings": {"image": "agent", "createOptions": ""}},
                "edgeHub": {"type": "docker", "status": "running", "restartPolicy": "always",
                            "settings": {"image": "hub", "createOptions": "{\"Env\":[]}"}},
            },
            "modules": {
                "m": {"type": "docker", "version": "1.0", "status": "running", "startupOrder": 1,
                      "restartPolicy": "on-failure", "imagePullPolicy": "on-create",
                      "env": {"A": {"value": "x"}, "B": {"value": 1}},
                      "settings": {"image": "i", "createOptions": "{\"A\":", "createOptions01": "1}"}},
                "w": {"type": "wasm", "component": "sha256:0"},
            },
        })
    }

    #[test]
    fn a_manifest_of_iot_edge_is_read_and_its_containers_are_known() {
        let manifest = Manifest::parse(&agent(good())).unwrap();
        let containers: Vec<String> = manifest.containers.iter().map(ToString::to_string).collect();
        assert_eq!(containers, ["m"]);
        let empty = Manifest::parse(&json!({"modulesContent": {}, "deviceContent": 1})).unwrap();
        assert_eq!(empty, Manifest::default());
    }

    #[test]
    fn every_fault_of_form_is_named_with_its_place() {
        let with = |pointer: &str, value: Value| {
            let mut desired = good();
            *desired.pointer_mut(pointer).unwrap() = value;
            agent(desired)
        };
        let place = "/modulesContent/$edgeAgent/properties.desired";
        for (content, pointer) in [
            (json!({}), "/modulesContent".to_owned()),
            (json!([]), "/modulesContent".to_owned()),
            (json!({"modulesContent": []}), "/modulesContent".to_owned()),
            (json!({"modulesContent": {"a/b": {}}}), "/modulesContent/a~1b".to_owned()),
            (json!({"modulesContent": {"m": 1}}), "/modulesContent/m".to_owned()),
            (
                json!({"modulesContent": {"m": {"properties.reported": {}}}}),
                "/modulesContent/m/properties.reported".to_owned(),
            ),
            (
                json!({"modulesContent": {"m": {"properties.desired": []}}}),
                "/modulesContent/m/properties.desired".to_owned(),
            ),
            (
                json!({"modulesContent": {"m": {"properties.desired.": 1}}}),
                "/modulesContent/m/properties.desired.".to_owned(),
            ),
            (with("/schemaVersion", json!("2.0")), format!("{place}/schemaVersion")),
            (with("/runtime", json!({})), format!("{place}/runtime/type")),
            (
                with("/systemModules", json!({"edgeAgent": 1})),
                format!("{place}/systemModules/edgeAgent"),
            ),
            (with("/modules/m/type", json!("vm")), format!("{place}/modules/m/type")),
            (with("/modules/m/status", json!("on")), format!("{place}/modules/m/status")),
            (
                with("/modules/m/restartPolicy", json!(1)),
                format!("{place}/modules/m/restartPolicy"),
            ),
            (with("/modules/m/startupOrder", json!(-1)), format!("{place}/modules/m/startupOrder")),
            (with("/modules/m/env", json!({"A": "x"})), format!("{place}/modules/m/env/A")),
            (
                with("/modules/m/settings/image", json!("")),
                format!("{place}/modules/m/settings/image"),
            ),
            (
                with("/modules/m/settings/createOptions01", json!("")),
                format!("{place}/modules/m/settings/createOptions"),
            ),
        ] {
            let faults = Manifest::parse(&content).unwrap_err();
            assert_eq!(faults[0].pointer, pointer, "{faults:?}");
        }
        let many = json!({"modulesContent": {"a": 1, "b": 2}});
        assert_eq!(Manifest::parse(&many).unwrap_err().len(), 2);
    }

    #[test]
    fn single_properties_are_put_over_what_is_there() {
        let content = json!({"modulesContent": {"m": {
            "properties.desired.a.b": {"x": 1}, "properties.desired.c": 2, "properties.desired.d": null,
        }}});
        let manifest = Manifest::parse(&content).unwrap();
        let wanted = &manifest.modules[&"m".parse().unwrap()];
        let present = json!({"a": {"b": {"y": 1}, "k": 1}, "c": {"z": 1}, "d": 1, "e": 5});
        let target = wanted.over(present.as_object().unwrap());
        let expected = json!({"a": {"b": {"x": 1}, "k": 1}, "c": 2, "e": 5});
        assert_eq!(Value::Object(target), expected);
        let whole = Wanted { whole: Some(Map::new()), ..wanted.clone() };
        let target = whole.over(present.as_object().unwrap());
        assert_eq!(Value::Object(target), json!({"a": {"b": {"x": 1}}, "c": 2}));
    }
}

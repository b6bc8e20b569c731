//! Layers of a configuration: defaults, then the file, then the environment, then options of the
//! command. What does not fit is shown at its place.

use super::diagnostic::{Error, Origin, Refusal};
use super::environment::Environment;
use super::{Config, EdgeCa, FileConfig, MqttConfig, rules, spans};
use figment::error::Kind;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use miette::NamedSource;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use weir_core::route::closest;

/// Name of the layer of defaults.
pub(super) const DEFAULT: &str = "default";
/// Name of the layer of the file.
pub(super) const FILE: &str = "file";

/// Where a configuration comes from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The file; without one everything has its default.
    pub file: Option<&'a Path>,
    /// Variables such as `WEIR_DATA_DIR` and `WEIR_LISTEN__MQTT`.
    pub environment: &'a Environment,
    /// `--data-dir`, which wins over all.
    pub data_dir: Option<&'a Path>,
}

/// A configuration that was accepted.
#[derive(Debug)]
pub struct Loaded {
    /// The effective values.
    pub config: Config,
    /// What the operator should know: keys that this version accepts and does not use.
    pub notices: Vec<String>,
    pub(super) layers: Layers,
}

impl Loaded {
    /// Reads all sources and checks the whole.
    ///
    /// # Errors
    /// Everything that is refused, each with its place.
    pub fn from(sources: Sources<'_>) -> Result<Self, Error> {
        let layers = Layers::read(sources)?;
        let mut config = layers.extract()?;
        let base = sources.file.and_then(Path::parent).unwrap_or(Path::new(""));
        resolve_paths(&mut config, base);
        if let Some(data_dir) = sources.data_dir {
            config.data_dir = data_dir.to_owned();
        }
        Ok(Self { notices: rules::notices(&config), config, layers })
    }

    /// Looks at what the configuration leads to: files that it names and settings of the upstream.
    /// Opens no connection and writes nothing.
    ///
    /// # Errors
    /// Everything that is refused, each with its place.
    pub fn look_around(&self) -> Result<(), Error> {
        let found = rules::look_around(&self.config);
        let refusals = found.into_iter().map(|broken| self.layers.refuse(broken));
        none_of(refusals.collect())
    }
}

fn none_of(refusals: Vec<Refusal>) -> Result<(), Error> {
    if refusals.is_empty() { Ok(()) } else { Err(Error::Refused(refusals)) }
}

fn resolve_paths(config: &mut Config, base: &Path) {
    config.data_dir = base.join(&config.data_dir);
    config.upstream.resolve_paths(base);
    let EdgeCa { certificate, key, trust_bundle } = &mut config.edge_ca;
    for file in [certificate, key, trust_bundle].into_iter().flatten() {
        *file = base.join(&*file);
    }
    for file in &mut config.security.device_ca_files {
        *file = base.join(&*file);
    }
}

/// The layers, and the file's text to point into.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    layers: Vec<Layer>,
    pub(super) figment: Figment,
    pub(super) file: Option<(PathBuf, String)>,
    pub(super) data_dir_given: bool,
}

impl Layers {
    fn read(sources: Sources<'_>) -> Result<Self, Error> {
        let default = Value::serialize(Config::default()).expect("defaults can be written");
        let default = default.into_dict().expect("the configuration is a table");
        let mut layers = vec![Layer { name: DEFAULT.to_owned(), dict: default.clone() }];
        let mut file = None;
        if let Some(path) = sources.file {
            let text = fs::read_to_string(path)
                .map_err(|cause| Error::Unreadable { path: path.to_owned(), cause })?;
            let dict = toml::from_str(&text).map_err(|error| unreadable(path, &text, &error))?;
            layers.push(Layer { name: FILE.to_owned(), dict });
            file = Some((path.to_owned(), text));
        }
        layers.extend(sources.environment.settings(&default));
        let figment = merged(&layers);
        Ok(Self { layers, figment, file, data_dir_given: sources.data_dir.is_some() })
    }

    /// The configuration, or all that is refused in it: what cannot be read counts as not written
    /// while the rest is looked at.
    fn extract(&self) -> Result<Config, Error> {
        let mut readable = self.clone();
        let (mut refusals, mut unread) = (Vec::new(), Vec::new());
        let config = loop {
            match readable.figment.extract::<Config>() {
                Ok(config) => break config,
                Err(error) => {
                    let (path, refusal) = readable.explain(error);
                    refusals.push(refusal);
                    if !readable.cut(&path) {
                        return Err(Error::Refused(refusals));
                    }
                    unread.push(path.join("."));
                }
            }
        };
        // A rule that asks for a second key says nothing sure when that one could not be read.
        let broken = rules::check(&config).into_iter();
        let sure = broken.filter(|broken| !unread.iter().any(|key| broken.depends_on(key)));
        refusals.extend(sure.map(|broken| self.refuse(broken)));
        refusals.sort_by_key(Refusal::place);
        none_of(refusals)?;
        Ok(config)
    }

    /// Takes a key out of all that was written; false when it stands nowhere.
    fn cut(&mut self, path: &[String]) -> bool {
        let written = self.layers.iter_mut().filter(|layer| layer.name != DEFAULT);
        let found = written.map(|layer| remove(&mut layer.dict, path)).filter(|found| *found);
        let found = found.count() > 0;
        self.figment = merged(&self.layers);
        found
    }

    /// The error of a deserializer in the words of the file, and the key that it is about.
    fn explain(&self, error: figment::Error) -> (Vec<String>, Refusal) {
        let error = self.inside_upstream(&error).unwrap_or(error);
        let origin = error.metadata.as_ref().map(|metadata| metadata.name.to_string());
        let origin = origin.or_else(|| self.origin(&error.path)).unwrap_or_else(|| FILE.to_owned());
        // An item of a list is named by its list.
        let named = error.path.iter().rev().find(|name| name.parse::<usize>().is_err());
        let key = named.map_or("", String::as_str);
        let (at_key, message, help) = match &error.kind {
            Kind::UnknownField(name, expected) => {
                (true, format!("unknown key {name}"), self.likely(&error.path, expected))
            }
            Kind::UnknownVariant(found, expected) => (
                false,
                format!("{key} cannot be {found:?}"),
                Some(match closest(found, expected.iter().copied()) {
                    Some(word) => format!("did you mean {word:?}?"),
                    None => format!("one of {}", expected.join(", ")),
                }),
            ),
            Kind::MissingField(name) => (true, format!("{name} is missing"), None),
            Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => (
                false,
                format!("{key} cannot be {found}"),
                Some(format!("expected {}", plain(expected))),
            ),
            Kind::Message(message) => (false, format!("{key}: {message}"), None),
            other => (false, format!("{key}: {other}"), None),
        };
        let label = if at_key { "here" } else { "this value" };
        let origin = self.place(&origin, &error.path, at_key);
        let refusal = Refusal { message, label: label.to_owned(), help, origin };
        let mut path = error.path;
        // Without one of its values a kind of upstream would be refused for what is missing then.
        if !matches!(error.kind, Kind::UnknownField(..))
            && path.first().is_some_and(|at| at == "upstream")
        {
            path.truncate(1);
        }
        (path, refusal)
    }

    /// A tagged table is read through a buffer that forgets places; reading the kind's own type
    /// again tells which key it was.
    fn inside_upstream(&self, error: &figment::Error) -> Option<figment::Error> {
        if error.path != ["upstream"] {
            return None;
        }
        let mut table = self.figment.find_value("upstream").ok()?.into_dict()?;
        let kind = table.remove("kind")?.into_string()?;
        if let ("none", Kind::UnknownField(name, _)) = (kind.as_str(), &error.kind) {
            return Some(error.clone().with_path(name));
        }
        let table = Value::from(table);
        let mut inner = match kind.as_str() {
            "file" => FileConfig::deserialize(&table).err()?,
            "mqtt" => MqttConfig::deserialize(&table).err()?,
            _ => return None,
        };
        inner.path.insert(0, "upstream".to_owned());
        inner.metadata = self.figment.find_metadata(&inner.path.join(".")).cloned();
        Some(inner)
    }

    /// The key that was meant: a similar one of the table, or the same one of another table.
    fn likely(&self, path: &[String], expected: &[&'static str]) -> Option<String> {
        let (name, table) = path.split_last()?;
        if expected.is_empty() {
            // The only table that can be without keys besides its tag.
            return Some(
                "without a kind there is no upstream: add kind = \"file\" or \"mqtt\"".to_owned(),
            );
        }
        if let Some(word) = closest(name, expected.iter().copied()) {
            return Some(format!("did you mean {word}?"));
        }
        let elsewhere = self
            .settings()
            .into_iter()
            .find(|setting| setting.rsplit('.').next() == Some(name) && *setting != path.join("."));
        if let Some(setting) = elsewhere {
            return Some(match setting.rsplit_once('.') {
                Some((table, key)) => format!("{key} belongs below [{table}]"),
                None => format!("{setting} stands above the first [table] of the file"),
            });
        }
        let place =
            if table.is_empty() { String::new() } else { format!(" of [{}]", table.join(".")) };
        Some(format!("the keys{place} are {}", expected.join(", ")))
    }

    /// Names of all keys that have a default, such as `listen.mqtt`.
    fn settings(&self) -> Vec<String> {
        super::show::keys(&Config::default())
    }

    /// The layer that a value comes from.
    pub(super) fn origin(&self, path: &[String]) -> Option<String> {
        self.figment.find_metadata(&path.join(".")).map(|metadata| metadata.name.to_string())
    }

    /// A rule that accepted values break.
    fn refuse(&self, broken: rules::Broken) -> Refusal {
        let mut path: Vec<String> = broken.key.split('.').map(str::to_owned).collect();
        // A key that nobody wrote is missing from its table.
        while path.len() > 1 && self.origin(&path).is_none() {
            path.pop();
        }
        let origin = self.origin(&path).unwrap_or_else(|| DEFAULT.to_owned());
        Refusal {
            message: broken.message,
            label: "this value".to_owned(),
            help: broken.help,
            origin: self.place(&origin, &path, false),
        }
    }

    fn place(&self, origin: &str, path: &[String], at_key: bool) -> Origin {
        match (origin, &self.file) {
            (DEFAULT, _) | (FILE, None) => Origin::Default,
            (FILE, Some((file, text))) => {
                let span = spans::locate(text, path)
                    .map_or(0..0, |place| if at_key { place.key } else { place.value });
                Origin::File { source: named(file, text), span }
            }
            (variable, _) => Origin::Variable(variable.to_owned()),
        }
    }
}

/// A type's expectation without Rust's names.
fn plain(expected: &str) -> &str {
    match expected {
        "u16" | "u32" | "u64" | "usize" => "a whole number",
        "a boolean" => "true or false",
        "struct Config" | "a map" => "a table",
        "path string" => "a path",
        other => other,
    }
}

fn named(file: &Path, text: &str) -> NamedSource<String> {
    NamedSource::new(file.display().to_string(), text.to_owned())
}

fn unreadable(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    Error::Refused(vec![Refusal {
        message: format!("this is not TOML: {}", error.message()),
        label: "here".to_owned(),
        help: None,
        origin: Origin::File { source: named(path, text), span: error.span().unwrap_or(0..0) },
    }])
}

fn merged(layers: &[Layer]) -> Figment {
    layers.iter().fold(Figment::new(), |all, layer| all.merge(layer.clone()))
}

/// Takes a key, or the list that an item stands in, out of a table.
fn remove(table: &mut Dict, path: &[String]) -> bool {
    let Some((key, below)) = path.split_first() else { return false };
    match table.get_mut(key) {
        Some(Value::Dict(_, inner)) if !below.is_empty() => remove(inner, below),
        Some(_) => table.remove(key).is_some(),
        None => false,
    }
}

/// The values of one source.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// [`DEFAULT`], [`FILE`], or the environment variable.
    pub(super) name: String,
    pub(super) dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

//! What a token allows: an area of the control plane and how far into it.
//!
//! Written `devices:read`, `modules:write`, `*:admin`. A level holds the ones below it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A part of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// Every part.
    All,
    /// What the hub is and where it listens.
    System,
    /// Figures for monitoring.
    Metrics,
    /// Tokens themselves.
    Tokens,
    /// Devices and the identities of their modules.
    Devices,
    /// Twins of devices and modules.
    Twins,
    /// Connection strings of service clients.
    Service,
    /// Who is connected.
    Clients,
    /// Calls of direct methods.
    Methods,
    /// Cloud-to-device messages.
    Commands,
    /// Wasm modules and their operations.
    Modules,
    /// Uploaded components.
    Artifacts,
    /// Routes.
    Routes,
    /// Queues and dead letters, without what is in the messages.
    Queues,
    /// What is in the messages.
    Messages,
    /// The link to the upstream.
    Upstream,
    /// What happens in the hub: who comes and goes, and who changes what.
    Events,
}

impl Area {
    /// Every area with its name.
    pub const NAMES: &'static [(Self, &'static str)] = &[
        (Self::All, "*"),
        (Self::System, "system"),
        (Self::Metrics, "metrics"),
        (Self::Tokens, "tokens"),
        (Self::Devices, "devices"),
        (Self::Twins, "twins"),
        (Self::Service, "service"),
        (Self::Clients, "clients"),
        (Self::Methods, "methods"),
        (Self::Commands, "commands"),
        (Self::Modules, "modules"),
        (Self::Artifacts, "artifacts"),
        (Self::Routes, "routes"),
        (Self::Queues, "queues"),
        (Self::Messages, "messages"),
        (Self::Upstream, "upstream"),
        (Self::Events, "events"),
    ];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(area, _)| *area == self).map_or("", |(_, name)| name)
    }
}

/// How far a token goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Look, but no secrets.
    Read,
    /// Change.
    Write,
    /// Secrets, and changes that give power to others.
    Admin,
}

impl Level {
    const NAMES: [(Self, &'static str); 3] =
        [(Self::Read, "read"), (Self::Write, "write"), (Self::Admin, "admin")];
}

/// An area and a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope {
    /// Where.
    pub area: Area,
    /// How far.
    pub level: Level,
}

/// A text that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no scope; write <area>:<read|write|admin>, for example devices:read or *:admin")]
pub struct ScopeError(String);

impl Scope {
    /// Everything.
    pub const ALL: Self = Self { area: Area::All, level: Level::Admin };

    /// True when who has this scope also has `other`.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        (self.area == Area::All || self.area == other.area) && self.level >= other.level
    }
}

impl FromStr for Scope {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let wrong = || ScopeError(text.chars().take(64).collect());
        let (area, level) = text.split_once(':').ok_or_else(wrong)?;
        let area = Area::NAMES.iter().find(|(_, name)| *name == area).ok_or_else(wrong)?.0;
        let level = Level::NAMES.iter().find(|(_, name)| *name == level).ok_or_else(wrong)?.0;
        Ok(Self { area, level })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = Level::NAMES.iter().find(|(level, _)| *level == self.level);
        write!(f, "{}:{}", self.area.name(), level.map_or("", |(_, name)| name))
    }
}

impl TryFrom<String> for Scope {
    type Error = ScopeError;
    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap()
    }

    #[test]
    fn a_scope_prints_as_it_was_parsed() {
        for (_, area) in Area::NAMES {
            for level in ["read", "write", "admin"] {
                let text = format!("{area}:{level}");
                assert_eq!(scope(&text).to_string(), text);
            }
        }
        for text in ["", "devices", "devices:", ":read", "devices:READ", "all:read", "a:b:c"] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_level_holds_the_ones_below_it_and_only_the_star_holds_other_areas() {
        assert!(scope("devices:admin").covers(scope("devices:read")));
        assert!(!scope("devices:read").covers(scope("devices:write")));
        assert!(!scope("devices:admin").covers(scope("routes:read")));
        assert!(scope("*:read").covers(scope("routes:read")));
        assert!(!scope("*:read").covers(scope("routes:write")));
        assert!(!scope("routes:admin").covers(scope("*:read")));
    }
}

//! `POST /devices/query`: the few forms of IoT Hub's query language that the SDKs and tools need.
//!
//! `SELECT * FROM devices` or `devices.modules`, with `WHERE` and comparisons for equality of
//! `deviceId`, `moduleId`, `status`, `connectionState` and `capabilities.iotEdge`, joined by `AND`.
//! Everything else is refused, and the text says what there is.

use super::identity::{self, Presence};
use super::json::Json;
use super::refusal::Refusal;
use super::twins;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use weir_core::id::Identity;
use weir_core::identity::Status;
use weir_core::limits;
use weir_hub::{Hub, TwinError};

/// What is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Body {
    query: String,
}

/// A page of twins, in order of ids.
pub(super) async fn query(
    State(hub): State<Hub>,
    headers: HeaderMap,
    Json(body): Json<Body>,
) -> Result<Response, Refusal> {
    let wanted = Wanted::parse(&body.query)?;
    let most = match headers.get("x-ms-max-item-count") {
        None => limits::QUERY_ITEMS,
        Some(text) => text
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .filter(|number| (1..=limits::PAGE_ITEMS).contains(number))
            .ok_or_else(|| Refusal::invalid("x-ms-max-item-count is a number from 1 to 1000"))?
            .min(limits::QUERY_ITEMS),
    };
    let after = headers.get("x-ms-continuation").map(position).transpose()?;
    let presence = Presence::of(&hub);
    let mut found = wanted.identities(&hub, &presence).await?;
    found.retain(|identity| after.as_ref().is_none_or(|after| identity > after));
    found.sort_unstable();
    let more = found.len() > most;
    found.truncate(most);
    let mut items = Vec::with_capacity(found.len());
    for identity in &found {
        match hub.twins().get(&hub, identity).await {
            Ok(twin) => items.push(twins::view(&hub, &presence, identity, &twin)),
            // It was deleted in this moment.
            Err(TwinError::Unknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut response = Json(items).into_response();
    let headers = response.headers_mut();
    headers.insert("x-ms-item-type", HeaderValue::from_static("Twin"));
    if more
        && let Some(last) = found.last()
        && let Ok(token) = URL_SAFE_NO_PAD.encode(last.to_string()).parse()
    {
        headers.insert("x-ms-continuation", token);
    }
    Ok(response)
}

/// The last identity of the page before.
fn position(token: &HeaderValue) -> Result<Identity, Refusal> {
    let text = URL_SAFE_NO_PAD.decode(token.as_bytes()).ok();
    let text = text.and_then(|text| String::from_utf8(text).ok());
    let identity = text.and_then(|text| match text.split_once('/') {
        Some((device, module)) => {
            Some(Identity::module(device.parse().ok()?, module.parse().ok()?))
        }
        None => Some(Identity::device(text.parse().ok()?)),
    });
    identity.ok_or_else(|| Refusal::invalid("x-ms-continuation is not from an earlier answer"))
}

/// A query that was understood.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    modules: bool,
    conditions: Vec<Condition>,
}

#[derive(Debug, PartialEq, Eq)]
enum Condition {
    Device(String),
    Module(String),
    Status(String),
    Connection(String),
    Edge(bool),
}

impl Wanted {
    async fn identities(&self, hub: &Hub, presence: &Presence) -> Result<Vec<Identity>, Refusal> {
        let mut found: Vec<Identity> = hub
            .identities()
            .select(|record| record.identity.module.is_some() == self.modules)
            .into_iter()
            .map(|found| found.record.identity.clone())
            .collect();
        if self.modules {
            let wasm = hub.modules().list(hub).await.map_err(|error| Refusal::fault(&error))?;
            let edge = hub.edge_device();
            found.extend(wasm.into_iter().map(|view| Identity::module(edge.clone(), view.name)));
        }
        found.retain(|identity| {
            self.conditions.iter().all(|condition| condition.holds(hub, presence, identity))
        });
        Ok(found)
    }

    fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() > limits::QUERY_BYTES {
            return Err(Refusal::invalid("the query is too long"));
        }
        let words = words(text)?;
        let mut rest = &words[..];
        let head = [Word::name("select"), Word::Star, Word::name("from")];
        let is_head = rest.len() > head.len() && rest.iter().zip(&head).all(|(a, b)| a.is(b));
        if !is_head {
            return Err(unsupported());
        }
        rest = &rest[head.len()..];
        let modules = match rest {
            [Word::Name(from), ..] if from.eq_ignore_ascii_case("devices") => false,
            [Word::Name(from), ..] if from.eq_ignore_ascii_case("devices.modules") => true,
            _ => return Err(unsupported()),
        };
        let mut conditions = Vec::new();
        let mut joint = "where";
        rest = &rest[1..];
        while let [word, Word::Name(name), Word::Equals, value, after @ ..] = rest {
            if !word.is(&Word::name(joint)) {
                return Err(unsupported());
            }
            conditions.push(Condition::read(name, value, modules)?);
            (joint, rest) = ("and", after);
        }
        match rest {
            [] => Ok(Self { modules, conditions }),
            _ => Err(unsupported()),
        }
    }
}

impl Condition {
    fn read(name: &str, value: &Word, modules: bool) -> Result<Self, Refusal> {
        let name = name.to_ascii_lowercase();
        let name = name.strip_prefix("devices.").unwrap_or(&name);
        match (name, value) {
            ("deviceid", Word::Text(text)) => Ok(Self::Device(text.clone())),
            ("moduleid", Word::Text(text)) if modules => Ok(Self::Module(text.clone())),
            ("status", Word::Text(text)) => Ok(Self::Status(text.clone())),
            ("connectionstate", Word::Text(text)) => Ok(Self::Connection(text.clone())),
            ("capabilities.iotedge", Word::Name(text)) if !modules => {
                text.to_ascii_lowercase().parse().map(Self::Edge).map_err(|_| unsupported())
            }
            _ => Err(unsupported()),
        }
    }

    fn holds(&self, hub: &Hub, presence: &Presence, identity: &Identity) -> bool {
        let record = || hub.identities().get(identity).map(|found| found.record);
        match self {
            Self::Device(id) => identity.device.as_str() == id,
            Self::Module(id) => identity.module.as_ref().is_some_and(|own| own.as_str() == id),
            Self::Status(wanted) => {
                let disabled = record().is_some_and(|found| found.status == Status::Disabled);
                wanted == if disabled { "disabled" } else { "enabled" }
            }
            Self::Connection(wanted) => presence.show(identity).0 == wanted,
            Self::Edge(wanted) => {
                record().is_some_and(|found| identity::is_edge_device(hub, &found) == *wanted)
            }
        }
    }
}

fn unsupported() -> Refusal {
    Refusal::invalid(
        "this query is not offered; there is SELECT * FROM devices and SELECT * FROM \
         devices.modules, with WHERE, AND and = of deviceId, moduleId, status, connectionState \
         and capabilities.iotEdge",
    )
}

#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// A keyword, or a name with its dots.
    Name(String),
    Text(String),
    Star,
    Equals,
}

impl Word {
    fn name(text: &str) -> Self {
        Self::Name(text.to_owned())
    }

    /// Keywords are compared without regard to case.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(own), Self::Name(other)) => own.eq_ignore_ascii_case(other),
            (own, other) => own == other,
        }
    }
}

fn words(text: &str) -> Result<Vec<Word>, Refusal> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '*' => (Word::Star, &rest[1..]),
            '=' => (Word::Equals, &rest[1..]),
            '\'' | '"' => {
                let inside = &rest[1..];
                let end = inside.find(first).ok_or_else(unsupported)?;
                (Word::Text(inside[..end].to_owned()), &inside[end + 1..])
            }
            first if is_name(first) => {
                let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                (Word::name(&rest[..end]), &rest[end..])
            }
            _ => return Err(unsupported()),
        };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '$')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offered_forms_are_read_in_any_case_and_spacing() {
        let device = |id: &str| Condition::Device(id.to_owned());
        for (text, modules, conditions) in [
            ("SELECT * FROM devices", false, vec![]),
            (" select*from Devices ", false, vec![]),
            ("SELECT * FROM devices.modules", true, vec![]),
            ("SELECT * FROM devices WHERE deviceId = 'd 1'", false, vec![device("d 1")]),
            ("select * from devices where devices.deviceId=\"d'1\"", false, vec![device("d'1")]),
            (
                "SELECT * FROM devices.modules WHERE deviceId='d' AND moduleId='m'",
                true,
                vec![device("d"), Condition::Module("m".into())],
            ),
            (
                "select * from devices where capabilities.iotEdge = true and status='enabled'",
                false,
                vec![Condition::Edge(true), Condition::Status("enabled".into())],
            ),
        ] {
            assert_eq!(Wanted::parse(text).unwrap(), Wanted { modules, conditions }, "{text}");
        }
    }

    #[test]
    fn every_other_query_is_refused_with_what_there_is() {
        let long = format!("SELECT * FROM devices WHERE deviceId = '{}'", "x".repeat(9000));
        for text in [
            "",
            "SELECT",
            "SELECT * FROM",
            "SELECT deviceId FROM devices",
            "SELECT * FROM devices.jobs",
            "SELECT * FROM devices WHERE",
            "SELECT * FROM devices WHERE deviceId",
            "SELECT * FROM devices WHERE deviceId =",
            "SELECT * FROM devices WHERE deviceId = d",
            "SELECT * FROM devices WHERE deviceId = 'd",
            "SELECT * FROM devices WHERE deviceId = 'd' OR deviceId = 'e'",
            "SELECT * FROM devices WHERE deviceId = 'd' AND",
            "SELECT * FROM devices WHERE moduleId = 'm'",
            "SELECT * FROM devices WHERE tags.site = 'a'",
            "SELECT * FROM devices WHERE deviceId > 'a'",
            "SELECT * FROM devices AND deviceId = 'd'",
            "SELECT * FROM devices; x",
            "SELECT * FROM devices é",
            &long,
        ] {
            let refused = Wanted::parse(text).unwrap_err();
            assert_eq!(refused.code, "ArgumentInvalid", "{text}");
        }
    }
}

//! Addresses to listen on, as people write them: `"127.0.0.1:8420"`, `"localhost:0"`, `"off"`.

use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serializer};
use std::net::SocketAddr;

const OFF: &str = "off";

pub(super) fn serialize<S: Serializer>(
    address: &Option<SocketAddr>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => serializer.collect_str(address),
        None => serializer.serialize_str(OFF),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == OFF {
        return Ok(None);
    }
    parse(&text, "address and port, such as \"0.0.0.0:8883\" or \"[::]:0\", or \"off\"").map(Some)
}

/// Of a listener that cannot be switched off.
pub(super) fn always<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text, "address and port, such as \"127.0.0.1:8420\" or \"[::1]:0\"")
}

fn parse<E: Error>(text: &str, expected: &'static str) -> Result<SocketAddr, E> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address = numeric.as_deref().unwrap_or(text).parse();
    address.map_err(|_| E::invalid_value(Unexpected::Str(text), &expected))
}

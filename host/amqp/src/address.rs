//! Addresses of links: what a link is for, and in whose name.
//!
//! As in IoT Edge, an address may come with or without a leading slash, or as a whole `amqps://host/…`;
//! fixed words in any case.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use weir_core::id::Identity;

/// What a link is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `$cbs`: tokens.
    Cbs,
    /// Telemetry of a device or module; for a link on which the hub sends, a module's inputs.
    Events(Identity),
    /// Cloud-to-device messages.
    Commands(Identity),
    /// Direct methods.
    Methods(Identity),
    /// The twin.
    Twin(Identity),
    /// Cloud-to-device messages of a service client.
    ServiceCommands,
    /// Feedback about them.
    ServiceFeedback,
}

impl Address {
    /// Reads an address; none when there is nothing at it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let path = match text.split_once("://") {
            Some((_, rest)) => rest.split_once('/')?.1,
            None => text,
        };
        let path = path.trim_start_matches('/');
        let parts: Vec<&str> = path.split('/').take(8).collect();
        let of = |names: &[&str]| identity(names);
        match parts[..] {
            [cbs] if is(cbs, "$cbs") => Some(Self::Cbs),
            [messages, kind] if is(messages, "messages") && is(kind, "devicebound") => {
                Some(Self::ServiceCommands)
            }
            [messages, bound, kind]
                if is(messages, "messages")
                    && is(bound, "servicebound")
                    && is(kind, "feedback") =>
            {
                Some(Self::ServiceFeedback)
            }
            [devices, device, ref rest @ ..] if is(devices, "devices") => match rest {
                [modules, module, rest @ ..] if is(modules, "modules") => {
                    Self::of_client(of(&[device, module])?, rest)
                }
                rest => Self::of_client(of(&[device])?, rest),
            },
            _ => None,
        }
    }

    fn of_client(identity: Identity, rest: &[&str]) -> Option<Self> {
        match rest {
            [twin] if is(twin, "twin") => Some(Self::Twin(identity)),
            [messages, kind] if is(messages, "messages") && is(kind, "events") => {
                Some(Self::Events(identity))
            }
            [messages, kind] if is(messages, "messages") && is(kind, "devicebound") => {
                Some(Self::Commands(identity))
            }
            [methods, kind] if is(methods, "methods") && is(kind, "devicebound") => {
                Some(Self::Methods(identity))
            }
            _ => None,
        }
    }
}

fn is(text: &str, word: &str) -> bool {
    text.eq_ignore_ascii_case(word)
}

fn identity(names: &[&str]) -> Option<Identity> {
    let device = decode(names.first()?)?.parse().ok()?;
    match names.get(1) {
        None => Some(Identity::device(device)),
        Some(module) => Some(Identity::module(device, decode(module)?.parse().ok()?)),
    }
}

fn decode(name: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(name).decode_utf8().ok()
}

/// Whom a SASL PLAIN user name means: `{device}[/modules/{module}]@[sas.]{hub}`, where the hub is the
/// first label of its host name. The password's token says which hub it is for.
pub(crate) fn sasl_identity(user: &str) -> Option<Identity> {
    // An id may have an `@` itself.
    let (name, hub) = user.rsplit_once('@')?;
    let hub = hub.strip_prefix("sas.").unwrap_or(hub);
    if hub.is_empty() {
        return None;
    }
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [device] => Some(Identity::device(device.parse().ok()?)),
        [device, modules, module] if is(modules, "modules") => {
            Some(Identity::module(device.parse().ok()?, module.parse().ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// From the unit tests of Azure IoT Edge (MIT).
    const CASES: &str = include_str!("../../../tests/golden/iotedge/amqp.json");

    fn cases(name: &str) -> Vec<Value> {
        let all: Value = serde_json::from_str(CASES).unwrap();
        all[name].as_array().unwrap().clone()
    }

    #[test]
    fn the_originals_addresses_are_read_as_there() {
        for case in cases("links") {
            let text = case["address"].as_str().unwrap();
            let found = Address::parse(text);
            let ids = |module: bool| {
                let device = case["ids"]["deviceid"].as_str().unwrap().parse().unwrap();
                match module {
                    true => {
                        let module = case["ids"]["moduleid"].as_str().unwrap().parse().unwrap();
                        Identity::module(device, module)
                    }
                    false => Identity::device(device),
                }
            };
            let expected = match case["kind"].as_str() {
                Some("Events") => Some(Address::Events(ids(false))),
                Some("MethodReceiving") => Some(Address::Methods(ids(true))),
                Some("TwinReceiving") => Some(Address::Twin(ids(true))),
                None => None,
                other => panic!("{other:?}"),
            };
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_the_sdks_write_is_read() {
        let device = || Identity::device("D".parse().unwrap());
        let module = || Identity::module("E".parse().unwrap(), "$edge@x".parse().unwrap());
        for (text, expected) in [
            ("$cbs", Some(Address::Cbs)),
            ("/$cbs", Some(Address::Cbs)),
            ("/devices/D/messages/devicebound", Some(Address::Commands(device()))),
            ("devices/D/messages/deviceBound", Some(Address::Commands(device()))),
            ("amqps://h/devices/D/twin", Some(Address::Twin(device()))),
            ("/devices/E/modules/%24edge%40x/twin", Some(Address::Twin(module()))),
            ("/messages/devicebound", Some(Address::ServiceCommands)),
            ("/messages/serviceBound/feedback", Some(Address::ServiceFeedback)),
            ("/devices/D/messages/events/more", None),
            ("/devices//twin", None),
            ("/devices/a#b/twin", None),
            ("amqps://h", None),
            ("", None),
        ] {
            assert_eq!(Address::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn sasl_names_are_read_as_in_the_original() {
        for case in cases("sasl_identities") {
            let text = case["identity"].as_str().unwrap();
            assert_eq!(sasl_identity(text).is_some(), case["valid"] == true, "{text}");
        }
        let module = Identity::module("E".parse().unwrap(), "M".parse().unwrap());
        assert_eq!(sasl_identity("E/modules/M@sas.hub"), Some(module.clone()));
        assert_eq!(sasl_identity("E/modules/M@hub"), Some(module));
        assert_eq!(sasl_identity("d@x@sas.hub"), Some(Identity::device("d@x".parse().unwrap())));
        assert_eq!(sasl_identity("d@sas."), None);
        assert_eq!(sasl_identity("d/x/m@hub"), None);
    }
}

//! Properties of a message as headers of HTTP, as IoT Hub writes them.
//!
//! HTTP compares names without regard to case and hyper writes them in lower case, so the names of
//! application properties lose theirs; in the JSON of a batch they keep it.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use weir_core::properties::{Key, Properties, PropertiesBuilder, PropertiesError, SystemProperty};

const APPLICATION: &str = "iothub-app-";

const SYSTEM: &[(&str, SystemProperty)] = &[
    ("iothub-messageid", SystemProperty::MessageId),
    ("iothub-correlationid", SystemProperty::CorrelationId),
    ("iothub-userid", SystemProperty::UserId),
    ("iothub-to", SystemProperty::To),
    ("iothub-expiry", SystemProperty::ExpiryTime),
    ("iothub-contenttype", SystemProperty::ContentType),
    ("iothub-contentencoding", SystemProperty::ContentEncoding),
    ("iothub-interface-id", SystemProperty::InterfaceId),
    ("iothub-ack", SystemProperty::Ack),
];

/// What a header or the member of a batch names; none for one that is no property.
pub(super) fn key(name: &str) -> Option<Key<'_>> {
    if let Some((prefix, own)) = name.split_at_checked(APPLICATION.len())
        && prefix.eq_ignore_ascii_case(APPLICATION)
        && !own.is_empty()
    {
        return Some(Key::Application(own));
    }
    let known = SYSTEM.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    known.map(|(_, property)| Key::System(*property))
}

/// Why headers are no properties.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("the header {0} is not UTF-8")]
    Text(String),
    #[error(transparent)]
    Properties(#[from] PropertiesError),
}

pub(super) fn read(headers: &HeaderMap) -> Result<Properties, HeaderError> {
    let mut builder = PropertiesBuilder::default();
    for (name, value) in headers {
        let Some(key) = key(name.as_str()) else { continue };
        let value = std::str::from_utf8(value.as_bytes());
        let value = value.map_err(|_| HeaderError::Text(name.to_string()))?;
        builder.push(key, Some(value))?;
    }
    Ok(builder.build())
}

/// Writes what can be written: a name that HTTP does not allow has no header.
pub(super) fn write(properties: &Properties, headers: &mut HeaderMap) {
    for (key, value) in properties.iter() {
        let name = match key {
            Key::Application(own) => format!("{APPLICATION}{own}"),
            Key::System(property) => match SYSTEM.iter().find(|(_, known)| *known == property) {
                Some((name, _)) => (*name).to_owned(),
                None => continue,
            },
        };
        let value = HeaderValue::from_bytes(value.unwrap_or_default().as_bytes());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), value) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_become_properties_and_properties_headers() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("iothub-app-tag", "v 1+%"),
            ("IoTHub-MessageId", "m"),
            ("iothub-contenttype", "application/json"),
            ("authorization", "secret"),
            ("iothub-app-", "no name"),
            ("iothub-connection-device-id", "somebody else"),
        ] {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert("iothub-app-uni", HeaderValue::from_bytes("äß".as_bytes()).unwrap());
        let properties = read(&headers).unwrap();
        assert_eq!(properties.iter().count(), 4);
        assert_eq!(properties.application("tag"), Some(Some("v 1+%")));
        assert_eq!(properties.application("uni"), Some(Some("äß")));
        assert_eq!(properties.system(SystemProperty::MessageId), Some("m"));
        let mut written = HeaderMap::new();
        write(&properties, &mut written);
        assert_eq!(written.len(), 4);
        assert_eq!(read(&written).unwrap(), {
            let mut builder = PropertiesBuilder::default();
            properties.iter().for_each(|(key, value)| builder.push(key, value).unwrap());
            builder.build()
        });
    }

    #[test]
    fn what_http_cannot_carry_is_left_out() {
        let mut builder = PropertiesBuilder::default();
        builder.push(Key::Application("a b"), Some("x")).unwrap();
        builder.push(Key::Application("c"), Some("line\nbreak")).unwrap();
        builder.push(Key::Application("d"), None).unwrap();
        let mut headers = HeaderMap::new();
        write(&builder.build(), &mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["iothub-app-d"], "");
    }
}

//! The user name of an MQTT CONNECT: who a client says it is.
//!
//! `{host}/{device}[/{module}]/?api-version=…&DeviceClientType=…&model-id=…&auth-chain=…`, also
//! without the `?`. Called once for each connection, before anything is proven. The host is not
//! compared with anything: the token's audience is.

use crate::id::{DeviceId, IdError, Identity, ModuleId};
use percent_encoding::percent_decode_str;

/// An old client of one version separates its parameters by a slash; nothing else is taken like this.
const HISTORICAL: &str =
    "/api-version=2017-06-30/DeviceClientType=Microsoft.Azure.Devices.Client/1.5.1-preview-003";

/// What a user name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserName<'a> {
    /// The IoT hub's or the gateway's name, as the client knows it.
    pub host: &'a str,
    /// Who the client says it is.
    pub identity: Identity,
    /// Of IoT Hub's interface; any value is taken.
    pub api_version: String,
    /// `DeviceClientType`: SDK, version and platform.
    pub product: Option<String>,
    /// The digital twin model that the client follows.
    pub model: Option<String>,
    /// The hubs between the client and this one, of nested hubs.
    pub auth_chain: Option<String>,
}

/// A user name that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserNameError {
    /// Not host, device, perhaps module, and parameters.
    #[error("the user name is not of the form host/device[/module]/?api-version=…")]
    Form,
    /// `api-version` is missing or empty.
    #[error("the user name has no api-version")]
    ApiVersion,
    /// The device or module is no id.
    #[error("the user name does not name a device or module")]
    Id(#[source] IdError),
}

impl<'a> UserName<'a> {
    /// Reads a user name.
    ///
    /// # Errors
    /// [`UserNameError`]: the connection is to be refused.
    pub fn parse(text: &'a str) -> Result<Self, UserNameError> {
        let historical = text
            .len()
            .checked_sub(HISTORICAL.len())
            .and_then(|at| text.split_at_checked(at))
            .filter(|(_, end)| end.eq_ignore_ascii_case(HISTORICAL));
        if let Some((path, _)) = historical {
            let ids = Ids::of(path).filter(|ids| ids.module.is_some());
            let query = "api-version=2017-06-30&DeviceClientType=Microsoft.Azure.Devices.Client/1.5.1-preview-003";
            return ids.ok_or(UserNameError::Form)?.with(query);
        }
        let (path, last) = text.rsplit_once('/').ok_or(UserNameError::Form)?;
        // A `?` may stand in an id, so it separates only where it begins the last segment.
        let query = match last.strip_prefix('?') {
            Some(query) => query,
            None if last.contains("api-version=") => last,
            None => return Err(UserNameError::Form),
        };
        Ids::of(path).ok_or(UserNameError::Form)?.with(query.trim())
    }

    /// True when the client id is the identity's, byte for byte.
    #[must_use]
    pub fn allows_client_id(&self, client_id: &str) -> bool {
        let Identity { device, module } = &self.identity;
        match module {
            None => client_id == device.as_str(),
            Some(module) => client_id
                .strip_prefix(device.as_str())
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|rest| rest == module.as_str()),
        }
    }
}

/// The path of a user name, not checked yet.
struct Ids<'a> {
    host: &'a str,
    device: &'a str,
    module: Option<&'a str>,
}

impl<'a> Ids<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let mut segments = path.split('/');
        let (host, device) = (segments.next()?, segments.next()?.trim());
        let module = segments.next().map(str::trim);
        segments.next().is_none().then_some(Self { host, device, module })
    }

    fn with(self, query: &str) -> Result<UserName<'a>, UserNameError> {
        let device = self.device.parse::<DeviceId>().map_err(UserNameError::Id)?;
        let module = self.module.map(str::parse::<ModuleId>).transpose();
        let module = module.map_err(UserNameError::Id)?;
        let api_version = value(query, "api-version").ok_or(UserNameError::ApiVersion)?;
        Ok(UserName {
            host: self.host,
            identity: Identity { device, module },
            api_version,
            product: value(query, "DeviceClientType"),
            model: value(query, "model-id"),
            auth_chain: value(query, "auth-chain"),
        })
    }
}

/// The first value of a key, percent-decoded; none when it is missing or blank.
fn value(query: &str, key: &str) -> Option<String> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(name, _)| *name == key)?;
    let value = percent_decode_str(value).decode_utf8_lossy();
    (!value.trim().is_empty()).then(|| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> UserName<'_> {
        UserName::parse(text).unwrap()
    }

    #[test]
    fn the_user_names_of_the_sdks_are_read() {
        let python = name(
            "hub.azure-devices.net/E/M/?api-version=2019-10-01&DeviceClientType=azure-iot-device-iothub-py%2F2.14.0%20%28a%3Bb%29",
        );
        assert_eq!(python.host, "hub.azure-devices.net");
        assert_eq!(python.identity.to_string(), "E/M");
        assert_eq!(python.api_version, "2019-10-01");
        assert_eq!(python.product.as_deref(), Some("azure-iot-device-iothub-py/2.14.0 (a;b)"));
        let node = name(
            "hub/D/?api-version=2021-04-12&model-id=dtmi%3Acontoso%3Apump%3B1&DeviceClientType=x",
        );
        assert_eq!(node.identity.to_string(), "D");
        assert_eq!(node.model.as_deref(), Some("dtmi:contoso:pump;1"));
        let nested = name("hub/L/?api-version=2018-06-30&auth-chain=L%3Bedge1%3Bedge2");
        assert_eq!(nested.auth_chain.as_deref(), Some("L;edge1;edge2"));
    }

    #[test]
    fn of_repeated_parameters_the_first_counts() {
        let name = name("h/d/?api-version=1&api-version=2&model-id=&DeviceClientType=a+b&other");
        assert_eq!(name.api_version, "1");
        assert_eq!(name.model, None);
        assert_eq!(name.product.as_deref(), Some("a+b"));
    }

    #[test]
    fn a_question_mark_separates_only_at_the_last_segment() {
        assert_eq!(name("h/d?/api-version=1").identity.to_string(), "d?");
        assert_eq!(UserName::parse("h/d?api-version=1"), Err(UserNameError::Form));
    }

    #[test]
    fn ids_outside_the_alphabet_are_refused() {
        for text in [
            "h/d#/?api-version=1",
            "h//?api-version=1",
            "h/d//?api-version=1",
            "h/d/m+/?api-version=1",
        ] {
            assert!(matches!(UserName::parse(text), Err(UserNameError::Id(_))), "{text}");
        }
        for text in ["", "h", "h/?api-version=1", "h/d/m/x/?api-version=1", "h/d/m/?"] {
            let error = UserName::parse(text).unwrap_err();
            assert!(!matches!(error, UserNameError::Id(_)), "{text}: {error}");
        }
    }

    #[test]
    fn the_client_id_must_be_the_identity_byte_for_byte() {
        let module = name("h/E/M/?api-version=1");
        assert!(module.allows_client_id("E/M"));
        for other in ["E", "E/", "E/m", "e/M", "E/M/", "E/MM", "M", ""] {
            assert!(!module.allows_client_id(other), "{other}");
        }
        let device = name("h/E/?api-version=1");
        assert!(device.allows_client_id("E"));
        assert!(!device.allows_client_id("E/M"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_but_never_panics(text in "[a-z/é?=&%]{0,30}", tail in prop::bool::ANY) {
            let text = if tail { format!("{text}{HISTORICAL}") } else { text };
            if let Ok(name) = UserName::parse(&text) {
                prop_assert!(name.allows_client_id(&name.identity.to_string()));
            }
        }
    }
}
